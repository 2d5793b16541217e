"""Processes on GPUs that belong to no holder: whose they would be, if it held a lease."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from supereziod.leases.processes import Identity


class Strangers:
    """The processes that the last attribution found to be nobody's.

    What it read of their ancestors is kept, so that an acquire looks up whether its holder is on a
    GPU already, and need not search for it.
    """

    def __init__(self) -> None:
        self._below: dict[int, list[tuple[Identity, int]]] = {}
        self._in_cgroup: dict[str, list[int]] = {}

    def note(self, line: Sequence[Identity], cgroup: str | None) -> None:
        """Take in a process with its ancestors, itself first; its cgroup, if no holder's is."""
        pid = line[0].pid
        for identity in line:
            self._below.setdefault(identity.pid, []).append((identity, pid))
        if cgroup is not None:
            self._in_cgroup.setdefault(cgroup, []).append(pid)

    def may_be_of(self, pid: int) -> bool:
        """Tell whether some may be, without a look at the process."""
        return pid in self._below or bool(self._in_cgroup)

    def of(self, identity: Identity, own_cgroup: Callable[[], str | None]) -> frozenset[int]:
        """Return the pids of those that are the process, started by it, or in its own cgroup."""
        below = self._below.get(identity.pid, ())
        found = {pid for ancestor, pid in below if ancestor == identity}
        own = own_cgroup() if self._in_cgroup else None
        for cgroup, pids in self._in_cgroup.items() if own is not None else ():
            if is_within(cgroup, own):
                found.update(pids)
        return frozenset(found)


def is_within(cgroup: str, parent: str | None) -> bool:
    """Tell whether a cgroup is another one, or below it."""
    return parent is not None and (cgroup == parent or cgroup.startswith(parent + "/"))
