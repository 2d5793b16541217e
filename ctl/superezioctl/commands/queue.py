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
        what = "taken out of the queue" if answer["done"] else "was not in the queue any more"
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
    """Return the whole ids; one that no waiter begins with stays as it is. Raises UsageError."""
    if all(len(text) >= _WHOLE for text in given):
        return list(given)
    known = [waiter["id"] for waiter in json.loads(context.call("lease.list"))["queue"]]
    return [_only_match(text, known) for text in given]


def _only_match(text: str, known: Sequence[str]) -> str:
    found = sorted(id_ for id_ in known if id_.startswith(text))
    if text in found or not found:
        return text
    if len(found) > 1:
        raise UsageError(f"{len(found)} waiters begin with {text}: {', '.join(found)}")
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
                "the ids of those who wait, or their beginnings",
                convert=_waiter_id,
                rest=True,
            )
        ],
        description="Whoever waits for the lease gets the error `cancelled`: `superezioctl run` "
        "ends with 125. It has to be yours, unless you are an admin. That one does not wait any "
        "more is no failure: the exit code is 0.",
        examples=["superezioctl queue cancel 81f2"],
    ),
}
