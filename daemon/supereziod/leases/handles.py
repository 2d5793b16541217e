"""Hold on to a process: a pidfd, opened so that it cannot be another process of the same pid."""

from __future__ import annotations

import os
from typing import Final

from msgspec import Struct

from superezio.errors import (
    HolderGoneError,
    HolderNotVisibleError,
    InvalidParamsError,
    PermissionDeniedError,
)
from superezio.wire import Role
from supereziod.leases.capacity import Subject
from supereziod.leases.processes import Identity, ProcessTable, has_ended, out_of_files, pid_of

#: The kernel's PID_MAX_LIMIT is far below; what is above is no argument of its calls.
_MAX_PID: Final = (1 << 31) - 1
_INIT: Final = 1


class Caller(Struct, frozen=True, kw_only=True):
    """Who asks: the peer of a connection, as the kernel tells it.

    `pid` is 0 where it is not visible to the daemon. `pidfd` belongs to the connection, and is
    None where the kernel does not give one. `max_priority` is the most the role may ask for;
    `groups` are those the peer was in when it connected.
    """

    uid: int
    pid: int
    pidfd: int | None
    role: Role
    connection: str
    max_priority: int = 0
    groups: frozenset[int] = frozenset()

    @property
    def subject(self) -> Subject:
        """Who that is for quotas."""
        return Subject(uid=self.uid, groups=self.groups, exempt=self.role == "admin")

    def may_act_for(self, uid: int) -> bool:
        """Tell whether the caller may change what belongs to `uid`."""
        return self.uid == uid or self.role == "admin"


class HeldBy(Struct, frozen=True, kw_only=True):
    """A process that holds a lease, as it is recorded.

    `confirmed`: it is known to be the process that was meant, by a pidfd of the connection or by
    a start time the client gave.
    """

    pid: int
    start_time: int
    confirmed: bool

    @property
    def identity(self) -> Identity:
        """Which process of this boot it is."""
        return Identity(self.pid, self.start_time)


