"""Passes that were asked for: who still has to answer which, shared by all who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Final

#: A pass waits this long after the last answer for GPUs that have not answered it.
LAGGARD_S: Final = 0.03


class PendingPass:
    """One pass in flight. `done` is set when nobody is waited for any more."""

    def __init__(
        self, pass_id: int, expected: Iterable[str], *, asked_ns: int, for_all: bool
    ) -> None:
        self.id = pass_id
        self.asked_ns = asked_ns
        self.for_all = for_all
        self.missing = set(expected)
        self.progressed = False
        self.timer: asyncio.TimerHandle | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(self, uuid: str) -> None:
        """Note that a GPU need not be waited for any more."""
        if uuid in self.missing:
            self.missing.discard(uuid)
            self.progressed = True


class PassBoard:
    """The passes in flight. Loop-owned. `on_late` is told of GPUs that are not waited for longer.

    A pass ends when all have answered; when the patience of whoever asked is over; or, once one
    has answered, when no other has for a moment: a GPU that hangs holds up nobody.
    """

    def __init__(self, *, on_late: Callable[[Collection[str]], None]) -> None:
        self._on_late = on_late
        self._next_id = 1
        self._pending: list[PendingPass] = []

    def ask(
        self, expected: Iterable[str], *, now_ns: int, patience_s: float, for_all: bool
    ) -> PendingPass:
        """Begin a pass of these GPUs; `for_all` waits for each as long as the patience lasts."""
        pending = PendingPass(self._next_id, expected, asked_ns=now_ns, for_all=for_all)
        self._next_id += 1
        self._pending.append(pending)
        self._set_timer(pending, patience_s)
        return pending

    def join(
        self, wanted: frozenset[str], *, not_before_ns: int, for_all: bool
    ) -> PendingPass | None:
        """Return a pass in flight of these GPUs that was asked for late enough, if there is one."""
        for pending in reversed(self._pending):
            late_enough = pending.asked_ns >= not_before_ns
            if late_enough and pending.for_all == for_all and wanted <= pending.missing:
                return pending
        return None

    def answered(self, uuid: str, pass_id: int) -> None:
        """Note that a GPU has answered every pass up to `pass_id`."""
        for pending in self._pending:
            if pending.id <= pass_id:
                pending.answered(uuid)

    def excuse(self, uuid: str) -> None:
        """Do not wait for a GPU that is in trouble."""
        for pending in self._pending:
            pending.answered(uuid)

    def settle(self) -> None:
        """Draw the conclusions, now that all answers that came together are noted."""
        for pending in tuple(self._pending):
            if not pending.missing:
                self._finish(pending)
            elif pending.progressed and not pending.for_all:
                pending.progressed = False
                self._set_timer(pending, LAGGARD_S)

    def finish_all(self) -> None:
        """Wait for nobody any more."""
        for pending in tuple(self._pending):
            self._finish(pending)

    def _set_timer(self, pending: PendingPass, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds
        if pending.timer is not None:
            at = min(at, pending.timer.when())
            pending.timer.cancel()
        pending.timer = loop.call_at(at, self._run_out, pending)

    def _run_out(self, pending: PendingPass) -> None:
        missing = frozenset(pending.missing)
        self._finish(pending)
        self._on_late(missing)

    def _finish(self, pending: PendingPass) -> None:
        self._pending.remove(pending)
        if pending.timer is not None:
            pending.timer.cancel()
        if not pending.done.done():
            pending.done.set_result(None)
