"""A value that is fetched once for all who ask for it: from the cache, or by this caller for all.

A hit is returned. Where nobody has the value, one caller fetches it and the others wait for it; if
that raises, this caller gets the exception as it is and those that wait get FillFailedError with
the name of its type: a text may hold what is no business of theirs, so that it is told only where
`tell_errors` says so. Where it was this caller that was turned away, by a breaker or a limit, they
are told nothing, and the first of them has a try. A stale value is returned at once, and refreshed
behind the caller's back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from msgspec import Struct

from superezio import wire
from superezio.calls import Call
from superezio.errors import BreakerOpenError, BusyError, NeverPassesError, RateLimitedError
from superezio.guarding import asking
from superezio.guarding.absence import Side
from superezio.guarding.aio_lines import AsyncLine
from superezio.guarding.lines import Line
from superezio.guarding.options import (
    CachedOptions,
    milliseconds,
    refuse_unknown_cache_options,
)
from superezio.guarding.values import Codec, Stored

_LONGEST_ERROR: Final = 500
#: What turns one caller away before anybody is asked for the value.
_TURNED_AWAY: Final = (BreakerOpenError, RateLimitedError, NeverPassesError, BusyError)
T = TypeVar("T")


class Recipe(Struct, frozen=True, kw_only=True):
    """How long values of a namespace serve, and how they are fetched."""

    namespace: str
    ttl_ms: int
    grace_ms: int
    stale_if_error_ms: int
    tags: tuple[str, ...]
    wait_ms: int
    lead_ms: int
    tell_errors: bool

    @classmethod
    def of(cls, namespace: str, options: CachedOptions) -> Recipe:
        """Return the recipe of the options. Raises TypeError for an unknown one, ValueError."""
        refuse_unknown_cache_options(options)
        return cls(
            namespace=namespace,
            ttl_ms=milliseconds(options.get("ttl", 3600)),
            grace_ms=milliseconds(options.get("grace", 0)),
            stale_if_error_ms=milliseconds(options.get("stale_if_error", 0)),
            tags=tuple(options.get("tags", ())),
            wait_ms=milliseconds(options.get("fill_wait", 30)),
            lead_ms=milliseconds(options.get("fill_time", 30)),
            tell_errors=options.get("tell_errors", False),
        )

    def get(self, key: str) -> Call[wire.CacheAnswer]:
        """Return the call that looks for a value."""
        return asking.cache_get(self.namespace, key, wait_ms=self.wait_ms, lead_ms=self.lead_ms)

    def set(self, key: str, token: str | None, value: Stored) -> Call[wire.CacheStored]:
        """Return the call that delivers a value."""
        return asking.cache_set(
            wire.CacheSetParams(
                namespace=self.namespace,
                key=key,
                text=value.text,
                data=value.data,
                ttl_ms=self.ttl_ms,
                grace_ms=self.grace_ms,
                stale_if_error_ms=self.stale_if_error_ms,
                tags=list(self.tags),
                token=token,
            )
        )

    def fail(self, key: str, token: str, error: Exception | None) -> Call[wire.CacheFailed]:
        """Return the call that gives a lead up; without an error, to the next in line."""
        text = None if error is None else self._text_of(error)[:_LONGEST_ERROR]
        # A rejection is for the one who asked, with a retry_after of its own, and says nothing of
        # the value; but an old value may stand in for it.
        pass_on = isinstance(error, _TURNED_AWAY)
        return asking.cache_fail(self.namespace, key, token, text, pass_on=pass_on)

    def _text_of(self, error: Exception) -> str:
        name = type(error).__name__
        return f"{name}: {error}" if self.tell_errors else name


class Lead:
    """The duty to fetch one value, for all who wait for it."""

    def __init__(self, line: Line, side: Side, recipe: Recipe, key: str, token: str) -> None:
        self._line = line
        self._side = side
        self._recipe = recipe
        self._key = key
        self._token = token

    def deliver(self, value: Stored) -> None:
        """Give the value to all; where it cannot be told, let the next one fetch it."""
        told = self._line.tell(
            self._recipe.set(self._key, self._token, value), self._side, held=False
        )
        if told is None:
            self.give_up()

    def give_up(self, error: Exception | None = None) -> wire.CacheFailed | None:
        """Tell of the error, or let the next one fetch it; return an old value, if there is one."""
        return self._line.tell(self._recipe.fail(self._key, self._token, error), self._side)

    def fetch(self, codec: Codec[T], fetch: Callable[[], T]) -> T:
        """Return what `fetch` returns, for all. Raises what it raises, unless an old value may do.

        Raises TypeError for a value that cannot be cached.
        """
        try:
            value = fetch()
        except Exception as error:
            old = self.give_up(error)
            if old is None or not codec.reads(old):
                raise
            return codec.decode(old)
        except BaseException:
            self.give_up()
            raise
        try:
            stored = codec.encode(value)
        except TypeError as error:
            self.give_up(error)
            raise
        self.deliver(stored)
        return codec.decode(stored)


class AsyncLead:
    """The duty to fetch one value, for all who wait for it, with asyncio."""

    def __init__(self, line: AsyncLine, side: Side, recipe: Recipe, key: str, token: str) -> None:
        self._line = line
        self._side = side
        self._recipe = recipe
        self._key = key
        self._token = token

    async def deliver(self, value: Stored) -> None:
        """Give the value to all; where it cannot be told, let the next one fetch it."""
        told = await self._line.tell(
            self._recipe.set(self._key, self._token, value), self._side, held=False
        )
        if told is None:
            await self.give_up()

    async def give_up(self, error: Exception | None = None) -> wire.CacheFailed | None:
        """Tell of the error, or let the next one fetch it; return an old value, if there is one."""
        return await self._line.tell(self._recipe.fail(self._key, self._token, error), self._side)

    async def fetch(self, codec: Codec[T], fetch: Callable[[], Awaitable[T]]) -> T:
        """Return what `fetch` returns, for all, as `Lead.fetch` does."""
        try:
            value = await fetch()
        except Exception as error:
            old = await self.give_up(error)
            if old is None or not codec.reads(old):
                raise
            return codec.decode(old)
        except BaseException:
            await self.give_up()
            raise
        try:
            stored = codec.encode(value)
        except TypeError as error:
            await self.give_up(error)
            raise
        await self.deliver(stored)
        return codec.decode(stored)


def cached(
    line: Line,
    recipe: Recipe,
    codec: Codec[T],
    key: str,
    *,
    fetch: Callable[[], T],
    refresh: Callable[[Lead], None],
) -> T:
    """Return the value of `key`, by `fetch` where need be; `refresh` a stale one some time."""
    answer = line.ask(recipe.get(key))
    found, side = answer
    if found is None:
        return fetch()
    lead = None if found.token is None else Lead(line, side, recipe, key, found.token)
    if found.status in {"lead", "miss"}:
        return fetch() if lead is None else lead.fetch(codec, fetch)
    if not codec.reads(found):
        # Stored by another version of the program, as it seems: this one's value takes its place.
        if lead is not None:
            return lead.fetch(codec, fetch)
        stored = codec.encode(fetch())
        line.tell(recipe.set(key, None, stored), side, held=False)
        return codec.decode(stored)
    if lead is not None:
        refresh(lead)
    return codec.decode(found)


async def cached_async(
    line: AsyncLine,
    recipe: Recipe,
    codec: Codec[T],
    key: str,
    *,
    fetch: Callable[[], Awaitable[T]],
    refresh: Callable[[AsyncLead], Awaitable[None]],
) -> T:
    """Return the value of `key`, by `fetch` where need be; `refresh` a stale one some time."""
    answer = await line.ask(recipe.get(key))
    found, side = answer
    if found is None:
        return await fetch()
    lead = None if found.token is None else AsyncLead(line, side, recipe, key, found.token)
    if found.status in {"lead", "miss"}:
        return await (fetch() if lead is None else lead.fetch(codec, fetch))
    if not codec.reads(found):
        # Stored by another version of the program, as it seems: this one's value takes its place.
        if lead is not None:
            return await lead.fetch(codec, fetch)
        stored = codec.encode(await fetch())
        await line.tell(recipe.set(key, None, stored), side, held=False)
        return codec.decode(stored)
    if lead is not None:
        await refresh(lead)
    return codec.decode(found)
