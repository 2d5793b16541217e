"""Leases by the beginning of their id, or by the name of one's own, as people name them."""

from __future__ import annotations

import os

from superezioctl.arguments import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from superezioctl.context import Context

#: What a table shows of an id, and commands take in place of it.
SHOWN_COLUMNS = 8

#: The length of a whole id, which needs no looking up.
_WHOLE = 24
#: So many leases of others are named where one's own are meant.
_SUGGESTED = 3
_HEX = frozenset("0123456789abcdef")


def lease_id(text: str) -> str:
    """Read the id of a lease, the beginning of one, or a name, or raise ValueError."""
    if not text:
        raise ValueError("it is empty: name a lease by its id, the beginning of it, or its name")
    if text.startswith("-"):
        raise ValueError(f"{text!r} is no lease: options go before the ids")
    return text


def is_whole(text: str) -> bool:
    """Say whether there is nothing to look up."""
    return len(text) >= _WHOLE and _HEX.issuperset(text)


def resolve(context: Context, given: Sequence[str]) -> list[str]:
    """Return the whole id for each of `given`; what no lease begins with or is called stays.

    Names are those of the caller's own leases: another's may be called like one's own, and it is
    said by which id to name that. Raises UsageError, before anything is done, where several leases
    could be meant.
    """
    if all(map(is_whole, given)):
        return list(given)
    import json  # noqa: PLC0415 - a whole id needs none

    leases = json.loads(context.call("lease.list"))["leases"]
    mine = os.geteuid()
    named: dict[str, list[str]] = {}
    for lease in leases:
        if lease["uid"] == mine and lease["name"]:
            named.setdefault(lease["name"], []).append(lease["id"])
    known = [lease["id"] for lease in leases]
    found = [_only_meant(text, known, named.get(text, ())) for text in given]
    for text, id_ in zip(given, found, strict=True):
        others = [lease["id"] for lease in leases if lease["name"] == text]
        if id_ is None and others:
            ids = ", ".join(others[:_SUGGESTED]) + (", ..." if len(others) > _SUGGESTED else "")
            context.out.note(f"superezioctl: {text} is no lease of yours; another user's: {ids}")
    return [id_ or text for text, id_ in zip(given, found, strict=True)]


def _only_meant(text: str, known: Iterable[str], called: Sequence[str]) -> str | None:
    """Return the one lease that `text` is the id, the beginning or the name of, or None."""
    by_id = only_match(text, known)
    if by_id == text or not called:
        return by_id
    found = sorted({*called, *([by_id] if by_id else [])})
    if len(found) > 1:
        several = f"{len(found)} leases are called {text}"
        if by_id is not None and by_id not in called:
            several = f"{text} is a name and the beginning of an id, of {len(found)} leases"
        raise UsageError(f"{several}: name one by its id: {', '.join(found)}")
    return found[0]


def only_match(text: str, known: Iterable[str]) -> str | None:
    """Return the one id that is `text` or begins with it, or None. Raises UsageError for more."""
    found = sorted({id_ for id_ in known if id_.startswith(text)})
    if text in found:
        return text
    if len(found) > 1:
        raise UsageError(f"{len(found)} leases begin with {text}: {', '.join(found)}")
    return found[0] if found else None