class ProcessHandle:
    """An open pidfd and what was read of its process while it lived. The owner closes it."""

    __slots__ = (
        "_cgroup", "_cgroup_known", "_processes", "confirmed", "identity", "pidfd",
    )  # fmt: skip

    def __init__(
        self, *, identity: Identity, pidfd: int, confirmed: bool, processes: ProcessTable
    ) -> None:
        self.identity = identity
        self.pidfd = pidfd
        self.confirmed = confirmed
        self._processes = processes
        self._cgroup: str | None = None
        self._cgroup_known = False

    @property
    def command(self) -> str | None:
        """The command line it has now: a process that took a lease may exec another program."""
        return self._processes.command(self.identity.pid)

    @property
    def cgroup(self) -> str | None:
        """Its cgroup, if that says whose a process is. It is looked up once."""
        if not self._cgroup_known:
            cgroup = self._processes.own_cgroup(self.identity.pid)
            self._cgroup = None if self.ended else cgroup  # it may be of a later process
            self._cgroup_known = True
        return self._cgroup

    @property
    def ended(self) -> bool:
        """Whether the process has ended; its exit may not be collected yet."""
        return has_ended(self.pidfd)

    def held_by(self) -> HeldBy:
        """Return what to record of it."""
        return HeldBy(
            pid=self.identity.pid,
            start_time=self.identity.start_time,
            confirmed=self.confirmed,
        )

    def close(self) -> None:
        """Let go of the process; twice is fine."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class HandleOpener:
    """Opens processes that are to hold a lease, and refuses those that may not.

    The pidfd comes first and is looked at last: whatever was read of the pid in between was read
    of the process that the pidfd stands for. `peer_pidfds` False ignores what the kernel says of
    a connection's peer, as on a kernel that does not say it.
    """

    def __init__(self, *, processes: ProcessTable, peer_pidfds: bool = True) -> None:
        self._processes = processes
        self._peer_pidfds = peer_pidfds

    def of_peer(self, caller: Caller) -> ProcessHandle:
        """Open the process at the other end of the caller's connection."""
        _check_visible(caller)
        if caller.pidfd is not None and self._peer_pidfds:
            return self._checked(caller.pid, _duplicate(caller.pidfd, caller.pid), confirmed=True)
        handle = self._checked(caller.pid, _open_pidfd(caller.pid), confirmed=False)
        try:
            if caller.uid not in (self._processes.uids(caller.pid) or ()) or handle.ended:
                raise _gone(caller.pid, "it is another user's process by now")
        except BaseException:
            handle.close()
            raise
        return handle

    def of_pid(
        self, caller: Caller, pid: int, *, owner_uid: int, start_time: int | None = None
    ) -> ProcessHandle:
        """Open a process that the caller names, of the user who owns the lease, or for an admin.

        Init and the threads of the kernel are refused to admins, too. Raises InvalidParamsError,
        HolderGoneError, HolderNotVisibleError, PermissionDeniedError or BusyError.
        """
        _check_visible(caller)
        if not 0 < pid <= _MAX_PID:
            raise HolderGoneError(f"cannot bind a lease to pid {pid}: there is no such process")
        if pid == _INIT:
            # What an ended parent leaves behind is its child: everything would count for the lease.
            raise _no_program(pid, "it is init, of which every process descends")
        handle = self._checked(pid, _open_pidfd(pid), confirmed=start_time is not None)
        try:
            uids = self._processes.uids(pid)
            if uids is None or handle.ended:
                raise _gone(pid, "it has ended")
            if self._processes.is_kernel_thread(pid):
                raise _no_program(pid, "it is a thread of the kernel, which uses no VRAM")
            if caller.role != "admin" and uids[0] != owner_uid:
                raise PermissionDeniedError(
                    f"cannot bind the lease to pid {pid}: it is a process of uid {uids[0]}, and"
                    f" the lease is of uid {owner_uid}. Ask as that user",
                    data={"needs": "admin"},
                )
            if start_time is not None and handle.identity.start_time != start_time:
                raise _gone(pid, "its start time is another, so that it is another process")
        except BaseException:
            handle.close()
            raise
        return handle

    def again(self, held: HeldBy) -> ProcessHandle | None:
        """Open a recorded process once more; None if it has ended, or the pid is another's now."""
        try:
            handle = self._checked(held.pid, _open_pidfd(held.pid), confirmed=held.confirmed)
        except HolderGoneError:
            return None
        if handle.identity != held.identity:
            handle.close()
            return None
        return handle

    def _checked(self, pid: int, pidfd: int, *, confirmed: bool) -> ProcessHandle:
        try:
            origin = self._processes.origin(pid)
            if origin is None or has_ended(pidfd):
                raise _gone(pid, "it has ended")
        except BaseException:
            os.close(pidfd)
            raise
        return ProcessHandle(
            identity=origin.identity, pidfd=pidfd, confirmed=confirmed, processes=self._processes
        )


def _check_visible(caller: Caller) -> None:
    if caller.pid <= 0:
        raise HolderNotVisibleError(
            "cannot bind the lease to a process: yours is in a container or pid namespace that"
            " the daemon does not see into; ask for a connection lease"
        )


def _duplicate(pidfd: int, pid: int) -> int:
    # The connection may be gone, and its descriptor another file by now.
    if pid_of(pidfd) != pid:
        raise _gone(pid, "it has ended")
    try:
        return os.dup(pidfd)
    except OSError as error:
        raise out_of_files(error) or _gone(pid, "it has ended") from error


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise out_of_files(error) or _gone(pid, "there is no such process") from error


def _no_program(pid: int, why: str) -> InvalidParamsError:
    return InvalidParamsError(
        f"cannot bind a lease to pid {pid}: {why}. Name the process of the program that uses the"
        " GPU: `superezioctl gpu processes` lists those that do"
    )


def _gone(pid: int, why: str) -> HolderGoneError:
    return HolderGoneError(f"cannot bind the lease to pid {pid}: {why}", data={"pid": pid})
