"""What breakers go by: rules as callers and the configuration write them, and bounds.

They are written in seconds, under the names of the wire; what is not written is as the default
says. A value that cannot work is refused by its name, with what would do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import asdict

from superezio import wire
from superezio.resilience.breaker_rules import BreakerRules
from superezio.resilience.call_window import CountWindow, TimeWindow
from supereziod.resilience.sharing import Audience

_SECOND: Final = 1_000_000_000
_DAY_S: Final = 86_400

#: What each may be, from and to. Nothing below a millisecond: a timer would be no more exact.
_CONFIGURED: Final[dict[str, tuple[float, float]]] = {
    "window_calls": (1, 100_000),
    "window_s": (1, _DAY_S),
    "minimum_calls": (1, 100_000),
    "failure_rate": (0.001, 1),
    "slow_call_rate": (0.001, 1),
    "slow_call_s": (0.001, _DAY_S),
    "open_s": (0.001, _DAY_S),
    "open_limit_s": (0.001, _DAY_S),
    "half_open_calls": (1, 100_000),
    "half_open_wait_s": (0.001, _DAY_S),
    "healthy_interval_s": (0.001, _DAY_S),
    "permit_s": (0.001, _DAY_S),
    "block_limit_s": (0.001, _DAY_S),
}
#: Those that a caller chooses take memory, and a moment when they change.
_OWN: Final = _CONFIGURED | {
    "window_calls": (1, 1000),
    "window_s": (1, 600),
    "half_open_calls": (1, 1000),
}
#: The names that the pure part has for them.
_DURATIONS: Final = {
    "slow_call_s": "slow_call_duration_ns",
    "open_s": "open_duration_ns",
    "open_limit_s": "max_open_duration_ns",
    "half_open_wait_s": "half_open_wait_ns",
    "healthy_interval_s": "healthy_interval_ns",
    "permit_s": "permit_ttl_ns",
    "block_limit_s": "max_block_ns",
}


class BreakerLimits(Struct, frozen=True, kw_only=True):
    """What one user may take. A breaker of one's own is forgotten `idle_s` after its last call."""

    breakers_per_uid: int = 256
    permits_per_connection: int = 1024
    permits_per_uid: int = 8192
    idle_s: float = 3600.0


class BreakerSettings(Struct, frozen=True, kw_only=True):
    """What the configuration says of breakers: `shared` has the rules of those, by name."""

    default: BreakerRules = BreakerRules()
    shared: Mapping[str, BreakerRules] = {}
    audiences: Mapping[str, Audience] = {}
    limits: BreakerLimits = BreakerLimits()


def own_rules(given: wire.BreakerRules, default: BreakerRules) -> BreakerRules:
    """Return the rules that a caller wants for a breaker of its own. Raises ValueError."""
    return _overlaid(given, default, bounds=_OWN, called=str)


def configured_rules(
    given: wire.BreakerRules, default: BreakerRules, *, called: Callable[[str], str] = str
) -> BreakerRules:
    """Return the rules that the configuration wants. Raises ValueError.

    `called` turns a name of the wire into the key in the file.
    """
    return _overlaid(given, default, bounds=_CONFIGURED, called=called)


def on_wire(rules: BreakerRules) -> wire.BreakerRules:
    """Return rules as they are written."""
    window = rules.window
    durations = {
        name: None if (ns := getattr(rules, key)) is None else ns / _SECOND
        for name, key in _DURATIONS.items()
    }
    return wire.BreakerRules(
        window_calls=window.calls if isinstance(window, CountWindow) else None,
        window_s=window.seconds if isinstance(window, TimeWindow) else None,
        minimum_calls=rules.minimum_calls,
        failure_rate=rules.failure_rate_threshold,
        slow_call_rate=rules.slow_call_rate_threshold,
        half_open_calls=rules.half_open_calls,
        **durations,
    )


def _overlaid(
    given: wire.BreakerRules,
    default: BreakerRules,
    *,
    bounds: Mapping[str, tuple[float, float]],
    called: Callable[[str], str],
) -> BreakerRules:
    own = {name: value for name, value in asdict(given).items() if value is not None}
    for name, value in own.items():
        least, most = bounds[name]
        if not least <= value <= most:
            raise ValueError(f"{called(name)} has to be from {least} to {most}, not {value}")
    values: dict[str, float | None] = {**asdict(on_wire(default)), **own}
    if "window_calls" in own and "window_s" in own:
        raise ValueError(f"choose one of {called('window_calls')} and {called('window_s')}")
    if "window_calls" in own:
        values["window_s"] = None
    _refuse_contradictions(values, called)
    return BreakerRules(
        window=_window(values),
        minimum_calls=_whole(values["minimum_calls"]),
        failure_rate_threshold=values["failure_rate"] or 0.0,
        slow_call_rate_threshold=values["slow_call_rate"] or 0.0,
        half_open_calls=_whole(values["half_open_calls"]),
        **{key: _nanoseconds(values[name]) for name, key in _DURATIONS.items()},  # type: ignore[arg-type]
    )


def _refuse_contradictions(
    values: Mapping[str, float | None], called: Callable[[str], str]
) -> None:
    """Raise ValueError, in the names that were written, for what the pure part refuses."""

    def refuse_less(name: str, other: str, than: str) -> None:
        raise ValueError(
            f"{called(name)} ({values[name]:g}) has to be {than} {called(other)}"
            f" ({values[other]:g})"
        )

    if (values["open_limit_s"] or 0) < (values["open_s"] or 0):
        refuse_less("open_limit_s", "open_s", "at least")
    decides = "open_limit_s" if values["half_open_wait_s"] is None else "half_open_wait_s"
    for name in ("permit_s", decides):
        if (values[name] or 0) <= (values["slow_call_s"] or 0):
            refuse_less(name, "slow_call_s", "more than")


def _window(values: Mapping[str, float | None]) -> CountWindow | TimeWindow:
    if values["window_s"] is not None:
        return TimeWindow(seconds=_whole(values["window_s"]))
    return CountWindow(calls=_whole(values["window_calls"]))


def _whole(value: float | None) -> int:
    return int(value or 0)


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * _SECOND)
