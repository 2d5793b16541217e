"""What an asyncio client has for guarded calls: the stand-in, and tasks that refresh."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

from superezio.aio_conversation import AsyncConversation
from superezio.guarding import keys
from superezio.guarding.absence import Absence
from superezio.guarding.aio_lines import AsyncLine
from superezio.guarding.aio_requests import AsyncRequests
from superezio.guarding.aio_turns import Turns
from superezio.guarding.around import AsyncAround, AsyncDecorator, refuse_blocking
from superezio.guarding.breaking import IsFailure, Permit, any_exception, permitted_async
from superezio.guarding.caching import AsyncLead, Recipe, cached_async
from superezio.guarding.composing import (
    GuardedCall,
    Plan,
    guarded_async,
    passed_async,
    settled_by,
)
from superezio.guarding.fallback import Fallback
from superezio.guarding.ids import CallContext
from superezio.guarding.insisting import Tellings
from superezio.guarding.limiting import Slot, reserved_async
from superezio.guarding.options import (
    BreakerOptions,
    CachedOptions,
    GuardOptions,
    LimitOptions,
    breaker_rules,
    limit_params,
)
from superezio.guarding.refreshing import RefreshTasks
from superezio.guarding.values import Codec, codec_of
from superezio.when_absent import Manner, WhenAbsent, checked

P = ParamSpec("P")
R = TypeVar("R")


class AsyncGuards:
    """Makes the blocks and decorators of one `AsyncClient`."""

    def __init__(
        self,
        conversation: AsyncConversation,
        *,
        clock: Callable[[], int],
        when_absent: WhenAbsent,
        timeout_s: float,
        session: Callable[[], str | None],
        correlation_id: Callable[[], str | None],
        traceparent: Callable[[], str | None],
    ) -> None:
        self._conversation = conversation
        self._fallback = Fallback(clock=clock)
        self._absence = Absence(clock)
        self._when_absent = when_absent
        self._timeout_s = timeout_s
        self._session = session
        self._correlation_id = correlation_id
        self._traceparent = traceparent
        self._refreshes = RefreshTasks()
        self._tellings = Tellings()
        self._requests = AsyncRequests(conversation, clock=clock, turns=Turns())

    async def aclose(self) -> None:
        """Cancel what is refreshed, what the daemon is still to be told, and what callers share."""
        await self._refreshes.aclose()
        await self._tellings.aclose()
        await self._requests.aclose()

    def breaker(
        self, name: str, manner: Manner, failure: IsFailure | None, options: BreakerOptions
    ) -> AsyncAround[Permit]:
        """Return the block of a call that a breaker lets through."""
        rules, is_failure = breaker_rules(options), failure or any_exception

        @asynccontextmanager
        async def block() -> AsyncIterator[Permit]:
            async with (
                self._line(manner) as line,
                permitted_async(line, name, rules, is_failure) as permit,
            ):
                yield permit

        return AsyncAround(block)

    def limit(self, name: str, manner: Manner, options: LimitOptions) -> AsyncAround[Slot]:
        """Return the block of a call that a limit has room for."""
        params = limit_params(name, options)

        @asynccontextmanager
        async def block() -> AsyncIterator[Slot]:
            async with self._line(manner) as line, reserved_async(line, params) as slot:
                yield slot

        return AsyncAround(block)

    def cached(
        self,
        namespace: str,
        manner: Manner,
        key: Callable[..., str] | None,
        options: CachedOptions,
    ) -> AsyncDecorator:
        """Return what makes a cached function of a coroutine function."""
        recipe, key = Recipe.of(namespace, options), keys.checked(key)

        def decorate(function: Callable[P, Awaitable[R]], /) -> Callable[P, Awaitable[R]]:
            refuse_blocking(function)
            key_of, codec = key or keys.of(function), codec_of(function, options.get("returns"))

            @functools.wraps(function)
            async def call(*args: P.args, **kwargs: P.kwargs) -> R:
                def fetch(_line: AsyncLine) -> Awaitable[R]:
                    return function(*args, **kwargs)

                return await self._cached(manner, recipe, codec, key_of(*args, **kwargs), fetch)

            return call

        return decorate

    def guard(self, name: str, manner: Manner, options: GuardOptions) -> AsyncAround[GuardedCall]:
        """Return the block of a call behind all three."""
        plan, key = Plan.of(name, options), options.get("cache_key")

        @asynccontextmanager
        async def block() -> AsyncIterator[GuardedCall]:
            text = key if isinstance(key, str) else None
            if plan.recipe is not None and text is None:
                raise TypeError("cannot look a block up in the cache: cache_key has to be its key")
            codec: Codec[Any] = Codec(options.get("returns", Any))
            async with (
                self._line(manner) as line,
                guarded_async(line, plan, text or "", codec) as call,
            ):
                yield call

        if plan.recipe is None:
            return AsyncAround(block, after=settled_by(options.get("used")))
        return AsyncAround(block, decorate=self._guard_cached(plan, plan.recipe, manner, options))

    def _guard_cached(
        self, plan: Plan, recipe: Recipe, manner: Manner, options: GuardOptions
    ) -> AsyncDecorator:
        given, after = options.get("cache_key"), settled_by(options.get("used"))

        def decorate(function: Callable[P, Awaitable[R]], /) -> Callable[P, Awaitable[R]]:
            key_of = (
                keys.given(given) if given is not None else keys.of(function, option="cache_key")
            )
            codec = codec_of(function, options.get("returns"))

            @functools.wraps(function)
            async def call(*args: P.args, **kwargs: P.kwargs) -> R:
                async def fetch(line: AsyncLine) -> R:
                    async with passed_async(line, plan) as handle:
                        result = await function(*args, **kwargs)
                        if after is not None:
                            after(handle, result)
                    return result

                return await self._cached(manner, recipe, codec, key_of(*args, **kwargs), fetch)

            return call

        return decorate

    async def _cached(
        self,
        manner: Manner,
        recipe: Recipe,
        codec: Codec[R],
        key: str,
        fetch: Callable[[AsyncLine], Awaitable[R]],
    ) -> R:
        async with self._line(manner) as line:

            async def refreshed(lead: AsyncLead) -> None:
                async with self._conversation.in_use():
                    await lead.fetch(codec, lambda: fetch(line))

            async def refresh(lead: AsyncLead) -> None:
                if not self._refreshes.begin(lambda: refreshed(lead)):
                    await lead.give_up()

            value: R = await cached_async(
                line, recipe, codec, key, fetch=lambda: fetch(line), refresh=refresh
            )
            return value

    @asynccontextmanager
    async def _line(self, manner: Manner) -> AsyncIterator[AsyncLine]:
        async with self._conversation.in_use():
            yield AsyncLine(
                self._conversation,
                requests=self._requests,
                tellings=self._tellings,
                fallback=self._fallback,
                absence=self._absence,
                when_absent=checked(manner.when_absent or self._when_absent),
                timeout_s=self._timeout_s if manner.timeout_s is None else manner.timeout_s,
                session=self._session(),
                context=CallContext(
                    self._correlation_id(), manner.traceparent or self._traceparent()
                ),
            )
