"""A call that a limit has room for, and what it used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from superezio import wire
from superezio.calls import Call
from superezio.errors import NotFoundError
from superezio.guarding import asking
from superezio.guarding.absence import Answer, Side
from superezio.guarding.aio_lines import AsyncLine
from superezio.guarding.lines import Line
from superezio.guarding.options import amount, milliseconds


class Slot:
    """Room for one call. What it used is told at the end of its block: as reserved, if not said."""

    def __init__(
        self, answer: Answer[wire.LimitReservation], name: str, correlation_id: str
    ) -> None:
        given = answer.result
        self.name = name
        #: `superezioctl trace` draws what became of the call by it.
        self.correlation_id = correlation_id
        #: Who gave the room: "daemon", "local", or "nobody" where the call goes unlimited.
        self.side: Side = answer.side
        self.waited_s = 0.0 if given is None else given.waited_ms / 1000
        self.shared = given is not None and given.shared
        #: Whether there is such a limit: a guard that asks nothing of it does without.
        self.exists = given is not None and not given.absent
        self._settlement = wire.LimitSettleParams(
            reservation=0 if given is None else given.reservation
        )

    def settle(
        self,
        *,
        requests: int | None = None,
        tokens: int | None = None,
        money_micros: int | None = None,
    ) -> None:
        """Say what the call used; what is None was used as reserved, or as said before.

        It may be more than was reserved: those who come next wait for it. Raises ValueError.
        """
        said = {"requests": requests, "tokens": tokens, "money_micros": money_micros}
        for dimension, used in said.items():
            if used is not None:
                setattr(self._settlement, dimension, amount(dimension, used))

    def throttled(self, retry_after: float | str) -> None:
        """Say that the service wants no call for so long (HTTP 429), up to a cap of the limit."""
        self._settlement.retry_after_ms = milliseconds(retry_after)

    def remaining(
        self,
        *,
        requests: int | None = None,
        requests_reset: float | str | None = None,
        tokens: int | None = None,
        tokens_reset: float | str | None = None,
    ) -> None:
        """Say what the service says is left (x-ratelimit-remaining-*), and for how long (reset).

        It only ever lowers what is left here. Raises ValueError.
        """
        self._settlement.remaining = wire.LimitRemaining(
            requests=None if requests is None else amount("requests", requests),
            requests_reset_ms=None if requests_reset is None else milliseconds(requests_reset),
            tokens=None if tokens is None else amount("tokens", tokens),
            tokens_reset_ms=None if tokens_reset is None else milliseconds(tokens_reset),
        )

    def unused(self) -> None:
        """Take the whole reservation for not used, until `used_as_reserved`."""
        self.settle(requests=0, tokens=0, money_micros=0)

    def used_as_reserved(self) -> None:
        """Take it for used again: the call is made."""
        settlement = self._settlement
        settlement.requests = settlement.tokens = settlement.money_micros = None

    def settlement(self) -> Call[wire.LimitSettlement]:
        """Return what to tell in the end."""
        return asking.limit_settle(self._settlement)


@contextmanager
def reserved(line: Line, params: wire.LimitAcquireParams) -> Iterator[Slot]:
    """Run a block when the limit has room for it. Raises RateLimitedError, NeverPassesError."""
    with _in_words_of_python(params.name):
        answer = line.ask(asking.limit_acquire(params))
    slot = Slot(answer, params.name, line.context.correlation_id)
    try:
        yield slot
    finally:
        if slot.exists:
            line.tell(slot.settlement(), slot.side)


@asynccontextmanager
async def reserved_async(line: AsyncLine, params: wire.LimitAcquireParams) -> AsyncIterator[Slot]:
    """Run a block when the limit has room for it. Raises RateLimitedError, NeverPassesError."""
    with _in_words_of_python(params.name):
        answer = await line.ask(asking.limit_acquire(params))
    slot = Slot(answer, params.name, line.context.correlation_id)
    try:
        yield slot
    finally:
        if slot.exists:
            await line.tell(slot.settlement(), slot.side)


@contextmanager
def _in_words_of_python(name: str) -> Iterator[None]:
    """Say what helps where there is no such limit: the daemon speaks of what is sent."""
    try:
        yield
    except NotFoundError as error:
        error.message = (
            f'there is no limit {name} yet: rates="60/1m", or by dimension, makes one of your own;'
            f" one of several users is [limit.shared.{name}] of the configuration"
        )
        error.args = (error.message,)
        raise
