"""superezioctl guard: a command that calls a service, as one of all that call it on this host."""

from __future__ import annotations

import os
import sys

from superezio.errors import (
    ConnectionLostError,
    DaemonNotRunningError,
    InvalidParamsError,
    NotFoundError,
    ReplyTimeoutError,
    SuperezioError,
)
from superezio.traceparent import handed_on
from superezioctl.arguments import Command, Positional
from superezioctl.exit_codes import DONE, NOT_EXECUTABLE, NOT_FOUND, REFUSED_FOR_NOW, RUN_FAILED
from superezioctl.guard_options import OPTIONS, check, lifetime, limit_params, milliseconds
from superezioctl.guarding import child, shields, uncounted
from superezioctl.guarding.report import ID_VARIABLE, TRACE_VARIABLE, VARIABLE, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from superezioctl.arguments import Arguments
    from superezioctl.context import Context

#: A command that may run without the daemon waits no longer for one that does not answer.
_FIND_OUT_S = 2.0


def guard(context: Context) -> int:
    """Run a command if the service may be called; return its exit code, or why it may not."""
    arguments = context.arguments
    check(arguments)
    id_ = context.one_id()
    # Before the first call, so that all of them are a part of it.
    trace = handed_on(id_, os.environ.get(TRACE_VARIABLE))
    context.traceparent = trace.told
    wait_s: float = arguments["wait"]
    if arguments["when_absent"] == "open":
        context.be_quick(_FIND_OUT_S)
    ask = shields.asking(context.call, wait_s=max(wait_s, arguments["fill_wait"]))
    try:
        value = _value(ask, arguments)
        if value is not None and value.is_there:
            _print(value.content or b"")
            return DONE
        return _guarded(context, ask, value, trace.header)
    except (DaemonNotRunningError, ConnectionLostError, ReplyTimeoutError) as error:
        # The command was not started: what comes after it raises nothing.
        if arguments["when_absent"] == "closed":
            from superezioctl import failures  # noqa: PLC0415 - paid for on failure only

            failures.report(error, context)
            context.out.note("With --when-absent open the command runs unguarded then.")
            return RUN_FAILED
        hangs = isinstance(error, ReplyTimeoutError)
        why = "the daemon does not answer" if hangs else "there is no daemon"
        context.out.note(f"superezioctl guard: {why}; the command runs unguarded")
        return _unguarded(context, trace.header)
    except SuperezioError as error:
        if error.retry_after_ms is None:
            raise
        from superezioctl import failures  # noqa: PLC0415 - paid for on failure only

        if context.out.json:
            context.out.document(failures.document(error).encode())
        context.out.note(failures.in_one_line(error, context))
        context.out.note(f"`superezioctl trace {id_}` shows what became of this call.")
        return REFUSED_FOR_NOW


def _unguarded(context: Context, traceparent: str) -> int:
    with Report() as report:
        try:
            return _run(context, report, traceparent, keep=False).code
        except OSError as error:
            return _cannot_run(context, error)


def _guarded(
    context: Context, ask: shields.Ask, value: shields.Value | None, traceparent: str
) -> int:
    """Take room and permit, run the command, and give all back."""
    after = shields.Afterwards(context.out.note)
    try:
        room = _room(ask, context)
        try:
            permit = shields.Permit(ask, context.arguments["name"])
        except SuperezioError:
            if room is not None:
                after.tell(room.give_back)
            raise
    except SuperezioError:
        if value is not None:
            # The next one that waits may have more luck: this says nothing of the service.
            after.tell(lambda: value.give_up(None))
        raise
    with Report() as report:
        try:
            ended = _run(context, report, traceparent, keep=value is not None)
        except OSError as error:
            after.tell(lambda: permit.settle("ignore"))
            if room is not None:
                after.tell(room.give_back)
            if value is not None:
                after.tell(lambda: value.give_up(None))
            return _cannot_run(context, error)
        return _settled(context, ended, report, after, value=value, room=room, permit=permit)


def _settled(
    context: Context,
    ended: child.Ended,
    report: Report,
    after: shields.Afterwards,
    *,
    value: shields.Value | None,
    room: shields.Room | None,
    permit: shields.Permit,
) -> int:
    report.read()
    outcome = _outcome(ended, report, context.arguments)
    retry_after_ms = report.retry_after_ms
    after.tell(lambda: permit.settle(outcome, retry_after_ms))
    used = {"tokens": report.tokens, "money_micros": report.money_micros}
    if outcome == "throttled":
        used["retry_after_ms"] = retry_after_ms
    if room is not None:
        after.tell(lambda: room.settle({k: v for k, v in used.items() if v is not None}))
    for complaint in report.complaints:
        context.out.note(f"superezioctl guard: {complaint}")
    return ended.code if value is None else _shared(context, ended, outcome, after, value)


def _shared(
    context: Context,
    ended: child.Ended,
    outcome: str,
    after: shields.Afterwards,
    value: shields.Value,
) -> int:
    """Let those who wait have what the command printed, or the error."""
    if outcome == "success" and ended.code == 0:
        if ended.output is None:
            context.out.note("superezioctl guard: it printed too much to be kept")
            after.tell(lambda: value.give_up(None))
        else:
            _keep(context, ended.output, after, value)
        return ended.code
    if ended.interrupted:
        after.tell(lambda: value.give_up(None))
        return ended.code
    name = context.arguments["command"][0].rpartition("/")[2]
    old = after.tell(lambda: value.give_up(f"{name} ended with {ended.code}"))
    if isinstance(old, bytes) and not ended.output:
        context.out.note("superezioctl guard: the command failed; this is the value of before")
        _print(old)
        return DONE
    return ended.code


