"""A process and what it has started, held by pidfds: a pid may be another process by now."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` imports enum, for 2 ms
import os
import select

_PARENT_FIELD = 1  # field 4 of proc(5), counted after the command, which may hold anything


class Process:
    """One process of this boot, whatever becomes of its pid."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd

    @classmethod
    def open(cls, pid: int) -> Process:
        """Hold on to process `pid`. Raises OSError where there is none."""
        return cls(pid, os.pidfd_open(pid))

    @property
    def ended(self) -> bool:
        """Whether it has ended; its exit may not be collected yet."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def send(self, number: int) -> None:
        """Send it a signal; one that has ended gets none. Raises PermissionError."""
        try:
            _signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return

    def own_group(self, group_before: int) -> int | None:
        """Return the group it has made for itself since it was in `group_before`, if it has."""
        try:
            group = os.getpgid(self.pid)
        except ProcessLookupError:
            return None
        made = group == self.pid and group != group_before and not self.ended
        return group if made else None


class Family:
    """A process, and those descendants of it that were seen."""

    def __init__(self, head: Process) -> None:
        self.head = head
        self._others: dict[int, Process] = {}

    def look(self) -> None:
        """Find what the head and those found before have started since."""
        parents = _parents()
        known = {self.head.pid, *self._others}
        found = True
        while found:
            found = False
            for pid, parent in parents.items():
                if parent in known and pid not in known:
                    known.add(pid)
                    found = True
                    self._hold(pid, parent)

    def left(self) -> list[Process]:
        """Return the descendants that still run."""
        for pid, process in list(self._others.items()):
            if process.ended:
                os.close(process.pidfd)
                del self._others[pid]
        return list(self._others.values())

    def _hold(self, pid: int, parent: int) -> None:
        try:
            process = Process.open(pid)
        except OSError:
            return
        if _parent_of(str(pid)) == parent:
            self._others[pid] = process
        else:  # it ended in between, and the pid may be somebody else's
            os.close(process.pidfd)


def _parents() -> dict[int, int]:
    """Return the parent of every process there is."""
    pids = (name for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - pathlib costs 8 ms
    found = ((int(name), _parent_of(name)) for name in pids)
    return {pid: parent for pid, parent in found if parent is not None}


def _parent_of(pid: str) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123 - pathlib costs 8 ms
            text = stat.read()
    except OSError:
        return None
    return int(text.rpartition(b")")[2].split()[_PARENT_FIELD])
