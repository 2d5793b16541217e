"""Who is behind a connection, by name: read from files of this host, and from no name service."""

from __future__ import annotations

import os
import re
import select
from pathlib import Path
from typing import Final

from msgspec import Struct

from supereziod.gpu.processes import units_of
from supereziod.rpc.peers import Peer

_READ_BYTES: Final = 4096
_PASSWD_BYTES: Final = 1 << 20
#: What the kernel says of a process that nobody logged in for.
_NOBODY: Final = 0xFFFF_FFFF
#: What is shown of names that others give: nothing of it reads like the line around it.
_ODD: Final = re.compile(r"[^\w.:/@+ -]")
_ODD_OF_UNITS: Final = re.compile(r"[^\w.:@\\-]")


class Actor(Struct, frozen=True, kw_only=True):
    """A caller. None is what is not known: of another pid namespace, or ended before it was read.

    `login_uid` is who logged in, whoever the process became since (sudo, su). `unit` is one of the
    host's own units, and `inner_unit` one within it, of a user's own manager or in a container:
    its owner names it, and may name it as one of the host's is named.
    """

    uid: int
    pid: int
    user: str | None = None
    comm: str | None = None
    unit: str | None = None
    inner_unit: str | None = None
    login_uid: int | None = None
    login_user: str | None = None

    def __str__(self) -> str:
        name = f"{self.user} (uid={self.uid})" if self.user else f"uid {self.uid}"
        if self.login_uid is not None and self.login_uid != self.uid:
            name += f", logged in as {self.login_user or f'uid {self.login_uid}'},"
        process = f"pid {self.pid}" if self.pid > 0 else "a process that cannot be seen from here"
        if self.comm is not None:
            process += f" ({_ODD.sub('?', self.comm)})"
        where = f" in {self.unit}" if self.unit else ""
        if self.inner_unit is not None:
            where = f" in {_ODD_OF_UNITS.sub('?', self.inner_unit)} of {self.unit}"
        return f"{name} by {process}{where}"


class Actors:
    """Tells who a peer is. Reads a few small files at each call: for what is rare."""

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        passwd: Path = Path("/etc/passwd"),
        logins: Path = Path("/run/systemd/users"),
    ) -> None:
        self._proc = proc
        self._passwd = passwd
        self._logins = logins
        self._names: dict[int, str] = {}
        self._read_of: tuple[int, int] | None = None

    def describe(self, peer: Peer, pidfd: int | None) -> Actor:
        """Return who `peer` is.

        `pidfd` is that very process: one that has ended is not taken for another of its pid.
        """
        comm = login_uid = None
        units: list[str] = []
        if peer.pid > 0:
            directory = self._proc / str(peer.pid)
            comm = _text(directory / "comm").strip() or None
            units = units_of(_text(directory / "cgroup"))
            login_uid = _login_uid(directory)
            if pidfd is not None and _has_ended(pidfd):
                comm = login_uid = None
                units = []
        return Actor(
            uid=peer.uid,
            pid=peer.pid,
            user=self._name_of(peer.uid),
            comm=comm,
            unit=units[0] if units else None,
            inner_unit=units[-1] if len(units) > 1 else None,
            login_uid=login_uid,
            login_user=None if login_uid is None else self._name_of(login_uid),
        )

    def _name_of(self, uid: int) -> str | None:
        self._look_again()
        name = self._names.get(uid)
        if name is not None:
            return name
        # Of users that a directory service knows, logind has the names of those who logged in.
        for line in _text(self._logins / str(uid)).splitlines():
            if line.startswith("NAME="):
                return line.removeprefix("NAME=")
        return None

    def _look_again(self) -> None:
        """Read the names anew if their file was changed."""
        try:
            status = self._passwd.stat()
        except OSError:
            return
        version = (status.st_mtime_ns, status.st_ino)
        if version == self._read_of:
            return
        self._read_of = version
        self._names = {}
        for line in _text(self._passwd, _PASSWD_BYTES).splitlines():
            name, _, rest = line.partition(":")
            uid = rest.partition(":")[2].partition(":")[0]
            if uid.isascii() and uid.isdigit():
                self._names.setdefault(int(uid), name)


def _login_uid(directory: Path) -> int | None:
    text = _text(directory / "loginuid").strip()
    if not (text.isascii() and text.isdigit()) or int(text) == _NOBODY:
        return None
    return int(text)


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _text(path: Path, size: int = _READ_BYTES) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, size).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
