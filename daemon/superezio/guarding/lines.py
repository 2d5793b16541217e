"""Whom a blocking client asks for one guarded call: the daemon, or what stands in for it.

What the daemon hands out belongs to the connection on which it was asked for. So each call has a
connection of its own until it is over, and one that waits for room is in nobody's way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

from superezio.calls import Call
from superezio.conversation import COURTESY_S, Conversation
from superezio.errors import ReplyTimeoutError, SuperezioError
from superezio.guarding.absence import ABSENT, FIND_OUT_S, Absence, Answer, Side
from superezio.guarding.fallback import Fallback
from superezio.guarding.ids import CallContext, tell_id
from superezio.guarding.insisting import Patience
from superezio.guarding.pending import Pending
from superezio.when_absent import WhenAbsent

T = TypeVar("T")

#: How many connections are kept for the calls to come.
_IDLE: Final = 16


class Line:
    """What one guarded call asks on. Not for use by several threads at a time."""

    def __init__(
        self,
        conversation: Conversation,
        *,
        sleep: Callable[[float], None],
        fallback: Fallback,
        absence: Absence,
        when_absent: WhenAbsent,
        timeout_s: float,
        session: str | None,
        context: CallContext,
    ) -> None:
        self._conversation = conversation
        self._sleep = sleep
        self._patience = Patience()
        self._fallback = fallback
        self._absence = absence
        self._when_absent = when_absent
        self._timeout_s = timeout_s
        self._session = session
        #: The one id that all requests of the call go by, and the trace that it is a part of.
        self.context = context
        #: Whether the daemon may hold something that it could not be told of: it returns to it
        #: with the connection, which then has to end.
        self.untold = False

    def ask(self, call: Call[T]) -> Answer[T]:
        """Return what the daemon answers, or what stands in for it. Raises what it raises.

        The errors name the id that the call goes by.
        """
        try:
            return self._ask(call)
        except SuperezioError as error:
            tell_id(error, self.context.correlation_id)
            raise

    def _ask(self, call: Call[T]) -> Answer[T]:
        if self._when_absent == "closed":
            result = self._call(call, self._timeout_s, patience_s=self._timeout_s)
            return Answer(result, "daemon")
        if not self._absence.known():
            try:
                result = self._call(call, min(self._timeout_s, FIND_OUT_S))
            except ABSENT:
                self._absence.note()
            else:
                return Answer(result, "daemon")
        if self._when_absent == "open":
            return Answer(None, "nobody")
        result = self._locally(call)
        return Answer(result, "local")

    def tell(self, call: Call[T], side: Side, *, held: bool = True) -> T | None:
        """Give back what `side` handed out. Whether that works is no matter of the caller's.

        A daemon that has too much to do is told again, for two seconds at most. `held` says
        whether it holds something until it is told.
        """
        if side == "nobody":
            return None
        if side == "local":
            with suppress(SuperezioError):
                return self._locally(call)
            return None
        untold, self.untold = self.untold, self.untold or held
        result = self._insist(call)
        if result is not None:
            self.untold = untold
        return result

    def _insist(self, call: Call[T]) -> T | None:
        while True:
            try:
                return self._call(call, COURTESY_S)
            except SuperezioError as error:
                pause_s = self._patience.pause_s(error)
            if pause_s is None:
                return None
            self._sleep(pause_s)

    def _call(self, call: Call[T], limit_s: float, *, patience_s: float = 0.0) -> T:
        try:
            return self._conversation.call(
                call,
                limit_s=limit_s + call.wait_s,
                session=self._session,
                patience_s=patience_s,
                correlation_id=self.context.correlation_id,
                traceparent=self.context.told,
            )
        except ReplyTimeoutError:
            # What the daemon may still hand out returns to it with the connection.
            self._conversation.close()
            raise

    def _locally(self, call: Call[T]) -> T:
        answer = self._fallback.answer(call)
        if not isinstance(answer, Pending):
            return answer
        turn = threading.Event()
        answer.on_change(turn.set)
        try:
            while not answer.done:
                turn.wait(self._fallback.next_s())
                turn.clear()
                self._fallback.turn()
        finally:
            self._fallback.leave(answer)
        return answer.outcome()


class Lines:
    """Connections for guarded calls, kept from one to the next. For use by any thread."""

    def __init__(self, connect: Callable[[], Conversation]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._idle: list[Conversation] = []
        self._closings = 0

    @contextmanager
    def conversation(self) -> Iterator[Conversation]:
        """Have a connection to oneself for the length of a block."""
        with self._lock:
            taken = self._idle.pop() if self._idle else self._connect()
            closings = self._closings
        try:
            yield taken
        finally:
            with self._lock:
                keep = closings == self._closings and len(self._idle) < _IDLE
                if keep:
                    self._idle.append(taken)
            if not keep:
                taken.close()

    def close(self) -> None:
        """End the connections: those in use at the end of their calls."""
        with self._lock:
            self._closings += 1
            idle, self._idle = self._idle, []
        for conversation in idle:
            conversation.close()
