"""What is done when a lease is revoked: end the command, or let a command of the user decide."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` imports enum, for 2 ms
import os
import time

from superezio.quantities import format_duration
from superezioctl.minding.family import Family, Process
from superezioctl.minding.spawned import Spawned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from superezioctl.minding.follower import Revocation

    class Response(Protocol):
        """What a minder does about notices."""

        def heard(self, revocation: Revocation) -> None:
            """A notice came."""

        def changed(self, revocation: Revocation) -> None:
            """The notice that stands was looked at again: its deadline may be another."""

        def withdrawn(self) -> None:
            """The lease is kept after all."""

        def command_ended(self) -> None:
            """The command has ended."""

        def turn(self) -> None:
            """Do what is due."""

        @property
        def due_ns(self) -> int | None:
            """When `turn` has something to do by itself."""

        @property
        def watched(self) -> list[int]:
            """Descriptors at whose events `turn` has something to do."""

        @property
        def busy(self) -> bool:
            """Whether something is left to do although the command has ended."""


#: How long before its lease is lost a command is killed: its VRAM has to be back by then.
_MARGIN_NS = 1_000_000_000
#: Of a notice that is shorter than ten times that.
_MARGIN_SHARE = 10


def kill_ns(told_ns: int, deadline_ns: int, grace_s: float | None) -> int | None:
    """Return when to kill what was told at `told_ns` that its lease is lost at `deadline_ns`.

    `grace_s` after that, and at the latest shortly before the deadline; an infinite one is never.
    """
    if grace_s == float("inf"):
        return None
    left_ns = max(0, deadline_ns - told_ns)
    last_ns = deadline_ns - min(_MARGIN_NS, left_ns // _MARGIN_SHARE)
    return last_ns if grace_s is None else min(last_ns, told_ns + round(grace_s * 1e9))


class Termination:
    """SIGTERM, and SIGKILL when `kill_ns` says.

    SIGTERM goes to the command, and to its process group if it has made one of its own. What it
    leaves behind when it ends (a script whose program goes on) is told after it. SIGKILL is for
    all of them.
    """

    def __init__(
        self,
        *,
        command: Process,
        group: int,
        grace_s: float | None,
        say: Callable[[str], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._command = command
        self._family = Family(command)
        self._group = group
        self._grace_s = grace_s
        self._say = say
        self._clock = clock
        self._told_ns: int | None = None
        self._kill_ns: int | None = None
        self._killed = False
        self._left: list[Process] = []
        self._ended = False

    def heard(self, revocation: Revocation) -> None:
        """End the command with SIGTERM."""
        self._told_ns = self._clock()
        self.changed(revocation)
        self._family.look()
        if self._send(_signal.SIGTERM):
            self._say(f"sent SIGTERM to the command (pid {self._command.pid}); {self._what_next()}")

    def changed(self, revocation: Revocation) -> None:
        """Set the time of the SIGKILL."""
        if self._told_ns is None:
            return
        self._kill_ns = kill_ns(self._told_ns, revocation.deadline_ns, self._grace_s)

    def withdrawn(self) -> None:
        """Kill nothing; that SIGTERM was sent cannot be undone."""
        self._told_ns = self._kill_ns = None

    def command_ended(self) -> None:
        """Tell what it has left behind, if it ended after a notice."""
        self._ended = True
        if self._told_ns is None:
            return
        self._family.look()
        self._left = self._family.left()
        for process in self._left:
            _end(process, _signal.SIGTERM)

    @property
    def due_ns(self) -> int | None:
        """When to kill."""
        return None if self._killed else self._kill_ns

    @property
    def watched(self) -> list[int]:
        """What the command has left behind."""
        return [process.pidfd for process in self._left]

    @property
    def busy(self) -> bool:
        """Whether something the command has left behind is still to be killed."""
        return bool(self._left) and self._kill_ns is not None and not self._killed

    def turn(self) -> None:
        """Kill when it is time to."""
        self._left = [process for process in self._left if not process.ended]
        if self._kill_ns is None or self._killed or self._clock() < self._kill_ns:
            return
        self._killed = True
        self._family.look()
        others = self._family.left()
        if self._send(_signal.SIGKILL):
            self._say(f"sent SIGKILL to the command (pid {self._command.pid}): it did not end")
        for process in others:
            _end(process, _signal.SIGKILL)
        self._left = []

    def _send(self, number: int) -> bool:
        if self._ended:
            return False
        group = self._command.own_group(self._group)
        try:
            if group is None:
                _end(self._command, number, quietly=False)
            else:
                os.killpg(group, number)
                os.killpg(group, _signal.SIGCONT)
        except ProcessLookupError:
            return False
        except PermissionError:
            self._say(
                f"may not signal the command (pid {self._command.pid}): it runs as another user"
            )
            return False
        return True

    def _what_next(self) -> str:
        if self._kill_ns is None:
            return "no SIGKILL follows"
        after = format_duration(max(0.0, (self._kill_ns - self._clock()) / 1e9))
        return f"SIGKILL follows after {after}"


class Hook:
    """A command line of the user's, run by the shell once for each notice."""

    def __init__(
        self,
        *,
        command: Process,
        line: str,
        environment: dict[str, str],
        say: Callable[[str], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._command = command
        self._line = line
        self._environment = environment
        self._say = say
        self._clock = clock
        self._running: Spawned | None = None
        self._deadline_ns: int | None = None

    def heard(self, revocation: Revocation) -> None:
        """Run it, unless the one of an earlier notice still runs."""
        self._deadline_ns = revocation.deadline_ns
        if self._running is not None:
            return
        left_s = max(0.0, (revocation.deadline_ns - self._clock()) / 1e9)
        environment = self._environment | {
            "SUPEREZIO_PID": str(self._command.pid),
            "SUPEREZIO_REVOKE_REASON": revocation.reason,
            "SUPEREZIO_REVOKE_DEADLINE_S": f"{left_s:.1f}",
        }
        try:
            self._running = Spawned.start(["/bin/sh", "-c", self._line], environment)
        except OSError as error:
            self._say(f"cannot run the command of --on-revoke: {error.strerror}")

    def changed(self, revocation: Revocation) -> None:
        """Take the new deadline."""
        self._deadline_ns = revocation.deadline_ns

    def withdrawn(self) -> None:
        """Leave it to run: it was told already."""

    def command_ended(self) -> None:
        """See to the end of the hook only."""

    @property
    def due_ns(self) -> int | None:
        """When it is not waited for any longer."""
        return self._deadline_ns if self.busy else None

    @property
    def watched(self) -> list[int]:
        """The hook that runs."""
        return [] if self._running is None else [self._running.pidfd]

    @property
    def busy(self) -> bool:
        """Whether a hook runs whose failure would be said."""
        late = self._deadline_ns is not None and self._clock() >= self._deadline_ns
        return self._running is not None and not late

    def turn(self) -> None:
        """Collect a hook that has ended."""
        failure = None if self._running is None else self._running.failure()
        if failure is None:
            return
        self._running = None
        if failure:
            self._say(f"the command of --on-revoke {failure}")


def _end(process: Process, number: int, *, quietly: bool = True) -> None:
    """Send a signal that ends, also to one that is stopped (Ctrl-Z) and would not hear it."""
    try:
        process.send(number)
        process.send(_signal.SIGCONT)
    except PermissionError:
        if not quietly:
            raise
