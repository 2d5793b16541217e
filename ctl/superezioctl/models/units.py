"""The units of models, as systemd has them."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from typing import Final

from msgspec import Struct

from superezioctl.exit_codes import RUN_FAILED
from superezioctl.models.model import unit_of
from superezioctl.models.programs import Account, Place

_PATIENCE_S: Final = 5.0
_SHOWN: Final = (
    "Id,ActiveState,SubState,UnitFileState,StatusText,MainPID,"
    "Result,ExecMainCode,ExecMainStatus,NRestarts"
)
#: CLD_EXITED: the main process ended by itself, and the status is its exit code.
_EXITED: Final = "1"
_SURROUNDINGS: Final = "Id,LoadState,User,SupplementaryGroups,Environment,WorkingDirectory"
#: What systemd gives a service of the system that is given none.
SERVICE_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class UnitState(Struct, frozen=True, kw_only=True):
    """What systemd says of one unit; `result` and `exit_code` are of what ran last."""

    active_state: str
    sub_state: str
    enabled: bool
    status: str
    main_pid: int | None
    result: str = "success"
    exit_code: int | None = None
    restarts: int = 0


def states(names: list[str]) -> dict[str, UnitState]:
    """Return the states of the units of these models; none where systemd does not answer."""
    return {name: _state(block) for name, block in _show(names, _SHOWN).items()}


def places(names: list[str]) -> dict[str, Place]:
    """Return where the servers of these models run; none where there is no unit for that."""
    return {
        name: _place(block)
        for name, block in _show(names, _SURROUNDINGS).items()
        if block.get("LoadState") == "loaded"
    }


def _show(names: list[str], properties: str) -> dict[str, dict[str, str]]:
    """Return properties of the units of these models; none where systemd does not answer."""
    systemctl = shutil.which("systemctl")
    if systemctl is None or not names:
        return {}
    units = {unit_of(name): name for name in names}
    try:
        done = subprocess.run(
            [systemctl, "show", "--no-pager", f"--property={properties}", *units],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    blocks = (_properties(block) for block in done.stdout.split("\n\n"))
    return {units[block["Id"]]: block for block in blocks if block.get("Id") in units}


def _properties(block: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in block.splitlines())
    return {name: value for name, _, value in pairs}


def _state(properties: dict[str, str]) -> UnitState:
    pid = int(properties.get("MainPID", "0") or 0)
    exit_code = None
    if not pid and properties.get("ExecMainCode") == _EXITED:
        exit_code = int(properties.get("ExecMainStatus", "0") or 0)
    # systemd keeps what a process that is gone had said last: it counts where that said why.
    counts = pid or exit_code == RUN_FAILED
    return UnitState(
        active_state=properties.get("ActiveState", "unknown"),
        sub_state=properties.get("SubState", "unknown"),
        enabled=properties.get("UnitFileState") == "enabled",
        status=properties.get("StatusText", "") if counts else "",
        main_pid=pid or None,
        result=properties.get("Result", "success") or "success",
        exit_code=exit_code,
        restarts=int(properties.get("NRestarts", "0") or 0),
    )


def _place(properties: dict[str, str]) -> Place:
    try:
        assigned = shlex.split(properties.get("Environment", ""))
    except ValueError:
        assigned = []
    paths = [each.removeprefix("PATH=") for each in assigned if each.startswith("PATH=")]
    groups = properties.get("SupplementaryGroups", "").split()
    return Place(
        path=paths[-1] if paths else SERVICE_PATH,
        # systemd marks one that may be missing.
        directory=properties.get("WorkingDirectory", "").removeprefix("!") or "/",
        account=Account.of(properties.get("User") or "root", groups),
    )
