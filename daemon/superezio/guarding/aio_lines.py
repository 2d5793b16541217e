"""Whom an asyncio client asks for one guarded call: the daemon, or what stands in for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, TypeVar

from superezio.aio_conversation import AsyncConversation
from superezio.calls import Call
from superezio.conversation import COURTESY_S
from superezio.errors import ReplyTimeoutError, SuperezioError
from superezio.guarding.absence import ABSENT, FIND_OUT_S, Absence, Answer, Side
from superezio.guarding.aio_requests import AsyncRequests, Errand
from superezio.guarding.fallback import Fallback
from superezio.guarding.ids import CallContext, tell_id
from superezio.guarding.insisting import Patience, Tellings
from superezio.guarding.pending import Pending
from superezio.when_absent import WhenAbsent

T = TypeVar("T")


class AsyncLine:
    """What guarded calls ask on: all those of a client share its connection."""

    def __init__(
        self,
        conversation: AsyncConversation,
        *,
        requests: AsyncRequests,
        tellings: Tellings,
        fallback: Fallback,
        absence: Absence,
        when_absent: WhenAbsent,
        timeout_s: float,
        session: str | None,
        context: CallContext,
    ) -> None:
        self._conversation = conversation
        self._requests = requests
        self._tellings = tellings
        self._patience = Patience()
        self._fallback = fallback
        self._absence = absence
        self._when_absent = when_absent
        self._timeout_s = timeout_s
        self._session = session
        #: What was handed out before the client was closed went with the connection.
        self._closings = conversation.closings
        #: The one id that all requests of the call go by, and the trace that it is a part of.
        self.context = context

    async def ask(self, call: Call[T]) -> Answer[T]:
        """Return what the daemon answers, or what stands in for it. Raises what it raises.

        The errors name the id that the call goes by.
        """
        try:
            return await self._ask(call)
        except SuperezioError as error:
            tell_id(error, self.context.correlation_id)
            raise

    async def _ask(self, call: Call[T]) -> Answer[T]:
        if self._when_absent == "closed":
            errand = self._errand(self._timeout_s, patience_s=self._timeout_s)
            result = await self._requests.ask(call, errand)
            return Answer(result, "daemon")
        if not self._absence.known():
            try:
                errand = self._errand(min(self._timeout_s, FIND_OUT_S))
                result = await self._requests.ask(call, errand)
            except ABSENT:
                self._absence.note()
            else:
                return Answer(result, "daemon")
        if self._when_absent == "open":
            return Answer(None, "nobody")
        result = await self._locally(call)
        return Answer(result, "local")

    async def tell(self, call: Call[T], side: Side, *, held: bool = True) -> T | None:
        """Give back what `side` handed out. Whether that works is no matter of the caller's.

        A daemon that has too much to do is told again, for two seconds at most, by a task of the
        client. `held` says whether it holds something until it is told: that returns to it with
        the connection, which ends once nobody uses it.
        """
        if side == "nobody":
            return None
        if side == "local":
            with suppress(SuperezioError):
                return await self._locally(call)
            return None
        try:
            return await self._requests.tell(call, self._errand(COURTESY_S))
        except SuperezioError as error:
            pause_s = await self._refused(error, held=held)
        except asyncio.CancelledError:
            # Nobody reads any more whether it was refused.
            if held:
                await self._conversation.end_when_idle()
            raise
        if pause_s is None:
            return None
        telling = self._insist(call, pause_s, held=held)
        return await self._tellings.told(telling)

    async def _insist(self, call: Call[T], first_pause_s: float, *, held: bool) -> T | None:
        pause_s: float | None = first_pause_s
        while pause_s is not None:
            await asyncio.sleep(pause_s)
            try:
                return await self._requests.tell(call, self._errand(COURTESY_S))
            except SuperezioError as error:
                pause_s = await self._refused(error, held=held)
        return None

    async def _refused(self, error: SuperezioError, *, held: bool) -> float | None:
        """Return how long to wait before telling again; where that is over, see to what is held."""
        pause_s = self._patience.pause_s(error)
        gone = isinstance(error, ABSENT) and not isinstance(error, ReplyTimeoutError)
        if pause_s is None and held and not gone:
            await self._conversation.end_when_idle()
        return pause_s

    def _errand(self, limit_s: float, *, patience_s: float = 0.0) -> Errand:
        return Errand(
            limit_s=limit_s,
            closings=self._closings,
            patience_s=patience_s,
            session=self._session,
            correlation_id=self.context.correlation_id,
            traceparent=self.context.told,
        )

    async def _locally(self, call: Call[T]) -> T:
        answer = self._fallback.answer(call)
        if not isinstance(answer, Pending):
            return answer
        loop, turn = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(turn.set)

        answer.on_change(wake)
        try:
            while not answer.done:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._fallback.next_s()):
                        await turn.wait()
                turn.clear()
                self._fallback.turn()
        except asyncio.CancelledError:
            if answer.granted and call.undo is not None:
                self._undo(call.undo(answer.outcome()))
            raise
        finally:
            self._fallback.leave(answer)
        return answer.outcome()

    def _undo(self, call: Call[Any] | None) -> None:
        if call is not None:
            self._fallback.answer(call)
