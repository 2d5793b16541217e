"""Which cgroups are one program's own, so that all that runs in them counts for its holder.

A service, a container and a scope are made for one program; what holds whatever somebody happens
to run (a session, a terminal, a whole machine) says nothing of whose a process is. Where they nest
the innermost counts: a service in a container, a container in a service.
"""

from __future__ import annotations

import re
from typing import Final

#: Where a process is said to be, most telling first. Without the unified hierarchy (or in part of
#: it, where both are mounted) systemd keeps its own, and a container engine that does not use
#: systemd makes cgroups in those of the controllers.
_HIERARCHIES: Final = ("", "name=systemd", "devices", "memory", "pids", "cpu,cpuacct", "cpu")

#: Units that hold whatever somebody runs.
_SHARED: Final = re.compile(
    r"user@.+\.service"  # a user's whole systemd; its units are beneath it
    r"|session-.+\.scope"  # a login
    r"|init\.scope"  # a systemd itself
    r"|(?:vte-spawn|tmux-spawn)-.+\.scope|tab\(.+\.scope"  # a tab or a pane of a terminal
    r"|machine-.+\.scope|systemd-nspawn@.+\.service"  # a machine, with services of its own
    r"|libpod-conmon-.+\.scope"  # beside a container, not in it
    r"|(?:docker|containerd|podman)\.service"
    r"|(?:serial-|container-)?getty@.+\.service"
    r"|(?:sshd?|crond?|atd)(?:@.+)?\.service"
)
#: Of a user's systemd: what a desktop started. It may be a terminal, or something that starts more.
_DESKTOP: Final = re.compile(r"app-.+")
_UNIT: Final = re.compile(r".+\.(?:service|scope)")
#: A container of an engine that makes its cgroups itself: /docker/ID, /libpod_parent/libpod-ID,
#: /kubepods/burstable/podUID/ID, FOO.service/libpod-payload-ID.
_CONTAINER: Final = re.compile(r"(?:[a-z][a-z0-9-]*-)?[0-9a-f]{64}")


def own_cgroup(text: str) -> str | None:
    """Return the cgroup of one program that a process is in, from its /proc/PID/cgroup.

    None where it is in no such cgroup. The path is that of the program, not of a part of it.
    """
    paths = dict(_paths(text))
    for hierarchy in _HIERARCHIES:
        path = paths.get(hierarchy)
        own = None if path is None else _innermost(path)
        if own is not None:
            return own
    return None


def unit_path(text: str) -> str | None:
    """Return the path of the innermost unit that a process is in, whatever else runs there.

    It is of the process's /proc/PID/cgroup; the last part is the unit's name, those before it are
    the slices that it is in.
    """
    paths = dict(_paths(text))
    for hierarchy in _HIERARCHIES:
        parts = paths.get(hierarchy, "").split("/")
        while parts and not _UNIT.fullmatch(parts[-1]):
            parts.pop()
        if parts:
            return "/".join(parts)
    return None


def _paths(text: str) -> list[tuple[str, str]]:
    lines = (line.split(":", 2) for line in text.splitlines())
    return [(line[1], line[2]) for line in lines if len(line) == 3]  # noqa: PLR2004 - N:NAMES:PATH


def _innermost(path: str) -> str | None:
    parts = path.split("/")
    for length in range(len(parts), 0, -1):
        if _is_of_one_program(parts[length - 1], in_user_manager="/user@" in path):
            return "/".join(parts[:length])
    return None


def _is_of_one_program(name: str, *, in_user_manager: bool) -> bool:
    if _CONTAINER.fullmatch(name):
        return True
    if not _UNIT.fullmatch(name) or _SHARED.fullmatch(name):
        return False
    return not (in_user_manager and _DESKTOP.fullmatch(name))
