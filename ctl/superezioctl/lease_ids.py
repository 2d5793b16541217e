"""Leases by the beginning of their id, as people name them."""

from __future__ import annotations

from superezioctl.arguments import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from superezioctl.context import Context

#: What a table shows of an id, and commands take in place of it.
SHOWN_COLUMNS = 8

#: The length of a whole id, which needs no looking up.
_WHOLE = 24


def lease_id(text: str) -> str:
    """Read the id of a lease or the beginning of one, or raise ValueError."""
    if not text:
        raise ValueError("it is empty: name a lease by its id or the beginning of it")
    if text.startswith("-"):
        raise ValueError(f"{text!r} is no lease: options go before the ids")
    return text


def is_whole(text: str) -> bool:
    """Say whether there is nothing to look up."""
    return len(text) >= _WHOLE


def resolve(context: Context, given: Sequence[str]) -> list[str]:
    """Return the whole id for each of `given`; one that no lease begins with stays as it is.

    Raises UsageError, before anything is done, where several leases begin alike.
    """
    if all(map(is_whole, given)):
        return list(given)
    import json  # noqa: PLC0415 - a whole id needs none

    leases = json.loads(context.call("lease.list"))["leases"]
    known = [lease["id"] for lease in leases]
    return [only_match(text, known) or text for text in given]


def only_match(text: str, known: Iterable[str]) -> str | None:
    """Return the one id that is `text` or begins with it, or None. Raises UsageError for more."""
    found = sorted({id_ for id_ in known if id_.startswith(text)})
    if text in found:
        return text
    if len(found) > 1:
        raise UsageError(f"{len(found)} leases begin with {text}: {', '.join(found)}")
    return found[0] if found else None
