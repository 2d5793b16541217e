"""superezioctl trace: what became of a request, with a daemon or from the ring it left."""

from __future__ import annotations

from superezioctl.arguments import Command, Option, Positional, UsageError, positive, seconds
from superezioctl.exit_codes import DONE, FAILED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from superezioctl.context import Context

_LAST = 20
_SLOW_S = 0.1
#: The daemon asks itself each few seconds whether it answers, and to look is a request, too.
_NOISE = ["system.ping", "trace.find"]
#: No file is called so.
_DEFAULT_RING = "-"


def trace(context: Context) -> int:
    """Draw what is known of an id, or list the requests that are looked for."""
    arguments = context.arguments
    id_ = arguments["id"]
    looks = [
        name for name in ("slow", "failed", "last", "method", "since", "all") if arguments[name]
    ]
    if id_ is not None and looks:
        raise UsageError(f"--{looks[0]} finds ids, and {id_} is one: choose either")
    if arguments["over"] is not None and not arguments["slow"]:
        raise UsageError("--over says what --slow is: give both")
    raw = _from_ring(context, id_) if arguments["ring"] else _from_daemon(context, id_)
    if context.out.json:
        context.out.document(raw)
        return DONE if id_ is None or _is_known(raw) else FAILED
    from superezioctl.views import traces  # noqa: PLC0415 - for people only

    if id_ is None:
        traces.show_list(context.out, raw)
        return DONE
    return DONE if traces.show(context.out, raw) else FAILED


def _from_daemon(context: Context, id_: str | None) -> bytes:
    if id_ is not None:
        return context.call("trace.get", {"id": id_})
    return context.call("trace.find", _looked_for(context))


def _from_ring(context: Context, id_: str | None) -> bytes:
    from superezioctl import ring_file  # noqa: PLC0415 - of a daemon that is gone

    path = context.arguments["ring"]
    if path == _DEFAULT_RING:
        path = ring_file.default_path()
    if id_ is None:
        return ring_file.find(path, _looked_for(context))
    return ring_file.trace(path, id_)


def _is_known(raw: bytes) -> bool:
    import json  # noqa: PLC0415 - for programs that ask for an id

    trace = json.loads(raw)
    return bool(trace["records"] or trace["spans"])


def _looked_for(context: Context) -> dict[str, Any]:
    arguments = context.arguments
    params: dict[str, Any] = {"last": arguments["last"] or _LAST, "failed": arguments["failed"]}
    if arguments["slow"]:
        over_s = _SLOW_S if arguments["over"] is None else arguments["over"]
        params["slow_ms"] = over_s * 1000
    if arguments["method"] is not None:
        params["method"] = arguments["method"]
    if arguments["since"] is not None:
        params["since_s"] = arguments["since"]
    if not any(arguments[name] for name in ("all", "slow", "failed", "method")):
        params["omit"] = _NOISE
    return params


COMMANDS = {
    "trace": Command(
        trace,
        positionals=[
            Positional("ID", "a correlation id, or the trace-id of a traceparent", optional=True)
        ],
        options=[
            Option("--slow", "find requests that took long"),
            Option(
                "--over",
                "what --slow means (default: 100ms)",
                metavar="DURATION",
                convert=seconds,
            ),
            Option("--failed", "find requests that failed, or were never answered"),
            Option("--last", "find the newest N (default: 20)", metavar="N", convert=positive),
            Option(
                "--method",
                "find those of a method, or of a family (`lease.`)",
                metavar="METHOD",
            ),
            Option(
                "--since",
                "find those of so long up to now",
                metavar="DURATION",
                convert=seconds,
            ),
            Option("--all", "list the daemon's pings of itself and searches such as this, too"),
            Option(
                "--ring",
                "read this ring file, or by itself the one in the daemon's state directory; no "
                "daemon is needed. An ID goes before it",
                metavar="FILE",
                implied=_DEFAULT_RING,
            ),
        ],
        description="Each request leaves a record: when it was received, what happened to it, how "
        "it ended, and how the GPUs were if it was about a lease. The id is in the error that a "
        "caller got, on the lines of the journal, and on the lease. By itself it lists the newest."
        "\n\nYou see your own requests, admins see all. The daemon keeps them in flight.ring in "
        "its state directory ($SUPEREZIO_STATE_DIR, where that is set), which --ring reads "
        "whatever became of the daemon; the system's is root's.\n\nThe exit code is 1 where "
        "nothing is known of ID.",
        examples=[
            "superezioctl trace",
            "superezioctl trace --last 10",
            "superezioctl trace --slow --over 2s --method lease.",
            "superezioctl trace --failed --since 1h",
            "superezioctl trace job-17",
            "sudo superezioctl trace --failed --ring",
            "sudo superezioctl trace job-17 --ring",
            "superezioctl trace job-17 --ring /backup/flight.ring",
        ],
    )
}
