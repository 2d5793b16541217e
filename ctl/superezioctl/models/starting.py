"""Telling systemd how far a model has come, and when it is ready."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from typing import Final

from superezio.quantities import format_duration
from superezioctl.minding.family import Process
from superezioctl.models.model import Ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BETWEEN_TRIES_MS: Final = 250
#: What one try may take: a server that takes a connection and says nothing is not waited for.
_TCP_TRY_S: Final = 2.0
_COMMAND_TRY_S: Final = 10.0
#: What a server that was not ready in time gets to end in.
_END_MS: Final = 30_000


class ServiceManager:
    """systemd, where it has started this process and listens; else nobody."""

    def __init__(self, address: str | None) -> None:
        self._address = address

    def __bool__(self) -> bool:
        return bool(self._address)

    def tell(self, *assignments: str) -> None:
        """Send `NAME=value` assignments. One that does not listen any more is none of a model's."""
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            try:
                sock.sendto("\n".join(assignments).encode(), address)
            except OSError:
                return


class Readiness:
    """The work of the process beside a server: it looks until that is ready, or ends it."""

    def __init__(
        self,
        *,
        command: Process,
        ready: Ready,
        manager: ServiceManager,
        environment: Mapping[str, str],
        say: Callable[[str], None],
        when_ready: Callable[[], None],
    ) -> None:
        self._command = command
        self._ready = ready
        self._manager = manager
        self._environment = dict(environment)
        self._say = say
        self._when_ready = when_ready

    def __call__(self) -> None:
        """Return when the server is ready, or has ended."""
        deadline = time.monotonic() + self._ready.timeout_s
        while not _ended_within(self._command, _BETWEEN_TRIES_MS):
            if self._answers():
                self._manager.tell("READY=1", "STATUS=ready")
                self._when_ready()
                return
            if time.monotonic() >= deadline:
                self._give_up()
                return

    def _answers(self) -> bool:
        address, command = self._ready.address, self._ready.command
        try:
            if address is not None:
                with socket.create_connection(address, timeout=_TCP_TRY_S):
                    return True
            done = subprocess.run(
                command or (),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=2,
                timeout=_COMMAND_TRY_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def _give_up(self) -> None:
        limit = format_duration(self._ready.timeout_s)
        told = f"not ready: waited {limit} for {self._ready.in_words}"
        self._manager.tell(f"STATUS={told}")
        self._say(f"{told}; ending it")
        self._command.send(signal.SIGTERM)
        if not _ended_within(self._command, _END_MS):
            self._command.send(signal.SIGKILL)


def start_beside(
    ready: Ready,
    *,
    manager: ServiceManager,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    when_ready: Callable[[], None],
) -> None:
    """Let a process beside this one, which becomes the server, look for when it is ready."""
    from superezioctl.minding import detached  # noqa: PLC0415 - not without a condition

    command = Process.open(os.getpid())
    work = Readiness(
        command=command,
        ready=ready,
        manager=manager,
        environment=environment,
        say=say,
        when_ready=when_ready,
    )
    detached.start_beside(work, keep=[command.pidfd])
    os.close(command.pidfd)


def _ended_within(process: Process, wait_ms: int) -> bool:
    poll = select.poll()
    poll.register(process.pidfd, select.POLLIN)
    return bool(poll.poll(wait_ms))
