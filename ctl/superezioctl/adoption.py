"""Programs that already run, by the name of their unit or container: the processes to lease for."""

from __future__ import annotations

import os

from superezio.errors import HolderGoneError, NotFoundError
from superezio.holder import start_time
from superezioctl.arguments import Option, UsageError, one_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from superezioctl.context import Context

_PATIENCE_S = 10.0
_ENGINES = ("podman", "docker")
#: Where cgroups are, on hosts with the unified hierarchy alone and on those with both.
_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")

HOLDER = (
    Option("--unit", "the processes of this systemd unit", metavar="NAME"),
    Option("--user", "the unit is one of your own systemd's (systemctl --user)"),
    Option("--container", "the processes of this container, by its name or id", metavar="NAME"),
    Option(
        "--engine",
        "podman or docker: whose container it is (default: whichever knows it)",
        metavar="ENGINE",
        convert=one_of(*_ENGINES),
    ),
)


class Running:
    """A program that runs: what it is called, and the processes to bind to a lease.

    What these have started, and what runs in the same service or container, counts with them.
    """

    def __init__(self, name: str, pids: list[int]) -> None:
        self.name = name
        # By start time, for a pid may be another process's by the time the daemon is asked.
        found = [(pid, start_time(pid)) for pid in pids]
        self.processes = [(pid, started) for pid, started in found if started is not None]
        if not self.processes:
            raise HolderGoneError(f"cannot lease for {name}: it has just ended")


def named(context: Context) -> Running | None:
    """Return the program that --unit or --container names; None if there is neither.

    Raises NotFoundError, HolderGoneError (it does not run) or UsageError.
    """
    unit, container = context.arguments["unit"], context.arguments["container"]
    if unit is None and context.arguments["user"]:
        raise UsageError("--user is for --unit: whose systemd has it")
    if container is None and context.arguments["engine"] is not None:
        raise UsageError("--engine is for --container: whose container it is")
    if unit is not None and container is not None:
        raise UsageError("--unit or --container, not both: one program holds a lease")
    if unit is not None:
        return of_unit(unit, user=context.arguments["user"])
    if container is not None:
        return of_container(container, engine=context.arguments["engine"])
    return None


def acquire(
    context: Context,
    running: Running,
    params: dict[str, Any],
    *,
    ask: Callable[[dict[str, Any]], bytes],
) -> bytes:
    """Lease for a program that runs; as `ask` does, and the name is the program's own."""
    import json  # noqa: PLC0415 - few leases are for programs that are named

    (pid, started), *others = running.processes
    raw = ask({**params, "holder_pid": pid, "name": params["name"] or running.name})
    lease = json.loads(raw)["id"]
    try:
        # To name its start time vouches for the process: it is the one that was meant.
        raw = _attach(context, lease, pid, started)
    except HolderGoneError:
        context.call("lease.release", {"lease": lease})
        raise
    for each in others:
        raw = _attach_if_there(context, lease, *each) or raw
    return raw


def attach(context: Context, lease: str, running: Running) -> bytes:
    """Bind the processes of a program that runs to a lease."""
    (pid, started), *others = running.processes
    raw = _attach(context, lease, pid, started)
    for each in others:
        raw = _attach_if_there(context, lease, *each) or raw
    return raw


def _attach(context: Context, lease: str, pid: int, started: int) -> bytes:
    return context.call("lease.attach", {"lease": lease, "pid": pid, "start_time": started})


def _attach_if_there(context: Context, lease: str, pid: int, started: int) -> bytes | None:
    try:
        return _attach(context, lease, pid, started)
    except HolderGoneError:
        return None


def of_unit(name: str, *, user: bool = False, cgroups: tuple[str, ...] = _CGROUPS) -> Running:
    """Return the main process of a systemd unit, or all of them where it has no main one."""
    systemctl = _path_of("systemctl")
    if systemctl is None:
        raise NotFoundError("cannot look at units: systemctl is not there. --pid names a process")
    scope = ["--user"] if user else []
    wanted = "--property=Id,LoadState,ActiveState,SubState,MainPID,ControlGroup"
    code, out, why = _run([systemctl, *scope, "show", "--no-pager", wanted, "--", name])
    if code:
        raise NotFoundError(f"cannot look at {name}: systemctl says: {why}")
    blocks = out.split("\n\n")
    if len(blocks) > 1:
        raise UsageError(f"--unit: {name} names {len(blocks)} units, and one is meant")
    unit = dict(line.partition("=")[::2] for line in blocks[0].splitlines())
    command = " ".join(["systemctl", *scope])
    shown = unit.get("Id") or name
    if unit.get("LoadState") == "not-found":
        hint = "" if user else "; with --user one of your own systemd's is meant"
        raise NotFoundError(f"there is no unit {shown}: `{command} list-units` lists them{hint}")
    main = int(unit.get("MainPID") or 0)
    pids = [main] if main else _in_cgroup(unit.get("ControlGroup", ""), cgroups)
    if not pids:
        state = f"{unit.get('ActiveState', 'unknown')} ({unit.get('SubState', 'unknown')})"
        raise HolderGoneError(
            f"{shown} has no process to lease for: it is {state}. Start it first: "
            f"`{command} start {shown}`"
        )
    return Running(shown, pids)


def of_container(name: str, *, engine: str | None = None) -> Running:
    """Return the first process of a container."""
    if name.startswith("-"):
        raise UsageError(f"--container: {name!r} is no container")
    engines = [each for each in ([engine] if engine else _ENGINES) if _path_of(each)]
    if not engines:
        wanted = engine or " nor ".join(_ENGINES)
        raise NotFoundError(f"cannot look at containers: {wanted} is not there, or not on the PATH")
    said = []
    for each in engines:
        code, out, why = _run([each, "inspect", "--type=container", f"--format={_STATE}", name])
        if code:
            said.append(f"{each}: {why or 'no answer'}")
            continue
        pid, _, status = out.partition(" ")
        if not pid.isdecimal() or int(pid) == 0:
            raise HolderGoneError(
                f"container {name} does not run: it is {status or 'unknown'}. Start it first: "
                f"`{each} start {name}`"
            )
        return Running(name, [int(pid)])
    raise NotFoundError(f"there is no container {name} that you may see ({'; '.join(said)})")


_STATE = "{{.State.Pid}} {{.State.Status}}"


def _in_cgroup(path: str, roots: tuple[str, ...]) -> list[int]:
    """Return the processes in a unit's cgroup and beneath it, oldest first."""
    found: set[int] = set()
    for root in roots if path.strip("/") else ():
        for directory, _, _ in os.walk(f"{root}{path}"):
            try:
                with open(f"{directory}/cgroup.procs", encoding="ascii") as procs:  # noqa: PTH123 - pathlib costs 8 ms
                    found.update(int(line) for line in procs)
            except OSError:
                continue
    return sorted(found, key=lambda pid: (start_time(pid) or 0, pid))


def _path_of(program: str) -> str | None:
    import shutil  # noqa: PLC0415 - as above

    return shutil.which(program)


def _run(command: list[str]) -> tuple[int, str, str]:
    """Return the exit code of a program, and what it printed."""
    import subprocess  # noqa: PLC0415 - as above

    name = command[0].rpartition("/")[2]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, "", f"{name} did not answer in time"
    except OSError as error:
        return 1, "", f"cannot run {name}: {error.strerror}"
    return done.returncode, done.stdout.strip(), done.stderr.strip().rpartition("\n")[2]
