"""When a circuit breaker opens, for how long, and what it takes to close again."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from superezio.resilience.call_window import MAX_CALLS, CountWindow, TimeWindow

_SECOND: Final = 1_000_000_000


class BreakerRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configuration of one breaker; times are nanoseconds, rates are from 0 to 1.

    It trips where at least `minimum_calls` are in the `window` and the part of them that failed,
    or that took longer than `slow_call_duration_ns`, reaches its threshold. A COUNT window that is
    smaller than `minimum_calls` decides when it is full.

    It stays OPEN for `open_duration_ns`, twice that with each opening that follows, at most
    `max_open_duration_ns`; one doubling is forgiven for each `healthy_interval_ns` that it stays
    CLOSED. Then it lets `half_open_calls` through. It closes when they all came back and it did
    not trip over them; it opens again when that takes `half_open_wait_ns` (None: as long as it
    was last to stay OPEN).

    A permit is good for less than `permit_ttl_ns`. A Retry-After blocks for `max_block_ns` at most.
    """

    window: CountWindow | TimeWindow = CountWindow()
    minimum_calls: int = 20
    failure_rate_threshold: float = 0.5
    slow_call_rate_threshold: float = 1.0
    slow_call_duration_ns: int = 60 * _SECOND
    open_duration_ns: int = 30 * _SECOND
    max_open_duration_ns: int = 300 * _SECOND
    healthy_interval_ns: int = 60 * _SECOND
    half_open_calls: int = 3
    half_open_wait_ns: int | None = None
    permit_ttl_ns: int = 600 * _SECOND
    max_block_ns: int = 900 * _SECOND

    def __post_init__(self) -> None:
        """Refuse what cannot work, with a ValueError that names the key."""
        for key in ("failure_rate_threshold", "slow_call_rate_threshold"):
            if not 0 < getattr(self, key) <= 1:
                raise ValueError(f"{key} is {getattr(self, key)}: choose more than 0, at most 1")
        for key in (
            "minimum_calls",
            "slow_call_duration_ns",
            "open_duration_ns",
            "healthy_interval_ns",
            "half_open_calls",
            "permit_ttl_ns",
            "max_block_ns",
        ):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}: it has to be positive")
        if self.half_open_calls > MAX_CALLS:
            raise ValueError(f"half_open_calls is {self.half_open_calls}: {MAX_CALLS} at most")
        if self.half_open_wait_ns is not None and self.half_open_wait_ns < 1:
            raise ValueError(
                f"half_open_wait_ns is {self.half_open_wait_ns}: it has to be positive, for a "
                "breaker that stays half-open would never decide"
            )
        if self.max_open_duration_ns < self.open_duration_ns:
            raise ValueError("max_open_duration_ns is less than open_duration_ns: raise it")
        self._refuse_less_than_a_call()

    def _refuse_less_than_a_call(self) -> None:
        """Refuse times in which a call that is not slow might not come back.

        With them a service that is well again would be taken for one that is not, for ever.
        """
        keys = ["permit_ttl_ns", "max_open_duration_ns"]
        if self.half_open_wait_ns is not None:
            keys[1] = "half_open_wait_ns"
        for key in keys:
            if getattr(self, key) <= self.slow_call_duration_ns:
                raise ValueError(
                    f"{key} is {getattr(self, key)}: it has to be more than slow_call_duration_ns "
                    f"({self.slow_call_duration_ns}), or calls could not come back in time"
                )

    def open_wait_ns(self, openings: int) -> int:
        """Return for how long it opens, `openings` having come before that are not forgiven."""
        return min(self.open_duration_ns << openings, self.max_open_duration_ns)