def _keep(context: Context, output: bytes, after: shields.Afterwards, value: shields.Value) -> None:
    """Deliver what the command printed, and say where that came to nothing."""
    stored = after.tell(lambda: value.keep(output, lifetime(context.arguments)))
    if isinstance(stored, dict) and not stored["accepted"]:
        context.out.note(
            "superezioctl guard: the command took longer than --lead, so that its output was not"
            " cached"
        )
    elif isinstance(stored, dict) and not stored["stored"]:
        from superezioctl.commands.cache import too_large  # noqa: PLC0415 - seldom

        outdated = stored.get("not_stored") == "outdated"
        why = "it was deleted meanwhile" if outdated else too_large(stored.get("max_bytes"))
        context.out.note(f"superezioctl guard: its output was not cached: {why}")


def _value(ask: shields.Ask, arguments: Arguments) -> shields.Value | None:
    if arguments["cache_key"] is None:
        return None
    try:
        return shields.Value(
            ask,
            namespace=arguments["namespace"] or arguments["name"],
            key=arguments["cache_key"],
            wait_ms=milliseconds(arguments["fill_wait"]),
            lead_ms=milliseconds(arguments["lead"]),
        )
    except InvalidParamsError as error:
        # The daemon speaks of a name and a key, of which the limit has others.
        if error.message.startswith("key "):
            error.message = f"cache_{error.message}"
        elif error.message.startswith("name ") and arguments["namespace"]:
            error.message = f"namespace{error.message.removeprefix('name')}"
        raise


def _room(ask: shields.Ask, context: Context) -> shields.Room | None:
    """Return room in the limit; None where there is no limit of that name, and none is asked of."""
    try:
        room = shields.Room(ask, limit_params(context.arguments))
    except NotFoundError as error:
        name = context.arguments["name"]
        error.message = (
            f"there is no limit {name} yet: --rate 60/1m, --money-rate 5.00/1h or"
            " --token-rate 90000/1m makes one of your own; one of several users is"
            f" [limit.shared.{name}] of the configuration"
        )
        raise
    if not room.exists:
        return None
    uncounted.tell(context, ask)
    return room


def _run(context: Context, report: Report, traceparent: str, *, keep: bool) -> child.Ended:
    command: list[str] = context.arguments["command"]
    context.out.flush()
    environment = {
        **os.environ,
        VARIABLE: report.path,
        ID_VARIABLE: context.one_id(),
        TRACE_VARIABLE: traceparent,
    }
    return child.run(command, environment, keep=keep)


def _outcome(ended: child.Ended, report: Report, arguments: Arguments) -> str:
    if report.retry_after_ms is not None or ended.code in arguments["throttled_code"]:
        return "throttled"
    told = report.outcome
    if told is not None:
        return told
    if ended.interrupted or ended.code in arguments["ignore_code"]:
        return "ignore"
    return "failure" if ended.code else "success"


def _cannot_run(context: Context, error: OSError) -> int:
    command = context.arguments["command"][0]
    context.out.note(f"superezioctl guard: cannot run {command}: {error.strerror}")
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    return NOT_FOUND if missing else NOT_EXECUTABLE


def _print(content: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


COMMANDS = {
    "guard": Command(
        guard,
        options=OPTIONS,
        positionals=[
            Positional("NAME", "the breaker and the limit"),
            Positional("COMMAND", "the command and its arguments", rest=True),
        ],
        description="The command runs if the breaker NAME lets calls through and the limit NAME "
        "has room, if there is one. --rate and its like make one of your own; one of several "
        "users, with slots and with caps on money by day and month, is [limit.shared.NAME] of the "
        "configuration. A failure (an exit code that is not 0) counts for the breaker, "
        "which opens for everybody who uses it where there are too many; a command that is "
        "cancelled (Ctrl-C, a hangup, `kill`, a pipe that is closed: 129, 130, 131, 141 and 143) "
        "does not. With --cache-key, one of all who ask runs the command and the others get what "
        "it prints.\n\n"
        "The command may tell more in the file that $SUPEREZIO_GUARD_REPORT names, a line each: "
        "tokens=412 and money=0.02 (what was used), retry_after=30s (the service has had enough "
        "for so long), outcome=success, failure or ignore. $SUPEREZIO_CORRELATION_ID is the id of "
        "the call, made up where --correlation-id gives none: `superezioctl trace` draws by it "
        "what became of the call, from the cache to how it was settled. $TRACEPARENT (W3C Trace "
        "Context) is taken over and handed on, and made where there is none.\n\n"
        "Standard input and output are the command's, with --json too, which is for errors; "
        "signals are handed on to it. All after NAME is the command, with `--` before it or "
        "without: the options of guard stand before the command.\n\n"
        "The exit code is the command's own; one that a signal killed has guard die of it, too, so "
        "that Ctrl-C ends a loop. 75: not now, the breaker is open or the limit has no "
        "room; standard error says when. 125: it was not started for another reason. 126: it "
        "cannot be executed. 127: it is not there.",
        examples=[
            "superezioctl guard openai -- curl -fsS https://api.example.com/v1/models",
            "superezioctl guard openai --tokens 900 --wait 30s -- ./ask.sh 'a question'",
            "superezioctl guard weather --cache-key paris --ttl 10m -- ./weather.sh paris",
            "superezioctl guard mine --rate 60/1m -- ./call.sh",
        ],
        failure_code=RUN_FAILED,
    )
}
