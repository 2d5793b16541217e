"""superezioctl run: a command on a leased GPU.

This process asks for the lease, is its holder, and then becomes the command (exec). So the lease
is bound before the command begins, ends with it however it ends, and a restart of the daemon does
not concern the command; signals, job control, the terminal and the exit code are the command's own,
for nothing stands between it and whoever started it. What becomes of the lease is followed by a
process beside it (`superezioctl.minding`).
"""

from __future__ import annotations

import json
import os
import sys

from superezio.errors import HolderGoneError
from superezio.holder import start_time
from superezioctl import run_options, waiting
from superezioctl.arguments import Command, Positional
from superezioctl.exit_codes import NOT_EXECUTABLE, NOT_FOUND, RUN_FAILED
from superezioctl.placement_options import LEASE, lease_params

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from superezioctl.caller import Caller
    from superezioctl.context import Context
    from superezioctl.minding.contained import Attendant


def run(context: Context) -> int:
    """Get a lease and become the command; returns only when the command cannot be executed."""
    return launch(context)


def launch(
    context: Context,
    *,
    leased: Callable[[str, dict[str, str]], None] | None = None,
    tell: Callable[..., None] | None = None,
) -> int:
    """Do what `run` does; `leased` is told of the lease, and may change the environment.

    `tell` sends assignments to the service manager that has started this process, if one has: a
    command whose lease is taken through no fault of its own is one that it starts anew.
    """
    run_options.check(context.arguments)
    caller = context.caller()
    caller.correlation_id = context.correlation_id or os.urandom(16).hex()
    attendant = _attendant(context, caller)
    try:
        raw = _acquire(context, caller, attendant)
        lease = _confirmed(caller, raw, None if attendant is None else attendant.pid)
        if lease["priority"] < context.arguments["priority"]:
            from superezioctl import remarks  # noqa: PLC0415 - most ask for none

            remarks.on_priority(context, lease, command="run")
        command: list[str] = context.arguments["command"]
        environment = _environment(lease)
        if context.out.json:
            context.out.note(json.dumps({"lease": lease}, ensure_ascii=False))
        caller.close()
        if attendant is not None:
            command = attendant.begin(lease["id"], environment)
        else:
            _start_minder(context, caller, lease["id"], environment, tell=tell)
        if leased is not None:
            leased(lease["id"], environment)
        try:
            _become(command, environment)
        except OSError as error:
            context.out.note(f"superezioctl run: cannot run {command[0]}: {error.strerror}")
            caller.call("lease.release", {"lease": lease["id"]})
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            return NOT_FOUND if missing else NOT_EXECUTABLE
    finally:
        caller.close()


def _acquire(context: Context, caller: Caller, attendant: Attendant | None) -> bytes:
    """Wait for the lease, showing the place in the queue, over restarts of the daemon too."""
    params = lease_params(context.arguments)
    # Until it becomes the command, this process is called superezioctl: say what it will be.
    name = context.arguments["command"][0].rpartition("/")[2]
    if attendant is not None:
        params["holder_pid"] = attendant.pid
        name = attendant.container_name or name
    params["name"] = params["name"] or name
    return waiting.acquire(context, caller, params, command="superezioctl run")


def _confirmed(caller: Caller, raw: bytes, holder: int | None) -> dict[str, Any]:
    """Vouch for the holder (this process, if None), where the daemon could not be sure of it."""
    lease: dict[str, Any] = json.loads(raw)
    if lease["holder_confirmed"]:
        return lease
    mine = start_time() if holder is None else start_time(holder)
    for process in lease["holder"]:
        if process["start_time"] == mine:
            vouched = {"lease": lease["id"], "pid": process["pid"], "start_time": mine}
            confirmed: dict[str, Any] = json.loads(caller.call("lease.attach", vouched))
            return confirmed
    caller.call("lease.release", {"lease": lease["id"]})
    raise HolderGoneError("the lease was bound to another process than this one: try again")


def _start_minder(
    context: Context,
    caller: Caller,
    lease: str,
    environment: dict[str, str],
    *,
    tell: Callable[..., None] | None,
) -> None:
    """Let a process beside this one follow the lease, and do what --on-revoke says."""
    what: str = context.arguments["on_revoke"]
    if what == "ignore":
        return
    from superezioctl.minding import beside, detached  # noqa: PLC0415 - not with ignore

    command = beside.Process.open(os.getpid())
    work = beside.Work(
        command=command,
        group=os.getpgrp(),
        lease=lease,
        socket_path=context.socket_path,
        correlation_id=caller.correlation_id,
        on_revoke=what,
        grace_s=context.arguments["revoke_grace"],
        environment=environment,
        as_json=context.out.json,
        tell=tell,
    )
    detached.start_beside(work, keep=[command.pidfd])
    os.close(command.pidfd)


