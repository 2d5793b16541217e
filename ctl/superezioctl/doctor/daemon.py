"""The daemon: its socket, whether it answers, its version, files and directories."""

from __future__ import annotations

import os
import re
import resource
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from superezio import PROTOCOL, __version__
from superezio.errors import (
    ConnectionLostError,
    DaemonNotRunningError,
    ReplyTimeoutError,
    ShuttingDownError,
)
from superezio.paths import SOCKET_VARIABLE, SYSTEM_SOCKET
from superezio.quantities import format_duration, format_size
from superezio.wire import Health, SystemInfo
from superezioctl.doctor.answers import Answers
from superezioctl.doctor.finding import Finding, fail, info, ok, warn
from superezioctl.doctor.host import Host

_OPEN_TO_ALL = 0o666
#: Connections and leases of the default configuration, and some for the daemon itself.
_FILES = 4096
_LEAST_FREE_BYTES = 16 << 20
_BY_SEVERITY = {"info": info, "warning": warn, "critical": fail}


@dataclass(frozen=True, slots=True)
class Commands:
    """How the daemon is started and restarted on this host.

    `runs`: systemd says that it runs, so that one that is not reached is no one that is down.
    """

    start: str
    restart: str
    runs: bool = False


def check(host: Host, answers: Answers, socket_path: str, commands: Commands) -> Iterator[Finding]:
    """Check the daemon from outside, and by what it says of itself."""
    yield _socket(host, answers, socket_path, commands)
    yield _answer(answers, socket_path, commands)
    if answers.system is not None:
        yield _version(answers.system, commands)
    yield _open_files(host, answers)
    if answers.system is not None:
        yield _directory(host, "runtime_dir", answers.system.runtime_dir, answers.system)
        yield _directory(host, "state_dir", answers.system.state_dir, answers.system)


def health_findings(health: Health) -> Iterator[Finding]:
    """Hand on the daemon's own reasons, each with its action."""
    if all(reason.severity == "info" for reason in health.reasons):
        yield ok("health", f"the host is {health.verdict}")
    for reason in health.reasons:
        found = _BY_SEVERITY[reason.severity]
        yield found(f"health.{reason.check}", reason.message, reason.action)


def _socket(host: Host, answers: Answers, socket_path: str, commands: Commands) -> Finding:
    found = host.stat(socket_path)
    if isinstance(found, FileNotFoundError | NotADirectoryError):
        return _no_socket(host, socket_path, commands)
    if isinstance(found, OSError):
        message = f"{socket_path} cannot be reached: {found.strerror}"
        return fail("socket", message, host.as_root(f"chmod o+x {_closed(host, socket_path)}"))
    if not stat.S_ISSOCK(found.st_mode):
        mend = f"{host.as_root(f'rm {socket_path}')} && {commands.restart}"
        return fail("socket", f"{socket_path} is not a socket", mend)
    mode = stat.S_IMODE(found.st_mode)
    if mode & _OPEN_TO_ALL != _OPEN_TO_ALL:
        mend = host.as_root(f"chmod 666 {socket_path}")
        return fail("socket", f"{socket_path} has mode {mode:04o}, and should have 0666", mend)
    if isinstance(answers.error, DaemonNotRunningError):
        message = f"nobody listens on {socket_path}: it was left behind"
        return warn("socket", message, commands.start)
    return ok("socket", f"{socket_path} is there, with mode {mode:04o}")


def _no_socket(host: Host, socket_path: str, commands: Commands) -> Finding:
    if host.named_socket == socket_path and host.exists(SYSTEM_SOCKET):
        message = f"${SOCKET_VARIABLE} names {socket_path}, which is not there"
        return fail("socket", f"{message}; {SYSTEM_SOCKET} is", f"unset {SOCKET_VARIABLE}")
    return fail("socket", f"there is no socket at {socket_path}", commands.start)


def _closed(host: Host, path: str) -> Path:
    """Return the first directory above `path` that not everybody may pass."""
    above = Path(path).parents
    for directory in reversed(above):
        found = host.stat(str(directory))
        if isinstance(found, os.stat_result) and not found.st_mode & stat.S_IXOTH:
            return directory
    return above[0]


