"""Who is worked for when: in a round, each user has one turn, and a turn has a bounded length.

What a read brings is worked on at once, as long as its user has time left in the round. A user who
has used up its turn, over however many connections, waits for the next round: the loop polls
between rounds, several times where somebody waits, so that others are accepted, read and answered.
Nothing is refused, and nobody is slowed down while the loop has nothing else to do.

Within a turn, the connections of the user are served by what each has used (start-time fair
queueing): one that asks now and then does not stand behind hundreds that always ask.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from heapq import heappop, heappush
from typing import Final, Protocol

#: How long one user's requests are worked on before the others get their turn. The last request
#: of a turn runs past it: nothing is interrupted.
TURN_NS: Final = 10_000_000
#: What a user has used is forgotten at the end of the round from here on; less is carried over,
#: as a round costs more than most requests do.
_NOTED_NS: Final = TURN_NS // 2
#: Laps of the loop between two rounds while somebody waits. A lap accepts one connection, and a
#: new one needs three of them for its first answer.
LAPS_BETWEEN_ROUNDS: Final = 16
#: Further laps for those who keep coming, one for each: so many stand in front of a newcomer.
MAX_MORE_LAPS: Final = 256


class Worker(Protocol):
    """A connection with requests that wait for their user's turn."""

    #: What it has used, in the time of its user's connections (see `Turn`): what it uses is added.
    used_ns: int

    def take_turn(self) -> None:
        """Work on some of what waits, one request at least; wait again with what is left."""


class Turn:
    """What one user has used of the current round, and its connections that wait for the next."""

    __slots__ = ("_passed_ns", "_serial", "_waiting", "in_round", "is_over", "used_ns")

    def __init__(self) -> None:
        self.used_ns = 0
        #: Whether it has used all of its time: what it asks for now has to wait.
        self.is_over = False
        self.in_round = False
        #: Up to where the connections have been served. Each stands where it was served last, plus
        #: what it used then; one that has not asked for long stands here, and saves up nothing.
        self._passed_ns = 0
        #: Of those that stand at the same place the last is served first: whoever comes while
        #: hundreds have just come does not wait for all of them.
        self._serial = 0
        self._waiting: list[tuple[int, int, Worker]] = []

    def __len__(self) -> int:
        """Return how many connections wait."""
        return len(self._waiting)

    @property
    def left_ns(self) -> int:
        """How much time it has left in this round."""
        return max(0, TURN_NS - self.used_ns)

    def put(self, worker: Worker) -> None:
        """Have `worker` wait, once for each time."""
        self._serial -= 1
        worker.used_ns = max(worker.used_ns, self._passed_ns)
        heappush(self._waiting, (worker.used_ns, self._serial, worker))

    def serve(self) -> None:
        """Let those who wait work, one of them at least, until the turn is over."""
        while self._waiting and not self.is_over:
            self._passed_ns, _, worker = heappop(self._waiting)
            worker.take_turn()


class Turns:
    """The rounds. All users have the same turn, admins too, whatever else they are exempt from."""

    def __init__(self) -> None:
        #: Who has used time in this round, or waits for the next.
        self._round: list[Turn] = []
        self._laps = 0
        self._more_laps = 0
        self._somebody_waits = False
        self._lap: asyncio.Handle | None = None
        # The laps are no part of the request that happened to set them off.
        self._context = Context()

    def charge(self, turn: Turn, spent_ns: int) -> None:
        """Take time off a user's turn."""
        turn.used_ns = used_ns = turn.used_ns + spent_ns
        if used_ns >= _NOTED_NS:
            turn.is_over = used_ns >= TURN_NS
            self._enter(turn)

    def wait(self, turn: Turn, worker: Worker) -> None:
        """Have `worker` take its user's turn in the next round, or a later one."""
        turn.put(worker)
        self._let_wait(turn)

    def newcomer(self) -> None:
        """Put the next round off by a lap, up to a limit: one was accepted, and more may come."""
        if self._laps and self._more_laps:
            self._laps += 1
            self._more_laps -= 1

    def close(self) -> None:
        """Give no more turns."""
        if self._lap is not None:
            self._lap.cancel()
            self._lap = None

    def _let_wait(self, turn: Turn) -> None:
        if not self._somebody_waits:
            self._somebody_waits = True
            self._laps = LAPS_BETWEEN_ROUNDS
            self._more_laps = MAX_MORE_LAPS
        self._enter(turn)

    def _enter(self, turn: Turn) -> None:
        if not turn.in_round:
            turn.in_round = True
            self._round.append(turn)
        if self._lap is None:
            self._await_lap()

    def _await_lap(self) -> None:
        self._lap = asyncio.get_running_loop().call_soon(self._pass_lap, context=self._context)

    def _pass_lap(self) -> None:
        if self._laps:
            self._laps -= 1
            self._await_lap()
        else:
            self._lap = None
            self._begin_round()

    def _begin_round(self) -> None:
        turns, self._round = self._round, []
        self._somebody_waits = False
        for turn in turns:
            turn.used_ns = 0
            turn.is_over = turn.in_round = False
        for turn in turns:
            turn.serve()
            if turn:
                self._let_wait(turn)
