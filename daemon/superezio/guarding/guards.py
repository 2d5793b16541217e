"""What a blocking client has for guarded calls: connections, the stand-in, threads that refresh."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar

from superezio.conversation import Conversation
from superezio.guarding import keys
from superezio.guarding.absence import Absence
from superezio.guarding.around import Around, Decorator, refuse_async
from superezio.guarding.breaking import IsFailure, Permit, any_exception, permitted
from superezio.guarding.caching import Lead, Recipe, cached
from superezio.guarding.composing import GuardedCall, Plan, guarded, passed, settled_by
from superezio.guarding.fallback import Fallback
from superezio.guarding.ids import CallContext
from superezio.guarding.limiting import Slot, reserved
from superezio.guarding.lines import Line, Lines
from superezio.guarding.options import (
    BreakerOptions,
    CachedOptions,
    GuardOptions,
    LimitOptions,
    breaker_rules,
    limit_params,
)
from superezio.guarding.refreshing import RefreshThreads
from superezio.guarding.values import Codec, codec_of
from superezio.when_absent import Manner, WhenAbsent, checked

P = ParamSpec("P")
R = TypeVar("R")


class Guards:
    """Makes the blocks and decorators of one `Client`; see there for what they promise."""

    def __init__(
        self,
        connect: Callable[[], Conversation],
        *,
        clock: Callable[[], int],
        sleep: Callable[[float], None],
        when_absent: WhenAbsent,
        timeout_s: float,
        session: Callable[[], str | None],
        correlation_id: Callable[[], str | None],
        traceparent: Callable[[], str | None],
    ) -> None:
        self._lines = Lines(connect)
        self._sleep = sleep
        self._fallback = Fallback(clock=clock)
        self._absence = Absence(clock)
        self._when_absent = when_absent
        self._timeout_s = timeout_s
        self._session = session
        self._correlation_id = correlation_id
        self._traceparent = traceparent
        self._refreshes = RefreshThreads()

    def close(self) -> None:
        """Wait for what is being refreshed, and end the connections."""
        self._refreshes.join()
        self._lines.close()

    def breaker(
        self, name: str, manner: Manner, failure: IsFailure | None, options: BreakerOptions
    ) -> Around[Permit]:
        """Return the block of a call that a breaker lets through."""
        rules, is_failure = breaker_rules(options), failure or any_exception

        @contextmanager
        def block() -> Iterator[Permit]:
            with self._line(manner) as line, permitted(line, name, rules, is_failure) as permit:
                yield permit

        return Around(block)

    def limit(self, name: str, manner: Manner, options: LimitOptions) -> Around[Slot]:
        """Return the block of a call that a limit has room for."""
        params = limit_params(name, options)

        @contextmanager
        def block() -> Iterator[Slot]:
            with self._line(manner) as line, reserved(line, params) as slot:
                yield slot

        return Around(block)

    def cached(
        self,
        namespace: str,
        manner: Manner,
        key: Callable[..., str] | None,
        options: CachedOptions,
    ) -> Decorator:
        """Return what makes a cached function of a function."""
        recipe, key = Recipe.of(namespace, options), keys.checked(key)

        def decorate(function: Callable[P, R], /) -> Callable[P, R]:
            refuse_async(function)
            key_of = key or keys.of(function)
            codec: Codec[R] = codec_of(function, options.get("returns"))

            @functools.wraps(function)
            def call(*args: P.args, **kwargs: P.kwargs) -> R:
                def fetch(_line: Line) -> R:
                    return function(*args, **kwargs)

                return self._cached(manner, recipe, codec, key_of(*args, **kwargs), fetch)

            return call

        return decorate

    def guard(self, name: str, manner: Manner, options: GuardOptions) -> Around[GuardedCall]:
        """Return the block of a call behind all three."""
        plan, key = Plan.of(name, options), options.get("cache_key")

        @contextmanager
        def block() -> Iterator[GuardedCall]:
            text = key if isinstance(key, str) else None
            if plan.recipe is not None and text is None:
                raise TypeError("cannot look a block up in the cache: cache_key has to be its key")
            codec: Codec[Any] = Codec(options.get("returns", Any))
            with self._line(manner) as line, guarded(line, plan, text or "", codec) as call:
                yield call

        after = settled_by(options.get("used"))
        if plan.recipe is None:
            return Around(block, after=after)
        return Around(block, decorate=self._guard_cached(plan, plan.recipe, manner, options))

    def _guard_cached(
        self, plan: Plan, recipe: Recipe, manner: Manner, options: GuardOptions
    ) -> Decorator:
        given, after = options.get("cache_key"), settled_by(options.get("used"))

        def decorate(function: Callable[P, R], /) -> Callable[P, R]:
            key_of = (
                keys.given(given) if given is not None else keys.of(function, option="cache_key")
            )
            codec: Codec[R] = codec_of(function, options.get("returns"))

            @functools.wraps(function)
            def call(*args: P.args, **kwargs: P.kwargs) -> R:
                def fetch(line: Line) -> R:
                    with passed(line, plan) as handle:
                        result = function(*args, **kwargs)
                        if after is not None:
                            after(handle, result)
                    return result

                return self._cached(manner, recipe, codec, key_of(*args, **kwargs), fetch)

            return call

        return decorate

    def _cached(
        self, manner: Manner, recipe: Recipe, codec: Codec[R], key: str, fetch: Callable[[Line], R]
    ) -> R:
        with ExitStack() as stack:
            line = stack.enter_context(self._line(manner))

            def refresh(lead: Lead) -> None:
                # The lead belongs to the connection, which the thread has until it is done.
                if not self._refreshes.begin(
                    lambda: lead.fetch(codec, lambda: fetch(line)), stack.pop_all
                ):
                    lead.give_up()

            value: R = cached(line, recipe, codec, key, fetch=lambda: fetch(line), refresh=refresh)
            return value

    @contextmanager
    def _line(self, manner: Manner) -> Iterator[Line]:
        with self._lines.conversation() as conversation:
            line = Line(
                conversation,
                sleep=self._sleep,
                fallback=self._fallback,
                absence=self._absence,
                when_absent=checked(manner.when_absent or self._when_absent),
                timeout_s=self._timeout_s if manner.timeout_s is None else manner.timeout_s,
                session=self._session(),
                context=CallContext(
                    self._correlation_id(), manner.traceparent or self._traceparent()
                ),
            )
            try:
                yield line
            finally:
                if line.untold:
                    conversation.close()