def _attendant(context: Context, caller: Caller) -> Attendant | None:
    """Start what holds the lease until a container does, if the command runs a container."""
    arguments = context.arguments
    if arguments["container"] is None:
        return None
    from superezioctl.minding import contained  # noqa: PLC0415 - for containers only

    plan = contained.Plan(
        engine=arguments["container"],
        command=arguments["command"],
        passing=arguments["pass_gpus"] or "cdi",
        socket_path=context.socket_path,
        timeout_s=context.timeout_s,
        correlation_id=caller.correlation_id,
        on_revoke=arguments["on_revoke"],
        grace_s=arguments["revoke_grace"],
        as_json=context.out.json,
    )
    return contained.Attendant(plan)


def _become(command: list[str], environment: dict[str, str]) -> NoReturn:
    import signal  # noqa: PLC0415 - a queue may be long, and waits without it

    # Python ignores these, and what is ignored stays so over an exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe(command[0], command, environment)  # noqa: S606 - a command line is what was asked for


def _environment(lease: dict[str, Any]) -> dict[str, str]:
    environment = {**_own_environment(), **lease["environment"]}
    environment.setdefault("SUPEREZIO_LEASE", lease["id"])
    return environment


def _own_environment() -> dict[str, str]:
    """Return the environment as it was before Python, in a C locale, added LC_CTYPE to it."""
    environment = dict(os.environ)
    with open("/proc/self/environ", "rb") as initial:  # noqa: PTH123 - pathlib costs 8 ms
        had_it = any(entry.startswith(b"LC_CTYPE=") for entry in initial.read().split(b"\0"))
    if not had_it:
        environment.pop("LC_CTYPE", None)
    return environment


COMMANDS = {
    "run": Command(
        run,
        options=(*LEASE, *run_options.ON_REVOKE, *run_options.CONTAINER),
        positionals=[Positional("COMMAND", "the command and its arguments", rest=True)],
        description="The command sees only the GPUs that were leased (CUDA_VISIBLE_DEVICES), and "
        "the lease ends with it. With --split, SUPEREZIO_TENSOR_SPLIT has the proportions for "
        "llama.cpp's --tensor-split. While there is no room, --wait keeps a place in the queue, "
        "and it waits for a daemon that does not run; Ctrl-C gives it up. Without --name the lease "
        "has the name of the command.\n\n"
        "A lease may be revoked, with a deadline: a GPU is too hot, or an admin needs it. "
        "superezioctl becomes the command, and leaves a small process of its own beside it that "
        "hears of that, says so on standard error and does what --on-revoke says; with ignore "
        "there is none, and nothing is said. With "
        "exec=COMMAND the environment has SUPEREZIO_LEASE, SUPEREZIO_PID (of the command), "
        "SUPEREZIO_REVOKE_REASON and SUPEREZIO_REVOKE_DEADLINE_S (the seconds left). SIGTERM goes "
        "to the command, to its process group if it has made one, and, when it has ended, to what "
        "it left running.\n\n"
        "With --container the command is `podman run` or `docker run`, to which the GPUs are "
        "added. The container's first process holds the lease, also with -d: it ends with the "
        "container, and not with the command. A revoked lease stops the container. One that is "
        "started again later is another, and has no lease.\n\n"
        "The exit code is the command's own. 125: it was not started, and why is on standard "
        "error. 126: it cannot be executed. 127: it is not there.\n\n"
        "With --json the lease is printed on standard error as one line, and so is each notice; "
        "standard output is the command's.",
        examples=[
            "superezioctl run --vram 8GiB -- python train.py --epochs 3",
            "superezioctl run --vram 5GiB --gpus 2 --wait 10m --name nightly -- ./train.sh",
            "superezioctl run --vram 20GiB --split --model llama -- ./serve.sh",
            "superezioctl run --vram 8GiB --revoke-grace 20s -- ./llama-server -m model.gguf",
            "superezioctl run --vram 8GiB --on-revoke='exec=kill -USR1 $SUPEREZIO_PID' ./train.sh",
            "superezioctl run --vram 8GiB --container podman -- podman run -d --name whisper IMAGE",
        ],
        failure_code=RUN_FAILED,
    )
}
