"""superezioctl metrics: figures for a monitoring system."""

from __future__ import annotations

from superezioctl.arguments import Command, Option
from superezioctl.exit_codes import DONE, FAILED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.context import Context

#: What is written where no daemon answers: figures of an earlier run would pass for those of now.
#: The words are those of the daemon.
DOWN = (
    "# HELP superezio_up 1: the daemon answered; 0 is written by superezioctl where none did.\n"
    "# TYPE superezio_up gauge\n"
    "superezio_up 0.0\n"
)


def metrics(context: Context) -> int:
    """Print the metrics, or put them into a file."""
    path = context.arguments["textfile"]
    if path is not None:
        return _to_file(context, path)
    raw = context.call("metrics.get")
    if context.out.json:
        context.out.document(raw)
    else:
        context.out.raw(_text(raw))
    return DONE


def _to_file(context: Context, path: str) -> int:
    from superezio.errors import (  # noqa: PLC0415 - a file has the time
        ConnectionLostError,
        DaemonNotRunningError,
        ReplyTimeoutError,
        ShuttingDownError,
    )
    from superezioctl import textfile  # noqa: PLC0415 - as above

    try:
        raw = context.call("metrics.get")
        textfile.replace(path, _text(raw))
    except (ConnectionLostError, DaemonNotRunningError, ReplyTimeoutError, ShuttingDownError):
        try:
            textfile.replace(path, DOWN)
        except OSError as error:
            context.out.note(_not_written(path, error))
        raise
    except OSError as error:
        _fail(context, _not_written(path, error))
        return FAILED
    if context.out.json:
        context.out.document(raw)
    return DONE


def _text(raw: bytes) -> str:
    import json  # noqa: PLC0415 - programs that take the document need none

    text: str = json.loads(raw)["text"]
    return text


def _not_written(path: str, error: OSError) -> str:
    return f"superezioctl metrics: cannot write {path}: {error.strerror}"


def _fail(context: Context, message: str) -> None:
    if context.out.json:
        import json  # noqa: PLC0415 - a failure has the time

        body = {"kind": "file_not_written", "message": message}
        context.out.document(json.dumps({"error": body}).encode())
    context.out.note(message)


COMMANDS = {
    "metrics": Command(
        metrics,
        options=[
            Option(
                "--textfile",
                "write them to this file instead, all at once; node_exporter reads files whose "
                "names end in .prom",
                metavar="PATH",
            )
        ],
        description="Prints what the daemon knows of GPUs, leases, health and itself in the text "
        "format of Prometheus; docs/metrics.md lists it. What is not known is left out.\n\n"
        "The daemon has no network: --textfile puts the metrics where node_exporter's textfile "
        "collector finds them. The file is replaced as a whole and readable for all. Where no "
        "daemon answers it says superezio_up 0 and nothing else, and the exit code is as for "
        "every command.",
        examples=[
            "superezioctl metrics",
            "superezioctl metrics --textfile /var/lib/node_exporter/superezio.prom",
            "superezioctl --json metrics | jq -r .text",
        ],
    )
}
