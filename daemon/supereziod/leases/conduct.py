"""What is made of leases that use more than was asked for, or nothing at all."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

from msgspec import Struct

from superezio.errors import StateNotWritableError
from superezio.quantities import format_duration, format_size
from supereziod.leases.book import LeaseBook
from supereziod.leases.ledger import LedgerNotice
from supereziod.leases.live_lease import LeaseNews, LiveLease
from supereziod.leases.revoking import Revoker
from supereziod.observability.events import EventLog

Policy = Literal["notify", "revoke"]


class LeasePolicies(Struct, frozen=True, kw_only=True):
    """What follows when a lease is found wanting: it is told, or it is revoked, too."""

    on_overrun: Policy = "notify"
    on_idle: Policy = "notify"


class Conduct:
    """Tells of such leases, lets the ledger follow the truth, and revokes where policy says so."""

    def __init__(
        self,
        *,
        book: LeaseBook,
        events: EventLog,
        policies: LeasePolicies,
        revoker: Revoker,
    ) -> None:
        self._book = book
        self._tell = LeaseNews(events)
        self._policies = policies
        self._revoker = revoker

    def overran(self, notice: LedgerNotice) -> None:
        """Let a lease reserve what its holder uses, and tell of it once."""
        lease = self._book.find(notice.lease or "")
        if lease is None:
            return
        self._raise_reserve(lease, notice.uuid, notice.lease_bytes)
        if notice.again:
            return
        used, reserved = format_size(notice.amount_bytes), format_size(notice.reserved_bytes)
        why = f"its holder uses {used} and has reserved {reserved}"
        self._tell(
            lease,
            "overrun",
            f"is overrun: {why}",
            severity="warning",
            gpu=notice.uuid,
            reserved_bytes=notice.reserved_bytes,
            actual_bytes=notice.amount_bytes,
        )
        if self._policies.on_overrun == "revoke":
            self._revoker.order(lease, "overrun", why)

    def fell_idle(self, lease: LiveLease, idle_s: float) -> None:
        """Tell of a lease that has used nothing for long."""
        why = f"nothing has been used of it for {format_duration(idle_s)}"
        self._tell(lease, "idle", f"is idle: {why}", idle_s=idle_s)
        if self._policies.on_idle == "revoke":
            self._revoker.order(lease, "idle", why)

    def came_into_use(self, lease: LiveLease) -> None:
        """Take back that a lease is to end for being idle: it is in use again."""
        self._revoker.withdraw(lease, "idle")

    def _raise_reserve(self, lease: LiveLease, uuid: str, reserved_bytes: int) -> None:
        # What cannot be recorded does not count as reserved. The ledger counts the use then, which
        # is as much, and the next pass finds the overrun again.
        with suppress(StateNotWritableError):
            self._book.raise_reserve(lease, uuid, reserved_bytes)
