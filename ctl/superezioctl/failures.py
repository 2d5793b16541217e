"""Errors for people and for programs: a sentence that says what to do, and an exit code."""

from __future__ import annotations

import json
from math import ceil
from typing import TYPE_CHECKING, Any

from superezio import errors
from superezio.quantities import format_duration
from superezioctl import exit_codes, unit, wording
from superezioctl.views.text import place

if TYPE_CHECKING:
    from superezioctl.context import Context

_WHEN = "ask again in "
_LOST = "lost the daemon "


def report(error: Exception, context: Context) -> int | None:
    """Print what went wrong and return the exit code; None for what is no known kind of failure."""
    if not isinstance(error, errors.SuperezioError):
        return None
    context.out.flush()
    if context.out.json:
        context.out.document(document(error).encode())
    return tell(error, context)


def tell(error: errors.SuperezioError, context: Context) -> int:
    """Say on standard error what went wrong, and return the exit code."""
    context.out.flush()
    for line in sentences(error, context):
        context.out.note(line)
    return exit_codes.BY_KIND.get(error.kind, exit_codes.FAILED)


def document(error: errors.SuperezioError) -> str:
    """Return the one JSON document of a run that failed."""
    return json.dumps({"error": members(error)}, ensure_ascii=False)


def members(error: errors.SuperezioError) -> dict[str, Any]:
    """Return what programs are told of an error; where no daemon answered, also of its unit."""
    told = {
        "kind": error.kind,
        "code": error.code,
        "message": error.message,
        "correlation_id": error.correlation_id,
        "retry_after_ms": error.retry_after_ms,
        "data": error.data,
    }
    return told | {"systemd": unit.members()} if _is_unanswered(error) else told


def _is_unanswered(error: errors.SuperezioError) -> bool:
    """Whether the unit is to be looked at, as the daemon did not say anything."""
    if isinstance(error, errors.ConnectionLostError):
        return error.message.startswith(_LOST)
    return isinstance(error, errors.DaemonNotRunningError | errors.ReplyTimeoutError)


def usage_document(message: str) -> str:
    """Return the one JSON document of a command line that cannot be understood."""
    body = {"kind": "usage", "message": message}
    return json.dumps({"error": body}, ensure_ascii=False)


def sentences(error: errors.SuperezioError, context: Context) -> list[str]:
    """Return what to tell a person: what happened, what the unit is doing, what to do."""
    if isinstance(error, errors.DaemonNotRunningError):
        path, state = context.socket_path, unit.show()
        unreached = unit.runs_unreached(state, path)
        return [_no_daemon(error, path, runs=unreached), *unit.how_to_start(path, state)]
    if isinstance(error, errors.ReplyTimeoutError):
        limit = format_duration(context.timeout_s)
        if isinstance(error.__cause__, errors.DaemonNotRunningError):
            none_came = f"superezioctl: no daemon came to {context.socket_path} within {limit}."
            return [none_came, *unit.how_to_start(context.socket_path)]
        return [
            f"superezioctl: the daemon on {context.socket_path} did not answer within {limit}.",
            *(unit.describe() or ["Its log may say why; --timeout waits longer."]),
        ]
    if isinstance(error, errors.ConnectionLostError) and error.message.startswith(_LOST):
        return [
            f"superezioctl: {error.message}",
            *(unit.describe() or unit.how_to_start(context.socket_path)),
        ]
    message = error.message
    if isinstance(error, errors.InvalidParamsError):
        message = wording.with_options(
            message, context.arguments, positionals=context.arguments.positionals
        )
    lines = [f"superezioctl: {wording.with_users(message)}"]
    lines += [f"  {reason}" for reason in _gpu_reasons(error)]
    # A breaker says itself when to ask again.
    if error.retry_after_ms is not None and _WHEN not in message:
        lines.append(f"It may work in {_rounded_up(error.retry_after_ms)}.")
    if error.correlation_id is not None and isinstance(error, errors.InternalError):
        lines.append(f"`superezioctl logs --correlation-id {error.correlation_id}` has the rest.")
    return lines


def in_one_line(error: errors.SuperezioError, context: Context) -> str:
    """Return what to tell a person where little room is taken: what happened, and when to ask."""
    return " ".join(sentences(error, context))


def _rounded_up(wait_ms: int) -> str:
    return format_duration(ceil(wait_ms / 1000) if wait_ms > 1000 else wait_ms / 1000)  # noqa: PLR2004 - a second


def _no_daemon(error: errors.SuperezioError, socket_path: str, *, runs: bool) -> str:
    cause = error.__cause__
    why = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    if runs:
        return f"superezioctl: the daemon runs, and cannot be reached at {socket_path} ({why})."
    return f"superezioctl: the superezio daemon is not running ({socket_path}: {why})."


def _gpu_reasons(error: errors.SuperezioError) -> list[str]:
    placement = error.data.get("placement")
    gpus = placement.get("gpus", []) if isinstance(placement, dict) else []
    return [
        f"GPU {place(gpu['index'], gpu.get('mig_index'))} ({gpu['name']}): {gpu['message']}"
        for gpu in gpus
        if gpu["message"] not in error.message
    ]
