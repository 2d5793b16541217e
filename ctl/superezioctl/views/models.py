"""Models as text."""

from __future__ import annotations

from superezioctl.exit_codes import BAD_FILE, REFUSED_FOR_NOW
from superezioctl.output import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: What systemd calls it, in words.
_RESULTS = {
    "signal": "killed by a signal",
    "core-dump": "crashed",
    "timeout": "too slow to end, or to start",
    "oom-kill": "killed for lack of memory",
    "protocol": "ended before it was ready",
    "start-limit-hit": "started too often",
    "resources": "systemd could not set it up",
}


def show(out: Output, models: list[dict[str, Any]]) -> None:
    """Print a line for each model, and what is wrong with files and units."""
    if not models:
        out.line("no models: write /etc/superezio/models/NAME.toml for one")
        return
    header = ["MODEL", "UNIT", "AT BOOT", "LEASE", "GPU", "STATUS"]
    out.table(header, list(map(_row, models)), spare=[2], cut=5)
    for model in models:
        for problem in model["problems"]:
            out.line(out.style(problem, "bad"))
    for model in models:
        if model["active_state"] == "failed":
            out.line(out.style(_how_to_go_on(model), "bad"))


def _row(model: dict[str, Any]) -> list[str]:
    state = model["active_state"]
    return [
        model["name"],
        "unknown" if state is None else f"{state} ({model['sub_state']})",
        {None: "unknown", True: "started", False: "no"}[model["enabled"]],
        (model["lease"] or "-")[:8],
        "+".join(map(str, model["gpus"])) or "-",
        model["status"] or _how_it_ended(model),
    ]


def _how_it_ended(model: dict[str, Any]) -> str:
    """Say how the server ended that ran last; nothing of one that runs, or ended well."""
    result, code = model["result"], model["exit_code"]
    if model["main_pid"] is not None or result in {None, "success"}:
        return ""
    if code == REFUSED_FOR_NOW:
        is_given_up = model["active_state"] == "failed"
        return "had to give its lease back" + ("" if is_given_up else ", is started anew")
    if result in {"exit-code", "start-limit-hit"} and code:
        return f"exit code {code}"
    return _RESULTS.get(result, f"result {result}")


def _how_to_go_on(model: dict[str, Any]) -> str:
    name, unit = model["name"], model["unit"].removesuffix(".service")
    tried = f", {model['restarts']} restarts" if model["restarts"] else ""
    failed = f"{name} has failed ({_how_it_ended(model)}{tried}): `journalctl -u {unit} -n 50`"
    reset, start = f"`systemctl reset-failed {unit}`", f"`systemctl start {unit}`"
    is_refused = _is_refused(model)
    if is_refused:
        start = f"{reset} and {start}"
    if model["exit_code"] == BAD_FILE:
        mend = f"Mend the file (`superezioctl model check {name}`), then {start}"
        # Of starts by hand systemd counts each, too, and tells nobody how many there were.
        often = "" if is_refused else f" (after five starts in ten minutes: {reset} before it)"
        return f"{failed} has what it said. {mend}{often}"
    return f"{failed} has what it said. It is started no more before {start}"


def _is_refused(model: dict[str, Any]) -> bool:
    """Say whether systemd may refuse to start it: each start that it has tried is counted.

    Past the limit the result is still that of the last run where that had failed.
    """
    return model["result"] == "start-limit-hit" or bool(model["restarts"])
