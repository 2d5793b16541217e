"""Marks as they stand in a ring: a name, and behind a space what it is about.

A request that was answered at once has no room for marks. What it came to stands behind the name
of its method in the head of the ring, which is written once for each: `cache.get miss,lead`. So
does the outcome of one that is recorded in short: `lease.acquire outcome no_capacity`.
"""

from __future__ import annotations

from typing import Final

_OUTCOME: Final = "outcome"


def mark_text(name: str, detail: str = "") -> str:
    """Return a mark as it is kept; a `name` is one word."""
    return f"{name} {detail}" if detail else name


def read_mark(text: str) -> tuple[str, str | None]:
    """Return the name of a mark, and what it is about."""
    name, _, detail = text.partition(" ")
    return name, detail or None


def method_text(method: str, came_to: str) -> str:
    """Return the name under which a ring knows those of a method that came to the same."""
    return f"{method} {came_to}"


def read_method(text: str) -> tuple[str, list[str]]:
    """Return the method of such a name, and its marks."""
    method, _, came_to = text.partition(" ")
    return method, marks_of(came_to)


def marks_of(came_to: str) -> list[str]:
    """Return the marks of what a request came to."""
    return came_to.split(",") if came_to else []


def short_text(method: str | None, outcome: str) -> str:
    """Return the name under which a ring knows those of a method that are recorded in short."""
    return method_text(method or "", mark_text(_OUTCOME, outcome))


def is_short(text: str) -> bool:
    """Tell whether a name is one of those."""
    return text.partition(" ")[2].startswith(f"{_OUTCOME} ")


def read_short(text: str) -> tuple[str | None, str]:
    """Return the method of such a name, and the outcome."""
    method, _, came_to = text.partition(" ")
    return method or None, read_mark(came_to)[1] or ""
