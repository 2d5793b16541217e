"""superezioctl run --container: the process that attends to a container's lease."""

from __future__ import annotations

import json
import os
import select

from superezio.errors import StaleLeaseError
from superezioctl.arguments import UsageError
from superezioctl.minding.detached import start_beside
from superezioctl.minding.engine import Engine, RunCommand
from superezioctl.minding.family import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from superezioctl.caller import Caller
    from superezioctl.minding.attending import Container
    from superezioctl.minding.responses import Response


class Plan:
    """What is to be done with a container, as the command line says."""

    def __init__(
        self,
        *,
        engine: str,
        command: list[str],
        passing: str,
        socket_path: str,
        timeout_s: float,
        correlation_id: str | None,
        on_revoke: str,
        grace_s: float | None,
        as_json: bool,
    ) -> None:
        self.command = RunCommand(engine, command)
        self.passing = passing
        self.socket_path = socket_path
        self.timeout_s = timeout_s
        self.correlation_id = correlation_id
        self.on_revoke = on_revoke
        self.grace_s = grace_s
        self.as_json = as_json
        self._directory: str | None = None
        self.cidfile = self.command.own_cidfile or self._own_cidfile()
        if self._directory is None and os.path.exists(self.cidfile):  # noqa: PTH110 - pathlib costs 8 ms
            raise UsageError(f"--cidfile {self.cidfile} is there already, of an earlier container")

    def words(self, environment: Mapping[str, str]) -> list[str]:
        """Return the command line to become."""
        return self.command.extended(
            environment=environment,
            passing=self.passing,
            cidfile=None if self._directory is None else self.cidfile,
        )

    def clean_up(self) -> None:
        """Remove what was made for this run; the engine has no use for it later."""
        directory, self._directory = self._directory, None
        if directory is None:
            return
        try:
            os.unlink(self.cidfile)  # noqa: PTH108 - as above
        except FileNotFoundError:
            pass
        finally:
            os.rmdir(directory)  # noqa: PTH106 - as above

    def _own_cidfile(self) -> str:
        base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - a directory of its own in it
        self._directory = f"{base}/superezio-run-{os.urandom(8).hex()}"
        os.mkdir(self._directory, 0o700)  # noqa: PTH102 - as above
        return f"{self._directory}/cid"


class Attendant:
    """The process that holds the lease until the container does, for the one that began it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.container_name = plan.command.container_name
        told, self._telling = os.pipe()
        command = Process.open(os.getpid())
        self.pid = start_beside(lambda: _attend(plan, command, told), keep=[told, command.pidfd])
        os.close(told)
        os.close(command.pidfd)

    def begin(self, lease: str, environment: Mapping[str, str]) -> list[str]:
        """Tell it of the lease, and return the command line to become."""
        with os.fdopen(self._telling, "w") as telling:
            json.dump({"lease": lease, "environment": dict(environment)}, telling)
        return self._plan.words(environment)


def _attend(plan: Plan, command: Process, told: int) -> None:
    with os.fdopen(told) as telling:
        text = telling.read()
    try:
        if text:  # else there was no lease, and the other process is gone
            message = json.loads(text)
            _Attendance(plan, message["lease"], message["environment"]).run(command)
    finally:
        plan.clean_up()


class _Attendance:
    """The work of the attendant, once there is a lease."""

    def __init__(self, plan: Plan, lease: str, environment: dict[str, str]) -> None:
        from superezioctl.minding.minder import voice  # noqa: PLC0415 - the command need not wait

        self._plan = plan
        self._lease = lease
        self._environment = environment
        self._engine = Engine(plan.command.engine_words, environment)
        self._say = voice(as_json=plan.as_json)

    def run(self, command: Process) -> None:
        """Return when the lease is the container's, and nothing is left to mind."""
        from superezioctl.minding import attending, minder  # noqa: PLC0415 - as above

        container = attending.await_container(
            command=command, engine=self._engine, cidfile=self._plan.cidfile
        )
        if container is None:
            return  # it never ran: the lease ends with this process
        if command.ended:
            minder.fall_silent()
        caller = self._caller()
        try:
            handed_over = attending.hand_over(
                container, caller=caller, lease=self._lease, say=self._say
            )
        except StaleLeaseError:
            self._say("the lease was over before the container ran")
            if self._plan.on_revoke != "ignore":
                self._mind(container, audience=command)  # that finds out how it ended
            return
        finally:
            caller.close()
        if handed_over:
            self._plan.clean_up()
            if self._plan.on_revoke == "ignore":
                return
            attending.become_another()
        self._mind(container, audience=command)

    def _mind(self, container: Container, *, audience: Process) -> None:
        from superezioctl.minding.follower import Follower  # noqa: PLC0415 - as above
        from superezioctl.minding.minder import Minder, fall_silent  # noqa: PLC0415 - as above

        response = self._response(container)
        if response is None:  # and yet this process has to hold the lease
            poll = select.poll()
            poll.register(container.first.pidfd, select.POLLIN)
            fall_silent()
            poll.poll()
            return
        follower = Follower(
            socket_path=self._plan.socket_path,
            lease=self._lease,
            correlation_id=self._plan.correlation_id,
        )
        Minder(
            command=container.first,
            follower=follower,
            response=response,
            say=self._say,
            audience=audience,
        ).run()

    def _response(self, container: Container) -> Response | None:
        from superezioctl.minding.responses import Hook  # noqa: PLC0415 - as above
        from superezioctl.minding.stopping import ContainerStop  # noqa: PLC0415 - as above

        what, _, line = self._plan.on_revoke.partition("=")
        if what == "ignore":
            return None
        if what == "exec":
            environment = self._environment | {"SUPEREZIO_CONTAINER": container.id}
            return Hook(command=container.first, line=line, environment=environment, say=self._say)
        return ContainerStop(
            container=container, engine=self._engine, grace_s=self._plan.grace_s, say=self._say
        )

    def _caller(self) -> Caller:
        from superezioctl.caller import Caller  # noqa: PLC0415 - as above

        return Caller(
            socket_path=self._plan.socket_path,
            timeout_s=self._plan.timeout_s,
            correlation_id=self._plan.correlation_id,
            patient=True,
        )
