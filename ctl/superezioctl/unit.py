"""What systemd says of the daemon's unit, for when the daemon does not say anything."""

from __future__ import annotations

import shutil
import subprocess

UNIT = "superezio.service"
_PATIENCE_S = 2.0


def describe() -> list[str]:
    """Return sentences on the unit's state; none where systemd or the unit is not there."""
    state = show()
    if state.get("LoadState") != "loaded":
        return []
    active, sub = state.get("ActiveState", "unknown"), state.get("SubState", "unknown")
    lines = [f"systemd says: {UNIT} is {active} ({sub})" + _result(state) + _status(state)]
    if active == "failed":
        lines.append(
            f"See `journalctl -u superezio -n 50`; `sudo systemctl reset-failed {UNIT} "
            "superezio.socket` before it is started again."
        )
    return lines


def show() -> dict[str, str]:
    """Return properties of the unit; empty where systemd does not answer."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return {}
    wanted = "LoadState,ActiveState,SubState,StatusText,Result,NRestarts"
    try:
        done = subprocess.run(
            [systemctl, "show", UNIT, "--no-pager", f"--property={wanted}"],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {name: value for name, _, value in pairs}


def _result(state: dict[str, str]) -> str:
    result = state.get("Result", "success")
    return "" if result in {"", "success"} else f", result {result}"


def _status(state: dict[str, str]) -> str:
    text = state.get("StatusText", "")
    return f": {text}" if text else ""
