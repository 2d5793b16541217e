"""Grants that cost money: on the disk first, then told.

The disk takes milliseconds, and the event loop waits for none of them. What is granted meanwhile is
committed together, with the next wait for the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Protocol

from superezio.errors import CancelledRequestError
from superezio.wire import LimitReservation
from supereziod.resilience.limit_accounts import Holder
from supereziod.resilience.limit_answers import not_recorded
from supereziod.resilience.limit_reservations import NOTHING, Reservations
from supereziod.resilience.named_limit import NamedLimit
from supereziod.resilience.spend import SpendBook
from supereziod.storage import StorageError


class Disk(Protocol):
    """Where what is committed gets over a power cut."""

    def soon(self, act: Callable[[], None]) -> None:
        """Call `act` once what is asked now has been taken in."""

    def sync(self, done: Callable[[StorageError | None], None]) -> None:
        """Call `done` once all that is committed is on the disk, or with why it is not."""


class Grant(NamedTuple):
    """Who is to be told of which reservation, after how long."""

    named: NamedLimit
    holder: Holder
    number: int
    waited_ms: int
    future: asyncio.Future[LimitReservation]

    def tell(self) -> None:
        """Tell of it."""
        self.future.set_result(
            LimitReservation(
                name=self.named.owned.name,
                reservation=self.number,
                shared=self.named.owned.owner is None,
                waited_ms=self.waited_ms,
            )
        )


class SpendCommits:
    """The grants whose money is not on the disk yet. Loop-owned."""

    def __init__(
        self,
        book: SpendBook,
        disk: Disk,
        reservations: Reservations,
        *,
        clock: Callable[[], int],
        on_undone: Callable[[NamedLimit], None],
    ) -> None:
        self._book = book
        self._disk = disk
        self._reservations = reservations
        self._clock = clock
        self._on_undone = on_undone
        self._new: list[Grant] = []
        self._is_busy = False

    def add(self, grant: Grant) -> None:
        """Tell of a grant that has spent what it costs, once that is on the disk."""
        self._new.append(grant)
        if not self._is_busy:
            self._is_busy = True
            self._disk.soon(self._begin)

    def _begin(self) -> None:
        grants, self._new = self._new, []
        try:
            self._book.write([row for each in grants for row in each.named.rows_of(each.number)])
        except StorageError as error:
            self._end(grants, error)
        else:
            self._disk.sync(lambda fault: self._end(grants, fault))

    def _end(self, grants: list[Grant], fault: StorageError | None) -> None:
        for grant in grants:
            self._settle(grant, fault)
        if self._new:
            self._begin()
        else:
            self._is_busy = False

    def _settle(self, grant: Grant, fault: StorageError | None) -> None:
        named, future = grant.named, grant.future
        if grant.holder.find(grant.number) is None:
            # Its connection has ended meanwhile, and with it what it had.
            if not future.done():
                future.set_exception(CancelledRequestError("the connection was closed"))
        elif fault is None and not future.done():
            grant.tell()
        else:
            self._reservations.close(grant.holder, grant.number, self._clock(), NOTHING)
            self._on_undone(named)
            if fault is not None and not future.done():
                future.set_exception(not_recorded(named.owned.name, fault))
