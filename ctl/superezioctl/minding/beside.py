"""What the process beside a command does, from its first instant to its end."""

from __future__ import annotations

from superezioctl.minding.family import Process

__all__ = ["Process", "Work"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from superezioctl.minding.responses import Response


class Work:
    """Follow a lease and do what --on-revoke says; called in the process that does it."""

    def __init__(
        self,
        *,
        command: Process,
        group: int,
        lease: str,
        socket_path: str,
        correlation_id: str | None,
        on_revoke: str,
        grace_s: float | None,
        environment: dict[str, str],
        as_json: bool,
    ) -> None:
        self._command = command
        self._group = group
        self._lease = lease
        self._socket_path = socket_path
        self._correlation_id = correlation_id
        self._on_revoke = on_revoke
        self._grace_s = grace_s
        self._environment = environment
        self._as_json = as_json

    def __call__(self) -> None:
        """Return when the command or the lease is no more."""
        # Imported here, for the command need not wait for it.
        from superezioctl.minding.follower import Follower  # noqa: PLC0415 - see above
        from superezioctl.minding.minder import Minder, voice  # noqa: PLC0415 - see above

        say = voice(as_json=self._as_json)
        Minder(
            command=self._command,
            follower=Follower(
                socket_path=self._socket_path,
                lease=self._lease,
                correlation_id=self._correlation_id,
            ),
            response=self._response(say),
            say=say,
        ).run()

    def _response(self, say: Callable[[str], None]) -> Response:
        from superezioctl.minding.responses import Hook, Termination  # noqa: PLC0415 - as above

        what, _, line = self._on_revoke.partition("=")
        if what == "exec":
            return Hook(command=self._command, line=line, environment=self._environment, say=say)
        return Termination(command=self._command, group=self._group, grace_s=self._grace_s, say=say)
