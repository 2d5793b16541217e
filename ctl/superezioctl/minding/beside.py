"""What the process beside a command does, from its first instant to its end."""

from __future__ import annotations

from superezioctl.minding.family import Process

__all__ = ["Process", "Work"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from superezioctl.minding.responses import Response
    from superezioctl.minding.standing_in import StandIn


class Work:
    """Follow a lease and do what --on-revoke says; called in the process that does it.

    `tell` sends assignments to a service manager whose unit the command is; None: it is nobody's.
    """

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
        tell: Callable[..., None] | None = None,
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
        self._tell = tell

    def __call__(self) -> int:
        """Return when the command or the lease is no more, and how to end."""
        # Imported here, for the command need not wait for it.
        from superezioctl.minding.follower import Follower  # noqa: PLC0415 - see above
        from superezioctl.minding.minder import Minder, voice  # noqa: PLC0415 - see above

        say = voice(as_json=self._as_json)
        response = self._response(say)
        stand_in = self._stand_in(response, say)
        Minder(
            command=self._command,
            follower=Follower(
                socket_path=self._socket_path,
                lease=self._lease,
                correlation_id=self._correlation_id,
            ),
            response=stand_in or response,
            say=say,
        ).run()
        return 0 if stand_in is None else stand_in.exit_code

    def _stand_in(self, response: Response, say: Callable[[str], None]) -> StandIn | None:
        if self._tell is None:
            return None
        from superezioctl.minding.standing_in import StandIn  # noqa: PLC0415 - units only

        return StandIn(response, command=self._command, tell=self._tell, say=say)

    def _response(self, say: Callable[[str], None]) -> Response:
        from superezioctl.minding.responses import Hook, Termination  # noqa: PLC0415 - as above

        what, _, line = self._on_revoke.partition("=")
        if what == "exec":
            return Hook(command=self._command, line=line, environment=self._environment, say=say)
        return Termination(command=self._command, group=self._group, grace_s=self._grace_s, say=say)
