"""superezioctl rpc: a raw call."""

from __future__ import annotations

import json
import sys

from superezioctl.arguments import Command, Option, Positional, UsageError
from superezioctl.exit_codes import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from superezioctl.context import Context


def rpc(context: Context) -> int:
    """Call a method by name, or list the methods."""
    if context.arguments["list"]:
        return _list(context)
    method = context.arguments["method"]
    if method is None:
        raise UsageError("METHOD is missing: `superezioctl rpc --list` prints those there are")
    params = _params(context.arguments["params"])
    raw = context.call(method, params, wait_s=_wait_s(params), retry=False)
    context.out.document(raw)
    return DONE


def _list(context: Context) -> int:
    methods = json.loads(context.call("rpc.discover"))["methods"]
    rows = [
        {"method": method["name"], "summary": method.get("summary", ""), **method["x-access"]}
        for method in methods
    ]
    if context.out.json:
        context.out.document(json.dumps(rows, ensure_ascii=False).encode())
    else:
        context.out.table(
            ("METHOD", "ROLE", "SUMMARY"),
            [(row["method"], row["role"], row["summary"]) for row in rows],
        )
    return DONE


def _params(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    if text == "-":
        text = sys.stdin.read()
    try:
        params = json.loads(text)
    except ValueError as error:
        raise UsageError(f"PARAMS is not JSON: {error}") from None
    if not isinstance(params, dict):
        raise UsageError("PARAMS has to be a JSON object: parameters go by name")
    return params


def _wait_s(params: dict[str, Any] | None) -> float:
    """Return how long the daemon may take on purpose."""
    wait_ms = (params or {}).get("wait_ms", 0)
    return wait_ms / 1000 if isinstance(wait_ms, int | float) else 0.0


COMMANDS = {
    "rpc": Command(
        rpc,
        options=[Option("--list", "list the methods instead")],
        positionals=[
            Positional("METHOD", "the name of the method", optional=True),
            Positional(
                "PARAMS", "a JSON object, or - to read it from standard input", optional=True
            ),
        ],
        description="Prints the result as JSON. The call is made once and never again by itself.",
        examples=[
            "superezioctl rpc --list",
            "superezioctl rpc system.ping",
            'superezioctl rpc gpu.get \'{"gpu": "0"}\'',
        ],
    )
}
