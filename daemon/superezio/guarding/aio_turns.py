"""Turns of requests that wait: a connection may have so many of them in flight, and no more.

Those of one lane (a limit, a namespace) go in the order of arrival. A lane may have as many out as
there are turns left for the others: one whose requests wait long leaves room for calls within its
calls, which would else wait for themselves.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from superezio.errors import BusyError, ConnectionLostError

#: Of the 256 that the daemon takes of a connection by default; the rest is for other methods.
AT_ONCE: Final = 192
#: How many may wait for their turn.
MOST_WAITING: Final = 20_000
_RETRY_MS: Final = 100


class _Lane:
    """Who is out, and who waits for a turn, the next one first."""

    __slots__ = ("out", "waiting")

    def __init__(self) -> None:
        self.out = 0
        self.waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()


class Turns:
    """Hands them out, within one loop."""

    def __init__(self, *, at_once: int = AT_ONCE, most_waiting: int = MOST_WAITING) -> None:
        self._most = at_once
        self._at_once = at_once
        self._most_waiting = most_waiting
        self._lanes: dict[Hashable, _Lane] = {}
        #: The lanes in which somebody waits, in the order in which they are looked at.
        self._queues: OrderedDict[Hashable, _Lane] = OrderedDict()
        self._out = 0
        self._waiting = 0
        self._ended_since = 0

    def take_now(self, name: Hashable) -> bool:
        """Take a turn, if there is one at once."""
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane()
        if not lane.waiting and self._has_room(lane):
            self._let_out(lane)
            return True
        self._forget_idle(name, lane)
        return False

    async def take(self, name: Hashable, *, first: bool = False) -> None:
        """Wait for a turn in the lane of that name; `first`: before all who wait in it.

        Who gets one gives it back. Raises BusyError where too many wait already, and
        ConnectionLostError when the wait of all is ended.
        """
        if self.take_now(name):
            return
        if self._waiting >= self._most_waiting:
            raise BusyError(
                f"{self._waiting} requests of this client wait to be sent",
                retry_after_ms=_RETRY_MS,
                data={"limit": "waiting_in_client"},
            )
        lane = self._lanes.setdefault(name, _Lane())
        turn = asyncio.get_running_loop().create_future()
        lane.waiting[turn] = None
        if first:
            lane.waiting.move_to_end(turn, last=False)
        self._waiting += 1
        self._queues[name] = lane
        try:
            await turn
        except asyncio.CancelledError:
            if turn in lane.waiting:
                self._drop(name, lane, turn)
            elif not turn.cancelled() and turn.exception() is None:
                self.give_back(name)
            raise

    def give_back(self, name: Hashable) -> None:
        """End a turn; the next ones begin."""
        lane = self._lanes[name]
        lane.out -= 1
        self._out -= 1
        self._ended_since += 1
        if self._ended_since >= self._at_once:
            # Whoever took the daemon's room beside us may be gone.
            self._ended_since = 0
            self._at_once = min(self._most, self._at_once + 1)
        self._begin()
        self._forget_idle(name, lane)

    def have_fewer(self) -> None:
        """Take in that the daemon took no more than those that are out, without this one."""
        self._ended_since = 0
        self._at_once = max(1, min(self._at_once, self._out - 1))

    def end_waits(self) -> None:
        """End the wait of all: the client is closed."""
        for name, lane in list(self._queues.items()):
            for turn in list(lane.waiting):
                self._drop(name, lane, turn)
                if not turn.done():
                    turn.set_exception(
                        ConnectionLostError("the client was closed before the daemon was asked")
                    )

    def _has_room(self, lane: _Lane) -> bool:
        left = self._at_once - self._out
        return left > 0 and lane.out < left

    def _let_out(self, lane: _Lane) -> None:
        lane.out += 1
        self._out += 1

    def _begin(self) -> None:
        # A lane that has to wait has as many out as turns are left, so that these are few.
        passed_over = 0
        while passed_over < len(self._queues) and self._out < self._at_once:
            name, lane = next(iter(self._queues.items()))
            self._queues.move_to_end(name)
            if not self._has_room(lane):
                passed_over += 1
                continue
            passed_over = 0
            turn = next(iter(lane.waiting))
            if not turn.done():
                self._let_out(lane)
                turn.set_result(None)
            self._drop(name, lane, turn)

    def _drop(self, name: Hashable, lane: _Lane, turn: asyncio.Future[None]) -> None:
        del lane.waiting[turn]
        self._waiting -= 1
        if not lane.waiting:
            del self._queues[name]
            self._forget_idle(name, lane)

    def _forget_idle(self, name: Hashable, lane: _Lane) -> None:
        if not lane.out and not lane.waiting and self._lanes.get(name) is lane:
            del self._lanes[name]
