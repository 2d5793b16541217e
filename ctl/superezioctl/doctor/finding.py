"""What a check found: a state, a sentence, and the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "info", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` and `status` are stable names; `action` is None where nothing is to be done."""

    check: str
    status: Status
    message: str
    action: str | None = None


def ok(check: str, message: str) -> Finding:
    """Return that a check passes."""
    return Finding(check, "ok", message)


def info(check: str, message: str, action: str) -> Finding:
    """Return what is as it should be, or somebody's wish, and good to know."""
    return Finding(check, "info", message, action)


def warn(check: str, message: str, action: str) -> Finding:
    """Return what works, but not as it should."""
    return Finding(check, "warn", message, action)


def fail(check: str, message: str, action: str) -> Finding:
    """Return what keeps the GPUs from being shared."""
    return Finding(check, "fail", message, action)
