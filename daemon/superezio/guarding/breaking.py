"""A call that a circuit breaker lets through, and how it ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from superezio import wire
from superezio.calls import Call
from superezio.errors import SuperezioError
from superezio.guarding import asking
from superezio.guarding.absence import Answer, Side
from superezio.guarding.aio_lines import AsyncLine
from superezio.guarding.lines import Line
from superezio.guarding.options import milliseconds

#: Says of an exception of the guarded code whether it is a failure of the service.
IsFailure = Callable[[Exception], bool]


def any_exception(_error: Exception) -> bool:
    """Take every exception for a failure of the service."""
    return True


class Permit:
    """Leave for one call. How it ends is told at the end of its block.

    Without a word: success where the block ends, failure where it raises. The last word counts.
    """

    def __init__(self, answer: Answer[wire.BreakerPermit], name: str, correlation_id: str) -> None:
        given = answer.result
        self.name = name
        #: `superezioctl trace` draws what became of the call by it.
        self.correlation_id = correlation_id
        #: Who let the call through: "daemon", "local", or "nobody" where it goes unguarded.
        self.side: Side = answer.side
        self.state: wire.BreakerState = "closed" if given is None else given.state
        self.shared = given is not None and given.shared
        self._id = 0 if given is None else given.permit
        self._said: wire.CallOutcome | None = None
        self._outcome: wire.CallOutcome = "success"
        self._retry_after_ms: int | None = None

    def success(self) -> None:
        """Say that the service answered as it should, even if the block raises."""
        self._said = "success"

    def failure(self) -> None:
        """Say that the service failed, even if the block does not raise."""
        self._said = "failure"

    def ignore(self) -> None:
        """Say that the call tells nothing of the service."""
        self._said = "ignore"

    def throttled(self, retry_after: float | str | None = None) -> None:
        """Say that the service has had enough for now (HTTP 429), which is no failure.

        The breaker lets nobody through for `retry_after` (seconds, or text such as "1m30s"), up to
        a cap of its own; without it for as long as it opens after failures.
        """
        self._said = "throttled"
        self._retry_after_ms = None if retry_after is None else milliseconds(retry_after)

    def raised(self, error: BaseException, is_failure: IsFailure) -> None:
        """Take in what the block raised."""
        if isinstance(error, SuperezioError) or not isinstance(error, Exception):
            # Turned away by ourselves, or cancelled: the service may never have been asked.
            self._outcome = "ignore"
        elif is_failure(error):
            self._outcome = "failure"

    def settlement(self) -> Call[wire.BreakerSettlement]:
        """Return what to tell in the end."""
        outcome = self._said or self._outcome
        retry_after_ms = self._retry_after_ms if outcome == "throttled" else None
        return asking.breaker_settle(self.name, self._id, outcome, retry_after_ms)


@contextmanager
def permitted(
    line: Line, name: str, rules: wire.BreakerRules | None, is_failure: IsFailure
) -> Iterator[Permit]:
    """Run a block where the breaker lets it through. Raises BreakerOpenError."""
    permit = Permit(
        line.ask(asking.breaker_acquire(name, rules)), name, line.context.correlation_id
    )
    try:
        yield permit
    except BaseException as error:
        permit.raised(error, is_failure)
        raise
    finally:
        line.tell(permit.settlement(), permit.side)


@asynccontextmanager
async def permitted_async(
    line: AsyncLine, name: str, rules: wire.BreakerRules | None, is_failure: IsFailure
) -> AsyncIterator[Permit]:
    """Run a block where the breaker lets it through. Raises BreakerOpenError."""
    permit = Permit(
        await line.ask(asking.breaker_acquire(name, rules)), name, line.context.correlation_id
    )
    try:
        yield permit
    except BaseException as error:
        permit.raised(error, is_failure)
        raise
    finally:
        await line.tell(permit.settlement(), permit.side)