def _answer(answers: Answers, socket_path: str, commands: Commands) -> Finding:
    error, system = answers.error, answers.system
    if system is not None:
        up = format_duration(system.uptime_s)
        return ok("daemon", f"it answers (pid {system.pid}, up {up}); you are {system.role}")
    if isinstance(error, DaemonNotRunningError):
        unreached = f"the daemon runs, and cannot be reached at {socket_path}"
        message = unreached if commands.runs else "the daemon is not running"
        return fail("daemon", message, commands.start)
    if isinstance(error, ConnectionLostError | ShuttingDownError):
        # As when systemd listens for a service that cannot start.
        return fail("daemon", f"the daemon went away: {error.message}", commands.start)
    if isinstance(error, ReplyTimeoutError):
        return fail("daemon", "the daemon does not answer", commands.restart)
    why = error.message if error is not None else "not known"
    return fail("daemon", f"the daemon cannot be asked: {why}", "superezioctl logs -n 50")


def _version(system: SystemInfo, commands: Commands) -> Finding:
    ours = f"{__version__} (protocol {PROTOCOL})"
    theirs = f"{system.version} (protocol {system.protocol})"
    if ours == theirs:
        return ok("version", f"superezioctl and supereziod are both {ours}")
    found = warn if system.protocol == PROTOCOL else fail
    message = f"superezioctl is {ours}, and the daemon that runs is {theirs}"
    return found("version", message, commands.restart)


def _open_files(host: Host, answers: Answers) -> Finding:
    health, system = answers.health, answers.system
    if health is not None and system is not None:
        short = next((c for c in health.checks if c.check == "open_files" and not c.passing), None)
        allowed = _allowed_files(host, system.pid)
        if short is None:
            return ok("open_files", f"the daemon may open {allowed} files")
        message = short.message
    else:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard == resource.RLIM_INFINITY or hard >= _FILES:
            return ok("open_files", f"a daemon started here may open {hard} files")
        message = f"a daemon started here may open {hard} files, and may need {_FILES}"
    by_systemd = host.exists("/usr/lib/systemd/system/superezio.service")
    edit = f"{host.as_root('systemctl edit superezio')}  # [Service] LimitNOFILE=65536"
    return warn("open_files", message, edit if by_systemd else "ulimit -n 65536")


def _allowed_files(host: Host, pid: int) -> str:
    limits = host.text(f"/proc/{pid}/limits") or ""
    match = re.search(r"^Max open files\s+(\S+)", limits, re.MULTILINE)
    return match[1] if match else "enough"


def _directory(host: Host, check_name: str, path: str, system: SystemInfo) -> Finding:
    """Check a directory of the daemon's, as far as this user can see it."""
    found = host.stat(path)
    daemon = host.stat(f"/proc/{system.pid}")
    if isinstance(found, PermissionError):
        return ok(check_name, f"{path} is not for you to see; the daemon's health covers it")
    if isinstance(found, OSError):
        mend = host.as_root(f"install -d -o {_owner(daemon)} {path}")
        return fail(check_name, f"{path} is not there", mend)
    if isinstance(daemon, os.stat_result) and not _may_write(found, daemon):
        message = f"{path} is not writable for the daemon (user {daemon.st_uid})"
        mend = host.as_root(f"chown {daemon.st_uid} {path}", f"chmod u+rwx {path}")
        return fail(check_name, message, mend)
    return _room(host, check_name, path)


def _room(host: Host, check_name: str, path: str) -> Finding:
    room = host.room(path)
    if isinstance(room, OSError):
        return warn(check_name, f"{path}: {room.strerror}", f"findmnt -T {path}")
    free_bytes = room.f_bavail * room.f_frsize
    if room.f_flag & os.ST_RDONLY:
        return fail(check_name, f"{path} is on a read-only file system", f"findmnt -T {path}")
    if free_bytes < _LEAST_FREE_BYTES:
        left = format_size(free_bytes)
        return fail(check_name, f"{path} has {left} of room left", f"df -h {path}")
    return ok(check_name, f"{path} is there and writable, with {format_size(free_bytes)} free")


def _owner(daemon: os.stat_result | OSError) -> str:
    return str(daemon.st_uid) if isinstance(daemon, os.stat_result) else "superezio"


def _may_write(directory: os.stat_result, daemon: os.stat_result) -> bool:
    """Say whether the daemon's user may make files; its further groups are not known."""
    if daemon.st_uid == 0 or directory.st_mode & 0o002:
        return True
    if directory.st_uid == daemon.st_uid:
        return bool(directory.st_mode & 0o200)
    return bool(directory.st_mode & 0o020)
