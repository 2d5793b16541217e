"""Who a process is, for people: user, command, systemd unit, container.

Reading another process's command line can block for as long as that process is stuck in the
driver, which is what this daemon is there to survive. So it is read in daemon threads, few of
them, and an answer that does not come in time is one without names.
"""

from __future__ import annotations

import asyncio
import pwd
import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

_COMMAND_BYTES: Final = 4096
_MAX_NAMES: Final = 4096
#: Units nest (user@1000.service/app.slice/app-x.scope): the innermost is the one that is meant.
_UNIT: Final = re.compile(r"([^/]+\.(?:service|scope))(?=/|$)")
_CONTAINER_ID: Final = re.compile(r"(?:^|[/-])([0-9a-f]{64})(?:\.scope)?(?=/|$)")
_NAMED_CONTAINER: Final = re.compile(
    r"(?:machine-(?P<nspawn>[^/]+)\.scope|lxc\.payload\.(?P<lxc>[^/]+))(?=/|$)"
)


class ProcessDescription(Struct, frozen=True, kw_only=True):
    """What is known of a process. None is what could not be read, or does not apply."""

    uid: int | None
    user: str | None
    command: str | None
    unit: str | None
    container: str | None


UNKNOWN_PROCESS: Final = ProcessDescription(
    uid=None, user=None, command=None, unit=None, container=None
)


class ProcessDescriber:
    """Describes processes without ever holding up the event loop."""

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        patience_s: float = 1.0,
        max_threads: int = 4,
        user_name: Callable[[int], str] = lambda uid: pwd.getpwuid(uid).pw_name,
    ) -> None:
        self._proc = proc
        self._patience_s = patience_s
        self._free_threads = max_threads
        self._user_name = user_name
        self._names: dict[int, str | None] = {}

    async def describe(self, pids: Iterable[int]) -> dict[int, ProcessDescription]:
        """Return what is known of each pid: nothing of those that ended or do not answer."""
        wanted = sorted(set(pids))
        found: dict[int, ProcessDescription] = {}
        if wanted and self._free_threads:
            self._free_threads -= 1
            loop = asyncio.get_running_loop()
            done = asyncio.Event()

            def finished() -> None:
                self._free_threads += 1
                done.set()

            def work() -> None:
                try:
                    for pid in wanted:
                        found[pid] = self._read(pid)
                finally:
                    _call_in(loop, finished)

            threading.Thread(target=work, name="process-describer", daemon=True).start()
            try:
                async with asyncio.timeout(self._patience_s):
                    await done.wait()
            except TimeoutError:
                pass  # the thread is stuck with one of them; the others' answers are in
        return {pid: found.get(pid, UNKNOWN_PROCESS) for pid in wanted}

    def _read(self, pid: int) -> ProcessDescription:
        directory = self._proc / str(pid)
        uid = _uid(directory)
        if uid is None:
            return UNKNOWN_PROCESS
        cgroup = _text(directory / "cgroup")
        return ProcessDescription(
            uid=uid,
            user=self._name_of(uid),
            command=_command(directory),
            unit=unit_of(cgroup),
            container=container_of(cgroup),
        )

    def _name_of(self, uid: int) -> str | None:
        if uid not in self._names:
            if len(self._names) >= _MAX_NAMES:
                self._names.clear()
            try:
                self._names[uid] = self._user_name(uid)
            except KeyError:
                self._names[uid] = None
        return self._names[uid]


def unit_of(cgroup: str) -> str | None:
    """Return the innermost systemd unit in the text of /proc/PID/cgroup."""
    units = units_of(cgroup)
    return units[-1] if units else None


def units_of(cgroup: str) -> list[str]:
    """Return the systemd units in the text of /proc/PID/cgroup, the outermost first.

    That one is the host's own. Below it are names that its owner gave: a user, or a container.
    """
    return [str(unit) for unit in _UNIT.findall(_path(cgroup))]


def container_of(cgroup: str) -> str | None:
    """Return the id (or name) of the innermost container in the text of /proc/PID/cgroup."""
    path = _path(cgroup)
    ids = _CONTAINER_ID.findall(path)
    if ids:
        return str(ids[-1])
    named = list(_NAMED_CONTAINER.finditer(path))
    return (named[-1]["nspawn"] or named[-1]["lxc"]) if named else None


def _path(cgroup: str) -> str:
    """Return the path of the unified hierarchy, or of systemd's own where there is none."""
    lines = [line.partition(":")[2].partition(":") for line in cgroup.splitlines()]
    for controllers in ("", "name=systemd"):
        for each, colon, path in lines:
            if colon and each == controllers and path != "/":
                return path
    return ""


def _uid(directory: Path) -> int | None:
    for line in _text(directory / "status").splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[1])
    return None


def _command(directory: Path) -> str | None:
    arguments = _text(directory / "cmdline").rstrip("\0").replace("\0", " ")
    return arguments or _text(directory / "comm").strip() or None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_COMMAND_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return  # the daemon has ended meanwhile, and nobody waits
