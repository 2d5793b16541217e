"""Limits as text: what is left of what, for whom, until when."""

from __future__ import annotations

import msgspec

from superezio.quantities import format_duration, format_money
from superezio.wire import LimitBudget, LimitList, LimitState, SpendWindow
from superezioctl.output import Output
from superezioctl.views.text import NOTHING, fit, user

_HEAD = ["LIMIT", "FOR", "OF", "LEFT", "AT ONCE", "RATE", "BLOCKED"]
#: A terminal narrower than that has not much room for keys and users, which people name.
_NARROW = 100
_WHOM_COLUMNS = 10
_VERY_NARROW = 75


def show_list(out: Output, raw: bytes) -> None:
    """Print a line for each budget of each limit."""
    found = msgspec.json.decode(raw, type=LimitList).limits
    if not found:
        out.line("there is no limit: a program makes one with its first limit.acquire")
        return
    brief = _is_very_narrow(out)
    _table(out, [row for state in found for row in _rows(state, brief=brief)])
    for state in found:
        _tell_left_out(out, state, skipped=0)


def show_one(out: Output, raw: bytes, *, skipped: int) -> None:
    """Print one limit: its budgets, its money, and who uses it."""
    state = msgspec.json.decode(raw, type=LimitState)
    whose = "shared" if state.shared else f"of {user(state.uid)}"
    used = f"{state.reservations} reserved, {state.waiters} waiting"
    out.paragraph(f"limit {state.name}, {whose}: {used}")
    _table(out, _rows(state, brief=_is_very_narrow(out)))
    if state.note is not None:
        out.line(state.note)
    _tell_left_out(out, state, skipped=skipped)


def _tell_left_out(out: Output, state: LimitState, *, skipped: int) -> None:
    if not state.left_out:
        return
    shown = {(each.scope, each.scope_name) for each in state.budgets}
    shown |= {(each.scope, each.scope_name) for each in state.spend}
    whose = "" if state.uid is None else f" --uid {state.uid}"
    out.line(
        f"{state.name} has {state.left_out} scopes more (users, keys or sessions):"
        f" superezioctl limit show {state.name}{whose} --skip {skipped + len(shown)}"
    )


def _table(out: Output, rows: list[list[str]]) -> None:
    if out.on_terminal and out.width < _NARROW:
        for row in rows:
            row[1] = fit(row[1], _WHOM_COLUMNS)
    # Names that cannot be told apart say less than no rate.
    spare = (4, 5, 6) if _is_very_narrow(out) else (4,)
    out.table(_HEAD, rows, spare=spare, cut=(0, 2))


def _is_very_narrow(out: Output) -> bool:
    return out.on_terminal and out.width < _VERY_NARROW


def _rows(state: LimitState, *, brief: bool) -> list[list[str]]:
    rows = [_budget(state, budget) for budget in state.budgets]
    rows += [_spend(state, window, brief=brief) for window in state.spend]
    return rows or [[_name(state), NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING]]


def _budget(state: LimitState, budget: LimitBudget) -> list[str]:
    def amount(of: int) -> str:
        return format_money(of, state.currency) if budget.dimension == "money" else str(of)

    rate = NOTHING
    if budget.limit is not None and budget.period_ms is not None:
        period = format_duration(budget.period_ms / 1000).replace(" ", "")
        rate = f"{amount(budget.limit)} / {period}"
    blocked_ms = budget.blocked_ms
    return [
        _name(state),
        _whom(budget),
        "slots" if budget.dimension == "concurrency" else budget.dimension,
        amount(budget.available),
        amount(budget.burst),
        rate,
        NOTHING if blocked_ms is None else f"for {format_duration(blocked_ms / 1000)}",
    ]


def _spend(state: LimitState, window: SpendWindow, *, brief: bool) -> list[str]:
    left = max(0, window.cap_micros - window.spent_micros)
    return [
        _name(state),
        _whom(window),
        f"money/{window.window}" if brief else f"money of {window.key}",
        format_money(left, state.currency),
        NOTHING,
        f"{format_money(window.cap_micros, state.currency)} / {window.window}",
        NOTHING,
    ]


def _whom(line: LimitBudget | SpendWindow) -> str:
    if line.scope == "host":
        return "all"
    if line.scope == "user":
        return user(int(line.scope_name)) if line.scope_name.isdecimal() else line.scope_name
    return f"{line.scope} {line.scope_name or '(none)'}"


def _name(state: LimitState) -> str:
    return state.name if state.shared else f"{state.name} ({user(state.uid)})"
