"""Values as a configuration file has them: sizes and durations as text, where that is exact."""

from __future__ import annotations

from typing import Final

from superezio.quantities import parse_duration, parse_size

#: What a value of the configuration is when it is written.
Written = bool | int | float | str | list[int | str] | None

_SIZES: Final = (("GiB", 30), ("MiB", 20), ("KiB", 10))
_DURATIONS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))


def written(name: str, value: object) -> Written:
    """Return the value of the field `name` as a file would have it; it is read as it was."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, list):
        return list(value)
    if not isinstance(value, int | float):
        raise TypeError(f"{name} cannot be written: {value!r}")
    if name.endswith("_bytes"):
        return _size(int(value))
    return _duration(value) if name.endswith("_s") else value


def _size(size: int) -> str | int:
    for unit, power in _SIZES:
        text = f"{size >> power}{unit}"
        if size and size % (1 << power) == 0 and parse_size(text) == size:
            return text
    return size


def _duration(seconds: float) -> str | float:
    left_ms, parts = round(seconds * 1000), []
    for unit, length_ms in _DURATIONS:
        many, left_ms = divmod(left_ms, length_ms)
        if many:
            parts.append(f"{many}{unit}")
    text = "".join(parts) or "0s"
    return text if parse_duration(text) == seconds else seconds
