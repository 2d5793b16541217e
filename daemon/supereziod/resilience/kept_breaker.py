"""One breaker that the daemon keeps: whose it is, who opened it and why, and how it is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args

import msgspec

from superezio import wire
from superezio.resilience.breaker_answers import Transition, TransitionReason
from superezio.resilience.circuit_breaker import CircuitBreaker
from supereziod.resilience.breaker_reports import Reports
from supereziod.resilience.permit_holders import User
from supereziod.resilience.sharing import Owned

#: When nothing comes about by itself: after all times.
NEVER: Final = 1 << 63
_MILLISECOND: Final = 1_000_000

#: What else opens one (a restart) leaves it as open as it was, and for what it was.
_OPENED_FOR: Final[Mapping[TransitionReason, wire.BreakerOpenedFor]] = {
    reason: reason for reason in get_args(wire.BreakerOpenedFor)
}


class KeptBreaker:
    """A breaker, and what is known about it. To be changed through its `BreakerBook`."""

    __slots__ = (
        "answer_head", "breaker", "called", "due_ns", "given", "is_gone", "opened_by", "opened_for",
        "owned", "record", "rejected", "reports", "rules", "tail", "tail_of", "used_ns", "user",
    )  # fmt: skip

    def __init__(
        self,
        owned: Owned,
        breaker: CircuitBreaker,
        *,
        given: wire.BreakerRules | None,
        user: User[KeptBreaker] | None,
        now_ns: int,
    ) -> None:
        self.owned = owned
        self.breaker = breaker
        #: What a caller asked for last, where it is a user's own.
        self.given = given
        #: Those that were set last: a half-open breaker goes by them later.
        self.rules = breaker.rules
        #: Whose it is, None where it is shared.
        self.user = user
        self.used_ns = now_ns
        #: Whether a call has asked for it: one may be ordered to be open before.
        self.called = False
        #: Who opened it last, or ordered it to be open; None where it closed since, or time did it.
        self.opened_by: int | None = None
        #: Why it opened last, None where it closed since.
        self.opened_for: wire.BreakerOpenedFor | None = None
        #: Of a shared one, who reported what.
        self.reports = Reports() if user is None else None
        #: Calls that it turned away: that of the breaker begins anew with each of its states.
        self.rejected = 0
        #: Nothing comes about by itself before.
        self.due_ns = NEVER
        #: As it was written down last; None where it has changed since.
        self.record: bytes | None = None
        #: Whether it was forgotten: who still knows it has to find its name anew.
        self.is_gone = False
        #: The answer that hands out a permit, but for its number: up to it, and from it on.
        self.answer_head, _ = self._answer()
        self.tail, self.tail_of = b"", ("", breaker.rules)

    def remember(self, step: Transition, by: int | None) -> None:
        """Take in a transition, which the user `by` caused: who opened it and why, until it closes.

        What was reported against the service ends with that, too.
        """
        if step.state in {"open", "forced_open"}:
            self.opened_by = self.opened_by if by is None else by
            self.opened_for = _OPENED_FOR.get(step.reason, self.opened_for)
        elif step.state != "half_open":
            self.opened_by = None
            self.opened_for = None
        if step.state == "closed" and self.reports is not None:
            self.reports.clear()

    def answer_tail(self) -> bytes:
        """Return the end of an answer, as it is in this state and by these rules."""
        state, rules = self.tail_of
        breaker = self.breaker
        if breaker.state != state or breaker.rules is not rules:
            _, self.tail = self._answer()
            self.tail_of = (breaker.state, breaker.rules)
        return self.tail

    def _answer(self) -> tuple[bytes, bytes]:
        breaker = self.breaker
        permit = wire.BreakerPermit(
            name=self.owned.name,
            permit=0,
            state=breaker.state,
            shared=self.user is None,
            expires_in_ms=breaker.rules.permit_ttl_ns // _MILLISECOND,
        )
        # No name has a quotation mark in it.
        head, number, tail = msgspec.json.encode(permit).partition(b'"permit":0')
        return head + number[:-1], tail
