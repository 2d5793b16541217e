"""What a reload can change in a running daemon, and what waits for a restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import fields

from supereziod.config.schema import Config
from supereziod.config.section import Section

#: Keys, or sections (with a dot at the end), that take effect at once. All others need a restart.
LIVE: Final = (
    "access.",
    "breaker.",
    "cache.shared.",
    "leases.priority_maximum_admin",
    "leases.priority_maximum_user",
    "leases.quota.",
    "limit.block_maximum",
    "limit.keys",
    "limit.forget_after",
    "limit.keys_per_uid",
    "limit.names",
    "limit.names_per_uid",
    "limit.reservations_per_connection",
    "limit.reservations_per_uid",
    "limit.slot_reservations_per_connection",
    "limit.slot_reservations_per_uid",
    "limit.shared.",
    "limit.wait_maximum",
    "limit.waiters",
    "limit.waiters_per_uid",
    "limits.connections",
    "limits.connections_per_uid",
    "limits.connections_reserved",
    "limits.frame_size",
    "limits.in_flight",
    "limits.in_flight_per_connection",
    "limits.in_flight_per_uid",
    "limits.requests_burst",
    "limits.requests_per_second",
    "limits.stall_timeout",
    "limits.write_buffer",
    "limits.read_buffer_all",
    "limits.read_buffer_per_uid",
    "limits.write_buffer_all",
    "limits.write_buffer_per_uid",
    "limits.write_high_water",
    "logging.level",
    # Read by superezio-overheat.service, when it starts.
    "watchdog.cool_retry_interval",
    "watchdog.cool_within",
)


class Changes(Struct, frozen=True, kw_only=True):
    """Keys that differ, sorted; a table that came or went is told by its own name alone."""

    live: list[str]
    restart: list[str]

    def __bool__(self) -> bool:
        return bool(self.live or self.restart)


def diff(old: Config, new: Config) -> Changes:
    """Compare two configurations, key by key."""
    changed = sorted(_differing(old, new))
    live = [key for key in changed if is_live(key)]
    return Changes(live=live, restart=[key for key in changed if key not in live])


def _differing(old: Section, new: Section, prefix: str = "") -> Iterator[str]:
    for field in fields(new):
        key = f"{prefix}{field.encode_name}"
        before, after = getattr(old, field.name), getattr(new, field.name)
        if isinstance(before, Section) and isinstance(after, Section):
            yield from _differing(before, after, f"{key}.")
        elif isinstance(before, dict):
            yield from (f"{key}.{name}" for name in before.keys() ^ after.keys())
            for name in before.keys() & after.keys():
                yield from _differing(before[name], after[name], f"{key}.{name}.")
        elif before != after:
            yield key


def is_live(key: str) -> bool:
    """Whether a reload applies a change of this key."""
    return any(key.startswith(rule) if rule.endswith(".") else key == rule for rule in LIVE)


def flatten(section: Section, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield each key, with its sections before it, and its value."""
    for field in fields(section):
        key, value = f"{prefix}{field.encode_name}", getattr(section, field.name)
        if isinstance(value, Section):
            yield from flatten(value, f"{key}.")
        elif isinstance(value, dict):
            for name, inner in value.items():
                yield from flatten(inner, f"{key}.{name}.")
        else:
            yield key, value
