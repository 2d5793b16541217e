"""What somebody wrote, repeated in a sentence about it: in short, as it may be of any length."""

from __future__ import annotations

_MOST = 80


def in_short(value: object) -> str:
    """Return `value` as Python writes it, the first 80 characters at most, with `...` if cut."""
    try:
        text = repr(value[: _MOST + 1] if isinstance(value, str) else value)
    except RecursionError:  # dotted keys nest without an end
        return "tables in tables"
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."
