"""Circuit breakers as text."""

from __future__ import annotations

import os
from math import ceil

import msgspec

from superezio.quantities import format_duration
from superezio.wire import Breaker, BreakerList, BreakerRules
from superezioctl.output import Output
from superezioctl.views.text import NOTHING, fit, styled, user

_NAME_COLUMNS = 32
_USER_COLUMNS = 12
_OPENED_FOR = {
    "failure_rate": "too many calls failed",
    "slow_call_rate": "too many calls were slow",
    "retry_after": "the service said that it has had enough for now (429, Retry-After)",
    "half_open_wait": "the calls that were to decide did not come, or not come back, in time",
    "forced_open": "that was ordered (`superezioctl breaker open`)",
}


def show_list(out: Output, raw: bytes) -> None:
    """Print a line for each breaker."""
    breakers = msgspec.json.decode(raw, type=BreakerList).breakers
    if not breakers:
        out.line("no breakers: one is there from its first call on")
        return
    header = ["BREAKER", "STATE", "FOR", "NEXT", "CALLS", "FAILED", "SLOW", "OUT", "REJECTED", "OF"]
    rows = [
        [
            fit(each.name, _NAME_COLUMNS),
            _state(out, each),
            format_duration(ceil(each.state_s)),
            _next(each),
            str(each.calls),
            f"{each.failure_rate:.0%}",
            f"{each.slow_call_rate:.0%}",
            str(each.permits),
            str(each.rejected),
            "shared" if each.shared else fit(user(each.uid), _USER_COLUMNS),
        ]
        for each in breakers
    ]
    out.table(header, rows, right=(4, 5, 6, 7, 8), spare=(6, 7, 8, 2, 4, 3), cut=0)


def show_one(out: Output, raw: bytes) -> None:
    """Print all of one breaker."""
    each = msgspec.json.decode(raw, type=Breaker)
    rows = [
        ("breaker", out.style(each.name, "bold")),
        ("of", "those who share it" if each.shared else user(each.uid)),
        ("state", f"{_state(out, each)}, for {format_duration(ceil(each.state_s))}"),
        *_why(each),
        ("next call", _next_call(each)),
        *_who(each),
        ("calls", f"{each.calls} counted, {each.permits} out, {each.rejected} rejected"),
        ("failed", f"{each.failures} ({each.failure_rate:.1%})"),
        ("slow", f"{each.slow_calls} ({each.slow_call_rate:.1%})"),
        *_rules(each.rules),
    ]
    for name, text in rows:
        out.paragraph(f"{out.style(f'{name:<12}', 'dim')} {text}", indent=13)


def _state(out: Output, breaker: Breaker) -> str:
    return styled(out, breaker.state.replace("_", "-"))


def _who(breaker: Breaker) -> list[tuple[str, str]]:
    """Return who opened it, and on whose word: of a shared one an admin may want to know."""
    rows = []
    if breaker.shared and breaker.opened_by is not None:
        rows.append(("opened by", user(breaker.opened_by)))
    if breaker.reported_by:
        reports = ", ".join(f"{user(each.uid)} {each.reports}" for each in breaker.reported_by)
        rows.append(("reported by", f"{reports} (failures, slow calls and 429 since it closed)"))
    return rows


def _why(breaker: Breaker) -> list[tuple[str, str]]:
    """Return why it is not closed, where that is known."""
    if breaker.opened_for is None:
        return []
    why = _OPENED_FOR[breaker.opened_for]
    if breaker.opened_for == "forced_open" and breaker.opened_by is not None:
        why = f"{user(breaker.opened_by)} ordered it (`superezioctl breaker open`)"
    return [("because", why)]


def _next(breaker: Breaker) -> str:
    """Return in how long a call is let through."""
    if breaker.retry_after_ms is None:
        return "now"
    if breaker.state == "forced_open":
        return NOTHING
    return format_duration(ceil(breaker.retry_after_ms / 1000))


def _next_call(breaker: Breaker) -> str:
    if breaker.retry_after_ms is None:
        if breaker.state == "open":
            return "is let through: its time is over, and the calls to come decide"
        return "is let through"
    if breaker.state == "forced_open":
        return f"is rejected, until `{closing(breaker.name, breaker.uid)}`"
    return f"in {format_duration(ceil(breaker.retry_after_ms / 1000))}"


def closing(name: str, uid: int | None) -> str:
    """Return the command that closes a breaker: `uid` is its owner's, None of a shared one."""
    of_uid = "" if uid in {None, os.getuid()} else f" --uid {uid}"
    return f"superezioctl breaker close {name}{of_uid}"


def _rules(rules: BreakerRules) -> list[tuple[str, str]]:
    window = f"the last {rules.window_calls} calls"
    if rules.window_s is not None:
        window = f"the calls of the last {format_duration(rules.window_s)}"
    wait = "as long as it was open"
    if rules.half_open_wait_s is not None:
        wait = format_duration(rules.half_open_wait_s)
    opens = (
        f"where {_part(rules.failure_rate)} of {window} failed, or {_part(rules.slow_call_rate)}"
        f" took longer than {_time(rules.slow_call_s)}; from {rules.minimum_calls} on"
    )
    then = f"{rules.half_open_calls} calls decide, within {wait}, or it opens again"
    if (rules.half_open_calls or 0) > 1:
        then += " (called seldom? set half_open_calls = 1, or a longer half_open_wait)"
    elif rules.half_open_calls == 1:
        then = f"1 call decides, within {wait}, or it opens again"
    return [
        ("opens", opens),
        ("for", f"{_time(rules.open_s)}, doubling up to {_time(rules.open_limit_s)}"),
        ("then", then),
        ("forgives", f"one doubling for each {_time(rules.healthy_interval_s)} that it is closed"),
        ("a call", f"is not counted when it is not back after {_time(rules.permit_s)}"),
        ("Retry-After", f"is believed up to {_time(rules.block_limit_s)}"),
    ]


def _part(rate: float | None) -> str:
    return NOTHING if rate is None else f"{rate:.0%}"


def _time(seconds: float | None) -> str:
    return NOTHING if seconds is None else format_duration(seconds)
