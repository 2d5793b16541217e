"""superezioctl queue: who waits for a lease, and how to take one out."""

from __future__ import annotations

import json

from superezioctl.arguments import Command, Positional, UsageError
from superezioctl.exit_codes import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from superezioctl.context import Context

#: The length of a whole id, which needs no looking up.
_WHOLE = 16
_HEX = frozenset("0123456789abcdef")


def list_(context: Context) -> int:
    """List those who wait, the next one first."""
    raw = context.call("lease.list")
    if context.out.json:
        waiters = {"queue": json.loads(raw)["queue"]}
        context.out.document(json.dumps(waiters, ensure_ascii=False).encode())
    else:
        from superezioctl.views import leases  # noqa: PLC0415 - for people only

        leases.show_waiters(context.out, raw)
    return DONE


def cancel(context: Context) -> int:
    """Take one waiter out or more; that one does not wait any more is no failure."""
    from superezioctl.one_by_one import do_to_each  # noqa: PLC0415 - not to list them

    def take_out(waiter: str) -> dict[str, Any]:
        return {"waiter": waiter, **json.loads(context.call("lease.cancel", {"waiter": waiter}))}

    def told(answer: dict[str, Any]) -> str:
        what = "taken out of the queue" if answer["done"] else "is not in the queue"
        return f"{answer['waiter']} {what}"

    waiters = _resolve(context, context.arguments["waiter"])
    return do_to_each(context, waiters, do=take_out, told=told, key="waiter")


def _waiter_id(text: str) -> str:
    if not text:
        raise ValueError("it is empty: name a waiter by its id or the beginning of it")
    if text.startswith("-"):
        raise ValueError(f"{text!r} is no waiter: options go before the ids")
    return text


def _resolve(context: Context, given: Sequence[str]) -> list[str]:
    """Return the whole ids, of names too. Raises UsageError for what is none, or several."""
    if all(map(_is_whole, given)):
        return list(given)
    queue = json.loads(context.call("lease.list"))["queue"]
    return [text if _is_whole(text) else _only_match(text, queue) for text in given]


def _is_whole(text: str) -> bool:
    return len(text) == _WHOLE and _HEX.issuperset(text)


def _only_match(text: str, queue: Sequence[dict[str, Any]]) -> str:
    found: list[str] = sorted(
        w["id"] for w in queue if w["id"].startswith(text) or w["name"] == text
    )
    if not found:
        raise UsageError(f"nobody waits who is called {text}, or whose id begins with it")
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} waiters are called {text}, or begin with it: {', '.join(found)}"
        )
    return found[0]


COMMANDS = {
    "queue": Command(
        list_,
        description="The next one is first, each with its id, what it asks for, how long it waits, "
        "how long it will at most, and why it waits. `superezioctl queue cancel` takes one out.",
        examples=["superezioctl queue", "superezioctl --json queue | jq '.queue[].reason'"],
    ),
    "queue cancel": Command(
        cancel,
        positionals=[
            Positional(
                "WAITER",
                "the ids of those who wait, the beginnings of those, or their names",
                convert=_waiter_id,
                rest=True,
            )
        ],
        description="Whoever waits for the lease gets the error `cancelled`: `superezioctl run` "
        "ends with 125. It has to be yours, unless you are an admin. That one with a whole id "
        "does not wait any more is no failure: the exit code is 0.",
        examples=["superezioctl queue cancel 81f2"],
    ),
}
