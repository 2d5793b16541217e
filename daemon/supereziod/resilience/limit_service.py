"""Puts the limits together: from what is kept in the state directory, and what is configured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from supereziod.observability.events import EventLog
from supereziod.resilience.event_rate import EventRate
from supereziod.resilience.limit_memory import Remembered
from supereziod.resilience.limit_registry import LimitRegistry
from supereziod.resilience.limit_rules import LimitBounds, LimitRules
from supereziod.resilience.limit_views import LimitAdministration
from supereziod.resilience.limit_writing import LimitWriting
from supereziod.resilience.limits import RateLimits
from supereziod.resilience.sharing import Audience, SharedNames
from supereziod.resilience.spend import Calendar, SpendBook
from supereziod.resilience.spend_commits import Disk
from supereziod.stopgap import Stopgap
from supereziod.storage import Database, Documents, StorageError

#: Under which name a snapshot is kept.
DOCUMENT = "limit"


class LimitService:
    """All of it: `requests` answers what is asked thousands of times, `administration` the rest."""

    def __init__(
        self,
        database: Database,
        *,
        shared: Mapping[str, LimitRules],
        audiences: Mapping[str, Audience],
        bounds: LimitBounds,
        currency: str,
        events: EventLog,
        boot_id: str,
        disk: Disk | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], float] = time.time,
        ended_in_order: bool = True,
        stopgap: Stopgap | None = None,
    ) -> None:
        """Go on from what the database has, and the stopgap besides.

        `ended_in_order`: what was said last there is what came last (see `Seal`).
        """
        remembered, may_be_lost = _remembered(database)
        known = Remembered(
            remembered,
            is_lost=may_be_lost,
            now_ns=clock(),
            boot_id=boot_id,
            currency=currency,
            ended_in_order=ended_in_order,
        )
        book = SpendBook(
            database, Calendar(wall), currency=currency, lost=may_be_lost, stopgap=stopgap
        )
        book.forget_old()
        self._registry = LimitRegistry(
            shared=shared,
            names=SharedNames("limit", audiences),
            bounds=bounds,
            book=book,
            remembered=known,
            currency=currency,
            clock=clock,
        )
        event_rate = EventRate(clock=clock)
        self.requests = RateLimits(
            self._registry,
            events=events,
            event_rate=event_rate,
            disk=disk or database,
            clock=clock,
        )
        self.administration = LimitAdministration(
            self.requests,
            self._registry,
            book=book,
            remembered=known,
            events=events,
            event_rate=event_rate,
            currency=currency,
            clock=clock,
        )
        self._writing = LimitWriting(
            self.requests,
            self._registry,
            book=book,
            remembered=known,
            boot_id=boot_id,
            currency=currency,
            clock=clock,
        )

    def snapshot(self, *, final: bool) -> bytes | None:
        """Return what is to be found again: see `Keeper`."""
        return self._writing.snapshot(final=final)

    def slices(self) -> Iterator[bytes | None]:
        """Do what a snapshot does a slice at a time: see `Keeper`."""
        return self._writing.slices()

    def configure(
        self,
        shared: Mapping[str, LimitRules],
        audiences: Mapping[str, Audience],
        bounds: LimitBounds,
    ) -> None:
        """Go by another configuration from now on; what is owed stays owed."""
        for named in self._registry.configure(shared, audiences, bounds):
            self.requests.look_again(named)
        self.requests.set_bounds()

    async def start(self) -> None:
        """Say what could not be read."""
        self.administration.tell_what_is_lost()

    async def aclose(self) -> None:
        """Look at nothing more."""
        self.requests.close()


def _remembered(database: Database) -> tuple[bytes | None, bool]:
    """Return what the last life of the daemon left, and whether there may have been more."""
    try:
        return Documents(database).get(DOCUMENT), database.moved_aside is not None
    except StorageError:
        return None, True
