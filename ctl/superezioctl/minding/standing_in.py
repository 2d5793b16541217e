"""A server that systemd runs, and whose lease is taken through no fault of its own.

It is to be started anew, and to wait in the queue. But one that is told to end ends well, and
systemd starts anew what failed. So the process beside it takes its place as the unit's main
process before it is told, and when it has ended fails in its place.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` imports enum, for 2 ms
import os

from superezioctl.exit_codes import DONE, REFUSED_FOR_NOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from superezioctl.minding.family import Process
    from superezioctl.minding.follower import Revocation
    from superezioctl.minding.responses import Response

#: Why a lease ends that neither somebody wanted back nor the server has done anything for. All
#: else is somebody's will, or would be so again: what uses too much, and what uses nothing.
_NOBODYS_WILL = frozenset({"gpu_critical", "lost", "void", "state_corrupt"})


class StandIn:
    """What is done about notices is the inner response's; this is what systemd sees of it.

    `tell` sends assignments to the service manager. `exit_code` is how to end, in the end.
    """

    def __init__(
        self,
        inner: Response,
        *,
        command: Process,
        tell: Callable[..., None],
        say: Callable[[str], None],
    ) -> None:
        self._inner = inner
        self._command = command
        self._tell = tell
        self._say = say
        self._stands_in = False
        self._is_willed = False
        self._is_stopped = False
        self._is_told = False

    @property
    def exit_code(self) -> int:
        """A failure where systemd is to start the server anew."""
        is_over = self._is_willed or self._is_stopped or not self._stands_in
        return DONE if is_over else REFUSED_FOR_NOW

    def heard(self, revocation: Revocation) -> None:
        """Take the server's place before it is told, if that is to be started anew."""
        self._judge(revocation)
        if not self._is_willed and not self._stands_in:
            self._stand_in(revocation)
        self._is_told = True
        self._inner.heard(revocation)

    def changed(self, revocation: Revocation) -> None:
        """Note whether somebody wants the lease back by now, too."""
        self._judge(revocation)
        self._inner.changed(revocation)

    def withdrawn(self) -> None:
        """Stay: a server that was told may end for it all the same."""
        self._is_told = self._is_willed = False
        self._inner.withdrawn()

    def command_ended(self) -> None:
        """See to what it has left behind."""
        self._inner.command_ended()

    def turn(self) -> None:
        """Do what is due."""
        self._inner.turn()

    @property
    def due_ns(self) -> int | None:
        """When there is something to do."""
        return self._inner.due_ns

    @property
    def watched(self) -> list[int]:
        """Descriptors that tell of something to do."""
        return self._inner.watched

    @property
    def busy(self) -> bool:
        """Whether something is left to do although the server has ended."""
        return self._inner.busy

    def _judge(self, revocation: Revocation) -> None:
        self._is_willed = self._is_willed or revocation.cause not in _NOBODYS_WILL

    def _stand_in(self, revocation: Revocation) -> None:
        self._stands_in = True
        # `systemctl stop` tells the main process alone.
        _signal.signal(_signal.SIGTERM, self._stop)
        status = f"STATUS=ends, to be started anew: {revocation.message}"
        self._tell(f"MAINPID={os.getpid()}", status)
        self._say("systemd starts it anew, and then it waits for a lease")

    def _stop(self, *_: object) -> None:
        self._is_stopped = True
        # A second SIGTERM makes some servers end at once, in the middle of what they do.
        if not self._is_told:
            self._is_told = True
            try:
                self._command.send(_signal.SIGTERM)
            except PermissionError:  # it runs as another user: systemd will kill it
                return
