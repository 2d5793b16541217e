"""What a call is, and how amounts of the caller's are read."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from superezio import wire
from superezio.quantities import parse_duration, parse_size

T = TypeVar("T")

_WAITING = wire.AcquireParams | wire.CacheGetParams | wire.LimitAcquireParams


class Call(Struct, Generic[T], frozen=True, kw_only=True):
    """One request to make.

    `idempotent`: doing it twice is doing it once, so that it may be sent again when a connection
    ends before the answer. `wait_s` is how long the daemon may take on purpose; it adds to the
    call's time limit.
    """

    method: str
    result: type[T]
    params: wire.Params | None = None
    idempotent: bool = True
    wait_s: float = 0.0
    idempotency_key: str | None = None
    #: What gives a result back that comes when nobody waits for it any more, where that is needed.
    undo: Callable[[T], Call[Any] | None] | None = None

    def made_again(self, after_s: float) -> Call[T]:
        """Return what to send that long after the call began: it waits no longer than was asked."""
        if not isinstance(self.params, _WAITING) or self.params.wait_ms <= 0:
            return self
        # Not 0, which is not to wait at all, and is answered otherwise.
        left_ms = max(1, self.params.wait_ms - round(after_s * 1000))
        params = replace(self.params, wait_ms=left_ms)
        return replace(self, params=params, wait_s=min(self.wait_s, left_ms / 1000))


def size_bytes(size: int | str) -> int:
    """Return bytes for bytes or for text such as `8GiB`. Raises ValueError."""
    return parse_size(size) if isinstance(size, str) else size


def duration_s(duration: float | str) -> float:
    """Return seconds for seconds or for text such as `1m30s`. Raises ValueError."""
    return parse_duration(duration) if isinstance(duration, str) else float(duration)


def limit_s(duration: float | str | None) -> float | None:
    """Return seconds as `duration_s` does; None stays that."""
    return None if duration is None else duration_s(duration)


def milliseconds(duration: float | str) -> int:
    """Return them for seconds or for text such as `1m30s`. Raises ValueError."""
    return round(duration_s(duration) * 1000)


def refuse_unknown(given: Collection[str], names: frozenset[str]) -> None:
    """Raise TypeError for a name that is no option: a typo must not pass for the default."""
    unknown = sorted(set(given) - names)
    if unknown:
        raise TypeError(
            f"unknown option {', '.join(unknown)}: the options are {', '.join(sorted(names))}"
        )
