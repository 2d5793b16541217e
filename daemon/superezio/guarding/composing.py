"""A call behind all three: the cache first, then the limit, then the breaker.

A value that is there charges no budget. What the limit turns away takes no permit and counts as no
failure; what the breaker turns away gives its reservation back unused. In the end the permit is
settled, then the reservation, then the value is stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Any, Final

from msgspec import Struct

from superezio import wire
from superezio.guarding.aio_lines import AsyncLine
from superezio.guarding.breaking import (
    IsFailure,
    Permit,
    any_exception,
    permitted,
    permitted_async,
)
from superezio.guarding.caching import AsyncLead, Lead, Recipe
from superezio.guarding.ids import CallContext
from superezio.guarding.limiting import Slot, reserved, reserved_async
from superezio.guarding.lines import Line
from superezio.guarding.options import (
    GuardOptions,
    asks_for_a_limit,
    breaker_rules,
    cache_part,
    limit_params,
    limit_part,
)
from superezio.guarding.values import Codec

#: Says of a result what the call used, as `GuardedCall.settle` takes it.
Used = Callable[[Any], Mapping[str, int]]

_NOTHING: Final = object()
#: The options that ask for a cache.
_CACHE: Final = frozenset({"cache", "cache_key", "ttl"})


def settled_by(used: Used | None) -> Callable[[GuardedCall, Any], None] | None:
    """Return what settles a call by its result."""
    if used is None:
        return None
    return lambda call, result: call.settle(**used(result))


class Plan(Struct, frozen=True, kw_only=True):
    """What a guarded call asks for; None of a breaker, a limit or a cache does without it."""

    breaker: str | None
    rules: wire.BreakerRules | None
    is_failure: IsFailure
    limit: wire.LimitAcquireParams | None
    recipe: Recipe | None

    @classmethod
    def of(cls, name: str, options: GuardOptions) -> Plan:
        """Return the plan of the options. Raises TypeError for an unknown one, ValueError."""
        limit, cache = options.get("limit", name), options.get("cache", name)
        of_limit, has_cache = limit_part(options), not options.keys().isdisjoint(_CACHE)
        return cls(
            breaker=options.get("breaker", name),
            rules=breaker_rules(options.get("rules")),
            is_failure=options.get("failure", any_exception),
            limit=None
            if limit is None
            else limit_params(limit, of_limit, if_exists=not asks_for_a_limit(options)),
            recipe=Recipe.of(cache, cache_part(options)) if has_cache else None,
        )


class GuardedCall:
    """One guarded call: how it ends and what it used, told at the end of its block."""

    def __init__(self, context: CallContext) -> None:
        #: `superezioctl trace` draws what became of the call by it: all its requests have it.
        self.correlation_id = context.correlation_id
        self._context = context
        self.permit: Permit | None = None
        self.slot: Slot | None = None
        #: Whether `value` came from the cache, and there is nothing left to do.
        self.hit = False
        self._value: Any = _NOTHING

    @property
    def traceparent(self) -> str:
        """What the service is to be told (the header of that name): its trace is then this one."""
        return self._context.traceparent

    @property
    def value(self) -> Any:  # noqa: ANN401 - of any type
        """The value: from the cache, or what was set, which is cached when the block ends."""
        if self._value is _NOTHING:
            raise AttributeError("there is no value yet: set it where `hit` is False")
        return self._value

    @value.setter
    def value(self, value: object) -> None:
        self._value = value

    @property
    def has_value(self) -> bool:
        """Whether there is one."""
        return self._value is not _NOTHING

    def settle(
        self,
        *,
        requests: int | None = None,
        tokens: int | None = None,
        money_micros: int | None = None,
    ) -> None:
        """Say what the call used, as `Slot.settle`."""
        if self.slot is not None:
            self.slot.settle(requests=requests, tokens=tokens, money_micros=money_micros)

    def throttled(self, retry_after: float | str | None = None) -> None:
        """Say that the service wants no call for so long (HTTP 429): to the breaker and the limit.

        Without a time the breaker opens for as long as after failures.
        """
        if self.permit is not None:
            self.permit.throttled(retry_after)
        if self.slot is not None and retry_after is not None:
            self.slot.throttled(retry_after)

    def remaining(
        self,
        *,
        requests: int | None = None,
        requests_reset: float | str | None = None,
        tokens: int | None = None,
        tokens_reset: float | str | None = None,
    ) -> None:
        """Say what the service says is left, as `Slot.remaining`."""
        if self.slot is not None:
            self.slot.remaining(
                requests=requests,
                requests_reset=requests_reset,
                tokens=tokens,
                tokens_reset=tokens_reset,
            )

    def failure(self) -> None:
        """Say that the service failed, even if the block does not raise."""
        if self.permit is not None:
            self.permit.failure()

    def ignore(self) -> None:
        """Say that the call tells nothing of the service."""
        if self.permit is not None:
            self.permit.ignore()


@contextmanager
def passed(line: Line, plan: Plan) -> Iterator[GuardedCall]:
    """Run a block where limit and breaker let it through. Raises what they raise."""
    call = GuardedCall(line.context)
    with ExitStack() as stack:
        if plan.limit is not None:
            call.slot = stack.enter_context(reserved(line, plan.limit))
            call.slot.unused()
        if plan.breaker is not None:
            call.permit = stack.enter_context(
                permitted(line, plan.breaker, plan.rules, plan.is_failure)
            )
        if call.slot is not None:
            call.slot.used_as_reserved()
        yield call


@asynccontextmanager
async def passed_async(line: AsyncLine, plan: Plan) -> AsyncIterator[GuardedCall]:
    """Run a block where limit and breaker let it through. Raises what they raise."""
    call = GuardedCall(line.context)
    async with AsyncExitStack() as stack:
        if plan.limit is not None:
            call.slot = await stack.enter_async_context(reserved_async(line, plan.limit))
            call.slot.unused()
        if plan.breaker is not None:
            call.permit = await stack.enter_async_context(
                permitted_async(line, plan.breaker, plan.rules, plan.is_failure)
            )
        if call.slot is not None:
            call.slot.used_as_reserved()
        yield call


@contextmanager
def guarded(line: Line, plan: Plan, key: str, codec: Codec[Any]) -> Iterator[GuardedCall]:
    """Run a block that fetches the value of `key`, or finds it: see `GuardedCall.hit`.

    The block cannot run behind its own back: one that is to refresh a stale value does so itself.
    """
    recipe = plan.recipe
    if recipe is None:
        with passed(line, plan) as call:
            yield call
        return
    answer = line.ask(recipe.get(key))
    found, side = answer
    token = None if found is None else found.token
    if found is not None and token is None:
        hit = _hit(found, codec, line.context)
        if hit is not None:
            yield hit
            return
    lead = None if token is None else Lead(line, side, recipe, key, token)
    try:
        with passed(line, plan) as call:
            yield call
        stored = codec.encode(call.value) if lead is not None and call.has_value else None
    except BaseException as error:
        if lead is not None:
            lead.give_up(error if isinstance(error, Exception) else None)
        raise
    if lead is not None:
        if stored is None:
            lead.give_up()
        else:
            lead.deliver(stored)


@asynccontextmanager
async def guarded_async(
    line: AsyncLine, plan: Plan, key: str, codec: Codec[Any]
) -> AsyncIterator[GuardedCall]:
    """Run a block that fetches the value of `key`, or finds it, as `guarded`."""
    recipe = plan.recipe
    if recipe is None:
        async with passed_async(line, plan) as call:
            yield call
        return
    answer = await line.ask(recipe.get(key))
    found, side = answer
    token = None if found is None else found.token
    if found is not None and token is None:
        hit = _hit(found, codec, line.context)
        if hit is not None:
            yield hit
            return
    lead = None if token is None else AsyncLead(line, side, recipe, key, token)
    try:
        async with passed_async(line, plan) as call:
            yield call
        stored = codec.encode(call.value) if lead is not None and call.has_value else None
    except BaseException as error:
        if lead is not None:
            await lead.give_up(error if isinstance(error, Exception) else None)
        raise
    if lead is not None:
        if stored is None:
            await lead.give_up()
        else:
            await lead.deliver(stored)


def _hit(found: wire.CacheAnswer, codec: Codec[Any], context: CallContext) -> GuardedCall | None:
    if found.status in {"lead", "miss"}:
        return None
    if not codec.reads(found):
        return None
    call = GuardedCall(context)
    call.value = codec.decode(found)
    call.hit = True
    return call
