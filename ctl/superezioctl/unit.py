"""What systemd says of the daemon's unit, for when the daemon does not say anything."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

from superezio.paths import SYSTEM_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UNIT = "superezio.service"
OVERHEAT = "superezio-overheat.service"
#: There while that unit has the daemon or models stopped.
STOPPED = "/run/superezio-overheat/stopped.json"
_PATIENCE_S = 2.0
#: What supereziod exits with where its configuration is bad.
BAD_CONFIGURATION = "78"
_MEND = "Its configuration is bad: `superezioctl config check` says where. Mend it."


def describe(state: dict[str, str] | None = None) -> list[str]:
    """Return sentences on the unit's state; none where systemd or the unit is not there."""
    state = show() if state is None else state
    if state.get("LoadState") != "loaded":
        return []
    active, sub = state.get("ActiveState", "unknown"), state.get("SubState", "unknown")
    return [f"systemd says: {UNIT} is {active} ({sub})" + _result(state) + _status(state)]


def runs_unreached(state: dict[str, str], socket_path: str) -> bool:
    """Say whether the unit runs, though nobody is reached at its socket: a start does nothing."""
    return state.get("ActiveState") == "active" and socket_path == SYSTEM_SOCKET


def how_to_start(socket_path: str, state: dict[str, str] | None = None) -> list[str]:
    """Return sentences on how a daemon is started that nobody reaches at `socket_path`."""
    state = show() if state is None else state
    waits = _overheat(state)
    if waits:
        return [*describe(state), *waits, *([_MEND] if has_bad_configuration(state) else [])]
    systemctl = _systemctl()
    if state.get("LoadState") == "not-found":
        return [f"Run `supereziod` in another terminal: this host has no {UNIT}."]
    if state.get("ActiveState") == "failed":
        # Past its start limit systemd refuses a plain start.
        why = "`systemctl status superezio` and `journalctl -u superezio -n 50` say why."
        if has_bad_configuration(state):
            why = _MEND
        advice = (
            f"{why} Then `{systemctl} reset-failed superezio.socket {UNIT}` and "
            f"`{systemctl} start superezio`."
        )
        return [*describe(state), advice, *_starting_again()]
    if runs_unreached(state, socket_path):
        restart = f"{systemctl} restart superezio.socket {UNIT}"
        return [f"`{restart}` makes its socket anew; leases stand.", *describe(state)]
    if state.get("ActiveState") == "active":
        elsewhere = f"{UNIT} runs, and is reached at {SYSTEM_SOCKET} unless its unit was edited."
        return [elsewhere, *describe(state)]
    return [
        f"Start it with `{systemctl} start superezio`, or run `supereziod` in another terminal.",
        *describe(state),
    ]


def has_bad_configuration(state: dict[str, str]) -> bool:
    """Say whether the unit has failed for what its files say, which no restart mends."""
    return (state.get("Result"), state.get("ExecMainStatus")) == ("exit-code", BAD_CONFIGURATION)


def is_still_to_start(record: str | None) -> bool:
    """Say whether the daemon is still to be started, by what that unit has put on record.

    Once it starts what was stopped, heat is no reason any more why the daemon does not run.
    """
    return _stage(record) == "stopped"


def members() -> dict[str, Any] | None:
    """Return what programs are told of the unit; None where systemd or the unit is not there.

    `status` is what the process says of itself, and `last_status` what one that is gone had said.
    `overheat` is null unless that unit has the daemon and the models stopped until it is cool.
    """
    state = show()
    if state.get("LoadState") != "loaded":
        return None
    overheat = _standing_still(state)
    text, gone = state.get("StatusText") or None, _is_gone(state)
    return {
        "unit": UNIT,
        "active_state": state.get("ActiveState"),
        "sub_state": state.get("SubState"),
        "result": state.get("Result"),
        "status": None if gone else text,
        "last_status": text if gone else None,
        "overheat": overheat and {"unit": OVERHEAT, "status": overheat.get("StatusText") or None},
    }


def show(unit: str = UNIT) -> dict[str, str]:
    """Return properties of a unit; empty where systemd does not answer."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return {}
    wanted = "LoadState,ActiveState,SubState,StatusText,Result,ExecMainStatus,MainPID"
    try:
        done = subprocess.run(
            [systemctl, "show", unit, "--no-pager", f"--property={wanted}"],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {name: value for name, _, value in pairs}


def _overheat(state: dict[str, str]) -> list[str]:
    """Return sentences on the unit that has the daemon stand still while it is too hot for it."""
    overheat = _standing_still(state)
    if overheat is None:
        return []
    prevention = (
        f"`{_systemctl()} stop superezio-overheat` keeps all of it stopped; to stop {UNIT} does"
        " not, as that has failed already."
    )
    return [
        f"{OVERHEAT} starts the daemon and the models again once the GPUs are cool"
        + _status(overheat),
        prevention,
        "`journalctl -u superezio-overheat` has the rest.",
    ]


def _systemctl() -> str:
    return "systemctl" if os.geteuid() == 0 else "sudo systemctl"


def _standing_still(state: dict[str, str]) -> dict[str, str] | None:
    """Return the properties of that unit; None where the daemon does not stand still for it."""
    if state.get("ActiveState") in {None, "active"} or not is_still_to_start(_record()):
        return None
    overheat = show(OVERHEAT)
    return overheat if overheat.get("ActiveState") == "active" else None


def _starting_again() -> list[str]:
    """Return what that unit says while it starts what was stopped: it may try the daemon, too."""
    if _stage(_record()) != "starting":
        return []
    overheat = show(OVERHEAT)
    if overheat.get("ActiveState") != "active":
        return []
    return [f"{OVERHEAT} is starting what it had stopped{_status(overheat)}"]


def _record() -> str | None:
    try:
        with open(STOPPED, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - pathlib costs 8 ms
            return file.read()
    except OSError:
        return None


def _stage(record: str | None) -> object:
    try:
        stopped = json.loads(record or "null")
    except ValueError:
        return None
    return stopped.get("stage") if isinstance(stopped, dict) else None


def _result(state: dict[str, str]) -> str:
    result = state.get("Result", "success")
    return "" if result in {"", "success"} else f", result {result}"


def _status(state: dict[str, str]) -> str:
    text = state.get("StatusText", "")
    if not text or state.get("ActiveState") == "inactive":
        # Of a unit that was stopped it is of no use to anybody.
        return ""
    return f"; before it ended it had said: {text}" if _is_gone(state) else f": {text}"


def _is_gone(state: dict[str, str]) -> bool:
    """Say whether there is no process: systemd keeps what one had said last."""
    return state.get("ActiveState") in {"inactive", "failed"} or state.get("MainPID") == "0"
