"""The revoke ladder: a notice with a deadline, the holder's answer, and at the deadline LOST.

The daemon never signals a holder: it says that the lease is to end, and when. What the holder still
uses after that counts as foreign.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import structs

from superezio.errors import ConflictError, InvalidParamsError, StateNotWritableError
from superezio.quantities import format_duration
from superezio.wire import RevokeReason
from supereziod.deadlines import Deadlines
from supereziod.leases.book import LeaseBook
from supereziod.leases.live_lease import LeaseNews, LiveLease
from supereziod.leases.store import RevokeOrder
from supereziod.observability.events import EventLog

#: A holder that is told to end has a day at most.
MAX_DEADLINE_S: Final = 86_400.0
_MAX_WORDS: Final = 256
_NS_PER_S: Final = 1_000_000_000


class Revoker:
    """Orders leases to end, and ends those that did not in time.

    A lease may have one order of each reason; the earliest deadline counts, and no second order
    makes it later. An order of an admin or the owner is committed before anybody hears of it; one
    that the daemon gives by itself stands even where it cannot be written.
    """

    def __init__(
        self,
        *,
        book: LeaseBook,
        events: EventLog,
        deadline_s: float,
        on_lost: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        self._book = book
        self._tell = LeaseNews(events)
        self._deadline_s = deadline_s
        self._on_lost = on_lost
        self._clock = clock
        self._deadlines: Deadlines[str] = Deadlines(clock=clock, on_due=self._time_is_over)

    def order(
        self,
        lease: LiveLease,
        reason: RevokeReason,
        message: str,
        *,
        deadline_s: float | None = None,
        by_uid: int | None = None,
    ) -> None:
        """Have the lease end within `deadline_s` (as configured, if None).

        Raises InvalidParamsError, or StateNotWritableError where somebody (`by_uid`) asked: then
        nothing changed.
        """
        within_s = self._deadline_s if deadline_s is None else deadline_s
        if not 0 <= within_s <= MAX_DEADLINE_S:
            raise InvalidParamsError(f"deadline_s has to be from 0 to {MAX_DEADLINE_S:,.0f}")
        _check_words("reason", message)
        order = RevokeOrder(
            reason=reason,
            message=message,
            deadline_ns=self._clock() + round(within_s * _NS_PER_S),
            by_uid=by_uid,
        )
        before = lease.order
        known = lease.orders.get(reason)
        if known is not None and known.deadline_ns <= order.deadline_ns:
            return
        self._change(lease, lease.orders | {reason: order}, must_record=by_uid is not None)
        if before is None or order.deadline_ns < before.deadline_ns:
            self._announce(lease, order)

    def withdraw(self, lease: LiveLease, reason: RevokeReason) -> None:
        """Take back the order of that reason, if there is one: another one may stand."""
        before = lease.order
        if before is None or reason not in lease.orders:
            return
        left = {each: order for each, order in lease.orders.items() if each != reason}
        self._change(lease, left, must_record=False)
        after = lease.order
        if after is None:
            self._deadlines.drop(lease.id)
            self._tell(lease, "kept", "may stay after all", reason=reason)
        elif before.reason == reason:
            self._announce(lease, after)

    def answer(self, lease: LiveLease, *, accept: bool, message: str | None) -> None:
        """Note the holder's answer to the order; a refusal is told, and the deadline stands.

        Raises ConflictError (nothing was ordered), InvalidParamsError, StateNotWritableError.
        """
        order = lease.order
        if order is None:
            raise ConflictError(f"there is nothing to acknowledge: lease {lease.id} may stay")
        if message is not None:
            _check_words("message", message)
        answered = structs.replace(
            order, answer="accepted" if accept else "refused", answer_message=message
        )
        if answered == order:
            return
        self._change(lease, lease.orders | {order.reason: answered}, must_record=True)
        words = "will end in time" if accept else "will not end"
        self._tell(
            lease,
            "acknowledged" if accept else "refused",
            f"{words}, says its holder{f': {message}' if message else ''}",
            severity="info" if accept else "warning",
            reason=order.reason,
            remaining_s=self._left_s(order),
        )

    def resume_clocks(self, grace_s: float) -> None:
        """Tell the orders of an earlier run again; each has `grace_s` at least, to be heard."""
        grace_ns = self._clock() + round(grace_s * _NS_PER_S)
        for lease in self._book:
            if not lease.orders:
                continue
            lease.orders = {
                reason: structs.replace(order, deadline_ns=max(order.deadline_ns, grace_ns))
                for reason, order in lease.orders.items()
            }
            order = lease.order
            if order is not None and self._deadlines.get(lease.id) is None:
                self._announce(lease, order)
            elif order is not None:
                self._deadlines.set(lease.id, order.deadline_ns)

    def forget(self, lease_id: str) -> None:
        """Let go of a lease that is over."""
        self._deadlines.drop(lease_id)

    def run_due(self) -> None:
        """End the leases whose holders did not."""
        self._deadlines.run_due()

    def close(self) -> None:
        """Stop: orders stand, for the next run."""
        self._deadlines.close()

    def _change(
        self, lease: LiveLease, orders: dict[RevokeReason, RevokeOrder], *, must_record: bool
    ) -> None:
        # Heat is read anew after a start: an order for its sake is no record.
        kept = tuple(order for order in orders.values() if order.reason != "gpu_critical")
        if kept != lease.record.orders:
            try:
                self._book.amend(
                    lease, "cannot record it, so the lease stays as it is", orders=kept
                )
            except StateNotWritableError:
                if must_record:
                    raise
        lease.orders = orders

    def _announce(self, lease: LiveLease, order: RevokeOrder) -> None:
        self._deadlines.set(lease.id, order.deadline_ns)
        left_s = self._left_s(order)
        self._tell(
            lease,
            "draining",
            f"should end within {format_duration(left_s)}: {order.message}",
            severity="warning",
            reason=order.reason,
            why=order.message,
            deadline_s=left_s,
            by_uid=order.by_uid,
        )

    def _left_s(self, order: RevokeOrder) -> float:
        return max(0, order.deadline_ns - self._clock()) / _NS_PER_S

    def _time_is_over(self, lease_id: str) -> None:
        lease = self._book.get(lease_id)
        order = lease.order
        known = {} if order is None else {"revoked_for": order.reason}
        why = order.message if order is not None else ""
        words = f"it was revoked and did not end in time: {why}"
        self._book.lose(lease, "revoked", words, **known)
        self._on_lost()


def _check_words(name: str, text: str) -> None:
    if len(text) > _MAX_WORDS or not text.isprintable():
        raise InvalidParamsError(
            f"{name} has at most {_MAX_WORDS} characters, and no control characters"
        )
