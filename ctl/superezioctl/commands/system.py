"""superezioctl wait, reload, log-level and version: the daemon itself."""

from __future__ import annotations

import time

from superezio import PROTOCOL, __version__
from superezioctl.arguments import Command, Positional, one_of
from superezioctl.exit_codes import DONE, TIMED_OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from superezioctl.context import Context

_LOOK_AGAIN_S = 0.1


def wait(context: Context) -> int:
    """Return when the daemon answers and has had its first readings of the GPUs."""
    import json  # noqa: PLC0415 - a command that waits has the time

    raw = _health_at_last(context)
    health = json.loads(raw)
    if context.out.json:
        context.out.document(raw)
    elif _is_starting(health):
        context.out.note("superezioctl: supereziod answers, but has not read every GPU yet")
    else:
        context.out.line(f"supereziod answers: the host is {health['verdict']}")
    return TIMED_OUT if _is_starting(health) else DONE


def _health_at_last(context: Context) -> bytes:
    """Return the health once the daemon has started, or as it is when the time is over.

    Raises ReplyTimeoutError where there was no answer until then.
    """
    import json  # noqa: PLC0415 - as above

    from superezio import errors  # noqa: PLC0415 - as above

    caller = context.caller(patient=True)
    deadline_ns = caller.deadline_ns()
    try:
        raw = caller.call("health.get")
        while _is_starting(json.loads(raw)):
            left_s = (deadline_ns - time.monotonic_ns()) / 1e9 - _LOOK_AGAIN_S
            if left_s <= 0:
                break
            time.sleep(_LOOK_AGAIN_S)
            caller.timeout_s = left_s
            raw = caller.call("health.get")
    except (
        errors.DaemonNotRunningError,
        errors.ConnectionLostError,
        errors.ShuttingDownError,
    ) as error:
        raise errors.ReplyTimeoutError(f"no daemon came: {error.message}") from error
    finally:
        caller.close()
    return raw


def _is_starting(health: dict[str, Any]) -> bool:
    return any(each["check"] == "starting" and not each["passing"] for each in health["checks"])


def reload(context: Context) -> int:
    """Read the configuration again, and say what that changed."""
    raw = context.call("system.reload")
    if context.out.json:
        context.out.document(raw)
        return DONE
    import json  # noqa: PLC0415 - for people only

    result = json.loads(raw)
    files = ", ".join(result["config_files"]) or "no file: defaults"
    context.out.line(f"configuration read ({files})")
    for title, key in (
        ("in force now", "applied"),
        ("in force after a restart of the daemon", "restart_required"),
    ):
        if result[key]:
            context.out.line(f"{title}: {', '.join(result[key])}")
    if not result["applied"] and not result["restart_required"]:
        context.out.line("nothing has changed")
    # An older daemon names none.
    for warning in result.get("warnings", ()):
        context.out.note(f"superezioctl: warning: {warning}")
    return DONE


def log_level(context: Context) -> int:
    """Show the level, or set it."""
    level = context.arguments["level"]
    raw = context.call("system.log_level", None if level is None else {"level": level})
    if context.out.json:
        context.out.document(raw)
        return DONE
    import json  # noqa: PLC0415 - for people only

    result = json.loads(raw)
    changed = level is not None and result["previous"] != result["level"]
    context.out.line(result["level"] + (f" (was {result['previous']})" if changed else ""))
    return DONE


def version(context: Context) -> int:
    """Show both versions; that there is no daemon is an answer too."""
    import json  # noqa: PLC0415 - needed on every path

    from superezio.errors import (  # noqa: PLC0415 - needed on every path
        DaemonNotRunningError,
        SuperezioError,
    )

    daemon, why = None, ""
    try:
        daemon = json.loads(context.call("system.info"))
    except DaemonNotRunningError:
        why = "not running"
    except SuperezioError as error:
        why = error.message
    if context.out.json:
        found = {"version": __version__, "protocol": PROTOCOL, "daemon": daemon}
        context.out.document(json.dumps(found, ensure_ascii=False).encode())
        return DONE
    context.out.line(f"superezioctl {__version__} (protocol {PROTOCOL})")
    if daemon is None:
        context.out.line(f"supereziod: {why}")
    else:
        context.out.line(
            f"supereziod {daemon['version']} (protocol {daemon['protocol']}, pid {daemon['pid']})"
        )
    return DONE


COMMANDS = {
    "wait": Command(
        wait,
        description="For scripts that have just started the daemon. --timeout says how long; the "
        "exit code is 124 when the time is over, and 0 whatever the verdict.",
        examples=["superezioctl wait --timeout 20s && superezioctl status"],
    ),
    "reload": Command(
        reload,
        description="A file with a mistake in it is refused as a whole and named; what was in "
        "force stays. Users and groups that it names and this host does not know are told of: "
        "they count from the first reload that finds them. So is what is shared with nobody. For "
        "admins.",
        examples=["superezioctl reload"],
    ),
    "log-level": Command(
        log_level,
        positionals=[
            Positional(
                "LEVEL",
                "debug, info, warning, error or critical; without it the level is shown",
                optional=True,
                convert=one_of("debug", "info", "warning", "error", "critical"),
            )
        ],
        description="The level set here holds until the daemon reads its configuration again, or "
        "restarts; logging.level of the configuration holds for good. `superezioctl config show "
        "logging.level` says who has set it. For admins.",
        examples=["superezioctl log-level", "superezioctl log-level debug"],
    ),
    "version": Command(
        version,
        description="The exit code is 0 also when no daemon runs.",
        examples=["superezioctl version", "superezioctl --json version | jq -r .daemon.version"],
    ),
}
