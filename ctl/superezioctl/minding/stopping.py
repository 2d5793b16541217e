"""What is done about a container when its lease is revoked: its engine stops it."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` imports enum, for 2 ms
import time

from superezioctl.minding.responses import kill_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from superezioctl.minding.attending import Container
    from superezioctl.minding.engine import Engine
    from superezioctl.minding.follower import Revocation
    from superezioctl.minding.spawned import Spawned


class ContainerStop:
    """`podman stop`: the signal the image asks for, and SIGKILL when `kill_ns` says.

    A plain SIGTERM would not do: the first process of a container may be deaf to it. The SIGKILL
    is sent from here, too, where the engine did not.
    """

    def __init__(
        self,
        *,
        container: Container,
        engine: Engine,
        grace_s: float | None,
        say: Callable[[str], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._container = container
        self._engine = engine
        self._grace_s = grace_s
        self._say = say
        self._clock = clock
        self._stopping: Spawned | None = None
        self._told_ns: int | None = None
        self._kill_ns: int | None = None
        self._killed = False

    def heard(self, revocation: Revocation) -> None:
        """Stop the container."""
        self._told_ns = self._clock()
        self.changed(revocation)
        left_s = None if self._kill_ns is None else (self._kill_ns - self._told_ns) / 1e9
        try:
            self._stopping = self._engine.stop(self._container.id, left_s)
        except OSError as error:
            self._say(f"cannot stop the container: {self._engine.name}: {error.strerror}")
        else:
            self._say(f"stopping container {self._container.id[:12]}")

    def changed(self, revocation: Revocation) -> None:
        """Set the time of the SIGKILL."""
        if self._told_ns is not None:
            self._kill_ns = kill_ns(self._told_ns, revocation.deadline_ns, self._grace_s)

    def withdrawn(self) -> None:
        """Kill nothing from here; that it was stopped cannot be undone."""
        self._told_ns = self._kill_ns = None

    def command_ended(self) -> None:
        """Nothing is left to do: with its first process a container has ended."""

    @property
    def due_ns(self) -> int | None:
        """When to kill."""
        return None if self._killed else self._kill_ns

    @property
    def watched(self) -> list[int]:
        """The command that stops it."""
        return [] if self._stopping is None else [self._stopping.pidfd]

    @property
    def busy(self) -> bool:
        """Nothing outlasts the container."""
        return False

    def turn(self) -> None:
        """Say how stopping failed, and kill when it is time to."""
        failure = None if self._stopping is None else self._stopping.failure()
        if failure is not None:
            self._stopping = None
        if failure:
            self._say(f"stopping the container {failure}")
        if self._killed or self._kill_ns is None or self._clock() < self._kill_ns:
            return
        self._killed = True
        try:
            self._container.first.send(_signal.SIGKILL)
        except PermissionError:
            self._say("may not kill the container: it runs as another user")
