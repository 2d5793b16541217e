"""Who reported what speaks against the service of a shared breaker, for an administrator to see.

Those whom the configuration names are believed: a breaker is shared so that what one of them finds
out holds for all, and a single 429 opens it for all as it is. So who opened it, and on whose word,
is shown, and who is not to be believed can be taken out of the audience.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, Final

from superezio import wire
from superezio.resilience.circuit_breaker import CircuitBreaker
from supereziod.resilience.permit_holders import Holder

#: So many of the newest reports are remembered, of so many users are they told.
_REMEMBERED: Final = 100
_TOLD: Final = 8


class Reports:
    """The newest failures, slow calls and 429s of one breaker, by who reported them."""

    __slots__ = ("_uids",)

    def __init__(self) -> None:
        self._uids: deque[int] = deque(maxlen=_REMEMBERED)

    def take(
        self,
        holder: Holder[Any],
        outcome: wire.CallOutcome,
        breaker: CircuitBreaker,
        permit_id: int,
        now_ns: int,
    ) -> None:
        """Note what a holder is about to settle, if it speaks against the service."""
        permit = breaker.permit(permit_id)
        if permit is None or permit.holder is not holder:
            return
        if breaker.state in {"forced_open", "disabled"}:
            return
        if outcome != "throttled":
            if permit.generation != breaker.generation or outcome == "ignore":
                return
            took_ns = now_ns - permit.started_ns
            if outcome == "success" and took_ns <= breaker.rules.slow_call_duration_ns:
                return
        self._uids.append(holder.user.uid)

    def clear(self) -> None:
        """Forget all of it: the service is well."""
        self._uids.clear()

    def by_uid(self) -> list[wire.BreakerReports]:
        """Return who reported how much of it, who reported most first."""
        return [
            wire.BreakerReports(uid=uid, reports=count)
            for uid, count in Counter(self._uids).most_common(_TOLD)
        ]
