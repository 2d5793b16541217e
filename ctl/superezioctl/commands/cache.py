"""superezioctl cache: the values that programs share."""

from __future__ import annotations

import json
import os
import sys

from superezioctl.arguments import Command, Option, Positional, UsageError, seconds
from superezioctl.exit_codes import DONE, FAILED
from superezioctl.users import whose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from superezioctl.context import Context


def stats(context: Context) -> int:
    """Show the namespaces."""
    raw = context.call("cache.stats")
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import caches  # noqa: PLC0415 - for people only

        caches.show(context.out, raw)
    return DONE


def get(context: Context) -> int:
    """Print a value as it is, and nothing else."""
    namespace, key = context.arguments["namespace"], context.arguments["key"]
    raw = context.call("cache.get", {"namespace": namespace, "key": key})
    answer = json.loads(raw)
    if answer["status"] == "miss":
        if context.out.json:
            context.out.document(raw)
        context.out.note(f"superezioctl: nothing is cached for {key} in {namespace}")
        return FAILED
    if context.out.json:
        context.out.document(raw)
    else:
        context.out.value(_value(answer))
    return DONE


def set_(context: Context) -> int:
    """Set a value: an argument, a file, or what comes on standard input."""
    arguments = context.arguments
    params: dict[str, Any] = {
        "namespace": arguments["namespace"],
        "key": arguments["key"],
        **_given(_read(arguments["value"], arguments["file"])),
        "ttl_ms": _milliseconds(arguments["ttl"]),
        "grace_ms": _milliseconds(arguments["grace"]),
        "stale_if_error_ms": _milliseconds(arguments["stale_if_error"]),
        "tags": arguments["tag"],
    }
    raw = context.call("cache.set", params)
    if context.out.json:
        context.out.document(raw)
    answer = json.loads(raw)
    if answer["stored"]:
        if answer.get("ttl_ms") is not None:
            from superezio.quantities import format_duration  # noqa: PLC0415 - seldom so long

            most = format_duration(answer["ttl_ms"] / 1000)
            context.out.note(
                f"superezioctl: --ttl was cut to {most}, the longest (cache.ttl_maximum)"
            )
        return DONE
    context.out.note(f"superezioctl: the value was not kept: {too_large(answer.get('max_bytes'))}")
    return FAILED


def too_large(max_bytes: int | None) -> str:
    """Return why a value was not kept."""
    if max_bytes is None:
        most = "cache.value_size allows"
    else:
        from superezio.quantities import format_size  # noqa: PLC0415 - seldom so large

        most = f"the {format_size(max_bytes)} that cache.value_size allows"
    return f"it is larger than {most}, or than its namespace has room for"


def delete(context: Context) -> int:
    """Delete a key, or all with a tag."""
    key, tag = context.arguments["key"], context.arguments["tag"]
    if (key is None) == (tag is None):
        raise UsageError("what shall be deleted? A KEY, or --tag TAG")
    namespace = context.arguments["namespace"]
    what = {"key": key} if tag is None else {"tag": tag}
    return _deleted(context, context.call("cache.delete", {"namespace": namespace, **what}))


def clear(context: Context) -> int:
    """Delete all of a namespace."""
    params = {"namespace": context.arguments["namespace"], "uid": context.arguments["uid"]}
    return _deleted(context, context.call("cache.clear", params))


def _deleted(context: Context, raw: bytes) -> int:
    if context.out.json:
        context.out.document(raw)
    else:
        count = json.loads(raw)["entries"]
        context.out.line(f"deleted {count} {'entry' if count == 1 else 'entries'}")
    return DONE


def _read(value: str | None, file: str | None) -> bytes:
    if value is not None and file is not None:
        raise UsageError("a value is given twice: as VALUE and with --file")
    if value is not None:
        return os.fsencode(value)
    if file is None or file == "-":
        if sys.stdin is None:
            raise UsageError("VALUE is missing, and so is standard input")
        return sys.stdin.buffer.read()
    try:
        with open(file, "rb") as stream:  # noqa: PTH123 - pathlib takes as long to import as to read
            return stream.read()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None


def _given(data: bytes) -> dict[str, str]:
    """Return a value as the daemon takes it: as text where it is one."""
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        from base64 import b64encode  # noqa: PLC0415 - bytes only

        return {"data": b64encode(data).decode()}


def _value(answer: dict[str, Any]) -> bytes:
    text: str | None = answer["text"]
    if text is not None:
        return text.encode()
    from base64 import b64decode  # noqa: PLC0415 - bytes only

    return b64decode(answer["data"])


def _milliseconds(duration_s: float) -> int:
    return round(duration_s * 1000)


_NAMESPACE = Positional("NAMESPACE", "whose keys: one of your own, or one that is shared")
_KEY = Positional("KEY", "what the value goes by")

COMMANDS = {
    "cache stats": Command(
        stats,
        description="HITS is the part of all gets that found a fresh value. An admin sees the "
        "namespaces of all users.",
        examples=[
            "superezioctl cache stats",
            "superezioctl --json cache stats | jq '.namespaces[].counters.hits'",
        ],
    ),
    "cache get": Command(
        get,
        positionals=[_NAMESPACE, _KEY],
        description="The value is printed as it is, with nothing after it. Where there is none the "
        "exit code is 1. Nobody waits for it, and nobody fetches it.",
        examples=[
            "superezioctl cache get prices today > prices.json",
            "superezioctl --json cache get prices today | jq .age_ms",
        ],
    ),
    "cache set": Command(
        set_,
        positionals=[
            _NAMESPACE,
            _KEY,
            Positional("VALUE", "the value (default: what --file or stdin has)", optional=True),
        ],
        options=[
            Option("--file", "take the value from a file", metavar="PATH"),
            Option(
                "--ttl",
                "how long it is fresh, give or take a tenth",
                metavar="DURATION",
                convert=seconds,
                default=3600.0,
            ),
            Option(
                "--grace",
                "how long it is served after that while one caller refreshes it",
                metavar="DURATION",
                convert=seconds,
                default=0.0,
            ),
            Option(
                "--stale-if-error",
                "how long it is served after that where refreshing it fails",
                metavar="DURATION",
                convert=seconds,
                default=0.0,
            ),
            Option("--tag", "a name to delete it by", metavar="TAG", repeat=True),
        ],
        description="It goes to all who wait for the key, too. What is UTF-8 is set as text, else "
        "as bytes.",
        examples=[
            "superezioctl cache set prices today 17.20 --ttl 1h",
            "curl -s https://example.org/prices | superezioctl cache set prices today --tag eu",
        ],
    ),
    "cache delete": Command(
        delete,
        positionals=[_NAMESPACE, Positional("KEY", _KEY.summary, optional=True)],
        options=[Option("--tag", "delete all values with this tag", metavar="TAG")],
        description="What is being fetched meanwhile is not stored.",
        examples=[
            "superezioctl cache delete prices today",
            "superezioctl cache delete prices --tag eu",
        ],
    ),
    "cache clear": Command(
        clear,
        positionals=[_NAMESPACE],
        options=[whose("the namespace of this user")],
        description="A shared one is cleared by admins.",
        examples=["superezioctl cache clear prices"],
    ),
}
