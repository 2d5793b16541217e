"""Words and figures that several views share."""

from __future__ import annotations

import pwd
from typing import TYPE_CHECKING

from superezio.quantities import format_size
from superezioctl.columns import shortened

if TYPE_CHECKING:
    from superezioctl.output import Output

#: What stands where a card, a driver or a role does not tell.
NOTHING = "-"

#: How a level, a fitness, a verdict or a severity is coloured.
STYLES = {
    "normal": "good",
    "ok": "good",
    "healthy": "good",
    "warm": "warn",
    "suspect": "warn",
    "probation": "warn",
    "degraded": "warn",
    "warning": "warn",
    "unknown": "warn",
    "detached": "warn",
    "hot": "bad",
    "critical": "bad",
    "lost": "bad",
    "quarantined": "bad",
    "unhealthy": "bad",
    "closed": "good",
    "half-open": "warn",
    "disabled": "warn",
    "open": "bad",
    "forced-open": "bad",
}


def styled(out: Output, word: str) -> str:
    """Return a state in its colour."""
    style = STYLES.get(word)
    return out.style(word, style) if style else word


def figure(value: float | str | None, unit: str = "") -> str:
    """Return a value with its unit, or a dash for what is not known."""
    if value is None:
        return NOTHING
    text = f"{value:.0f}" if isinstance(value, float) else str(value)
    return f"{text} {unit}" if unit else text


def size(value: int | None) -> str:
    """Return bytes for people, or a dash."""
    return NOTHING if value is None else format_size(value)


def place(index: int | None, mig_index: int | None) -> str:
    """Return what a GPU goes by: its index; a MIG instance as NVIDIA's tools write it, `0:1`."""
    if index is None:
        return NOTHING
    return str(index) if mig_index is None else f"{index}:{mig_index}"


def user(uid: int | None) -> str:
    """Return a user's name, or the number where there is no name."""
    if uid is None:
        return NOTHING
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def fit(text: str, width: int) -> str:
    """Return `text` as one line, cut to `width` columns."""
    return shortened(text.replace("\n", " "), width)
