"""The units of models, as systemd has them."""

from __future__ import annotations

import shutil
import subprocess
from typing import Final

from msgspec import Struct

from superezioctl.models.model import unit_of

_PATIENCE_S: Final = 5.0
_SHOWN: Final = "Id,ActiveState,SubState,UnitFileState,StatusText,MainPID"


class UnitState(Struct, frozen=True, kw_only=True):
    """What systemd says of one unit."""

    active_state: str
    sub_state: str
    enabled: bool
    status: str
    main_pid: int | None


def states(names: list[str]) -> dict[str, UnitState]:
    """Return the states of the units of these models; none where systemd does not answer."""
    systemctl = shutil.which("systemctl")
    if systemctl is None or not names:
        return {}
    units = {unit_of(name): name for name in names}
    try:
        done = subprocess.run(
            [systemctl, "show", "--no-pager", f"--property={_SHOWN}", *units],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    blocks = (_properties(block) for block in done.stdout.split("\n\n"))
    return {units[block["Id"]]: _state(block) for block in blocks if block.get("Id") in units}


def _properties(block: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in block.splitlines())
    return {name: value for name, _, value in pairs}


def _state(properties: dict[str, str]) -> UnitState:
    pid = int(properties.get("MainPID", "0") or 0)
    return UnitState(
        active_state=properties.get("ActiveState", "unknown"),
        sub_state=properties.get("SubState", "unknown"),
        enabled=properties.get("UnitFileState") == "enabled",
        # systemd keeps what a process that is gone had said last.
        status=properties.get("StatusText", "") if pid else "",
        main_pid=pid or None,
    )
