"""All checks, in the order in which a person mends things: what others rest on comes first."""

from __future__ import annotations

from collections.abc import Iterator

from superezio.paths import SYSTEM_SOCKET
from superezioctl.doctor import daemon, driver, groups, service
from superezioctl.doctor.answers import Answers
from superezioctl.doctor.finding import Finding
from superezioctl.doctor.host import Host


def examine(host: Host, answers: Answers, socket_path: str) -> Iterator[Finding]:
    """Yield what was found, check by check."""
    system = answers.system
    units = service.units(host)
    commands = daemon.Commands(
        start=service.how_to_start(host, units),
        restart=service.how_to_restart(host, units, pid=answers.pid),
        runs=service.is_active(units) and socket_path == SYSTEM_SOCKET,
    )
    yield from driver.check(host, system, answers.gpus)
    yield driver.check_mig(host, system, answers.gpus)
    yield from service.check(host, units, answers=system is not None)
    yield from daemon.check(host, answers, socket_path, commands)
    yield from groups.check(
        host,
        role=None if system is None else system.role,
        installed=service.is_installed(units),
    )
    if answers.health is not None:
        yield from daemon.health_findings(answers.health)
