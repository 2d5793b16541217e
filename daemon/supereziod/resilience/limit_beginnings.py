"""That a limit began with nothing, as it is told to people for as long as that is felt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from superezio.quantities import format_duration
from superezio.resilience.rate_limiter import Budget
from supereziod.resilience.limit_memory import Unknown
from supereziod.resilience.named_limit import NamedLimit

_SECOND: Final = 1_000_000_000
WHY: Final[dict[Unknown | None, str]] = {
    "sudden_end": "the daemon had ended without writing down all that was granted",
    "another_boot": "the host was started anew",
    "lost": "what had been granted cannot be read",
    None: "the daemon had been started without knowing all that was granted",
}


def beginning(named: NamedLimit, budgets: Iterable[Budget], now_ns: int) -> str | None:
    """Return that a limit began with nothing, and why, where something is still missing.

    It says for whom may do so how to have all of it at once.
    """
    empty_at_ns = named.limiter.empty_at_ns
    if empty_at_ns is None:
        return None
    rates = [rate for budget in budgets for rate in budget.rates().values()]
    growing = [r for r in rates if empty_at_ns + r.rebuild_ns(r.burst) > now_ns]
    left_ns = max((rate.tat_ns - now_ns for rate in growing), default=0)
    if left_ns <= 0:
        return None
    began = format_duration((now_ns - empty_at_ns) // _SECOND)
    who = "an admin has" if named.owned.owner is None else "you have"
    return (
        f"it began with nothing {began} ago: {WHY[named.unknown]}. All is there again in"
        f" {format_duration(-(-left_ns // _SECOND))}, or once {who} run"
        f" `superezioctl limit reset {named.owned.name}`."
    )
