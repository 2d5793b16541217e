"""To which attached process another one on a GPU belongs: by descent, or by a cgroup of its own.

What a process started counts for it, even once the process in between has ended: descendants are
remembered by pid and start time, as orphans are given to another parent. What is in the own cgroup
of attached processes counts for them, if those have one holder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from supereziod.leases.links import Root
from supereziod.leases.processes import Identity, Origin, ProcessTable
from supereziod.leases.strangers import Strangers, is_within

Attribution = Callable[[int], str | None]

_MAX_DEPTH: Final = 256


class Descent:
    """The known descendants of attached processes (`roots`), and whom a pass showed beside them.

    `living` has those roots by pid that have not ended, `holder_of` names the holder of a root.
    `unsearched` says that a process was attached since the last search. `strangers` are those that
    the last pass showed and that are nobody's.
    """

    def __init__(
        self,
        *,
        processes: ProcessTable,
        roots: Mapping[Identity, Root],
        living: Mapping[int, Identity],
        holder_of: Callable[[Identity], str],
    ) -> None:
        self._processes = processes
        self._roots = roots
        self._living = living
        self._holder_of = holder_of
        self._kin: dict[Identity, Identity] = {}
        self._changed_kin: set[str] = set()
        self._by_cgroup: dict[int, list[Identity]] = {}
        self.strangers = Strangers()
        self.unsearched = False

    def attribution(self) -> Attribution:
        """Return a function from a pid to its holder, for one pass: it remembers its answers."""
        answers: dict[int, str | None] = {}
        self.strangers = Strangers()
        self._by_cgroup = {}

        def holder_of_pid(pid: int) -> str | None:
            if pid not in answers:
                answers[pid] = self._find(pid)
            return answers[pid]

        return holder_of_pid

    def search(self) -> None:
        """Note what attached processes have started, before a parent in between can end.

        Raises BusyError: nothing was noted.
        """
        if not self._roots:
            self.unsearched = False
            return
        there = self._processes.origins()
        self.unsearched = False
        for kin, root in list(self._kin.items()):
            if kin.pid not in there or there[kin.pid].identity != kin:
                del self._kin[kin]
                del self._roots[root].kin[kin]
                self._changed_kin |= self._roots[root].leases
        found: dict[int, tuple[Identity | None, bool]] = {}
        for pid in there:
            self._search_above(pid, there, found)

    def remember(self, identity: Identity, root: Identity) -> None:
        """Let a process count for a root, and for no other."""
        known = self._kin.get(identity)
        if known == root:
            return
        if known is not None:
            del self._roots[known].kin[identity]
            self._changed_kin |= self._roots[known].leases
        self._kin[identity] = root
        self._roots[root].kin[identity] = None
        self._changed_kin |= self._roots[root].leases

    def changed_kin(self) -> set[str]:
        """Return the leases whose known descendants have changed since this was asked last."""
        changed, self._changed_kin = self._changed_kin, set()
        return changed

    def note_changed(self, lease: str) -> None:
        """Note that other descendants count for the lease than before."""
        self._changed_kin.add(lease)

    def drop(self, identity: Identity, root: Root) -> None:
        """Let a process that is attached to nothing any more, and what counts for it, be nobody's.

        Who asks for another lease before the next pass is still there.
        """
        self.strangers.note([identity], None)
        for kin in root.kin:
            self._kin.pop(kin, None)
            self.strangers.note([kin, identity], None)

    def in_no_cgroup(self) -> list[int]:
        """Return those that the last pass gave to cgroups in which no root is left."""
        return [
            pid
            for pid, found in self._by_cgroup.items()
            if not any(identity in self._roots for identity in found)
        ]

    def holders_by_cgroup(self) -> Iterator[tuple[int, set[str]]]:
        """Iterate over those that the last pass gave to a cgroup, and its holders now."""
        for pid, found in self._by_cgroup.items():
            yield pid, {self._holder_of(each) for each in found if each in self._roots}

    def clear(self) -> None:
        """Forget all descendants."""
        self._kin.clear()

    # --- where a process comes from -------------------------------------------------------------

    def _search_above(
        self, pid: int, there: dict[int, Origin], found: dict[int, tuple[Identity | None, bool]]
    ) -> None:
        """Find the attached process of one and of all above it that are not in `found` yet.

        As `_line` does, but each process is looked at once in a search. What is found is the
        attached process, and whether it is an ancestor, and not only that of an orphan.
        """
        line: dict[int, Identity] = {}  # a pid that was reused during the search may close a circle
        while pid in there and pid not in found and pid not in line:
            identity = there[pid].identity
            if identity in self._roots:
                found[pid] = identity, True
            else:
                line[pid] = identity
                pid = there[pid].parent_pid
        root, is_ancestor = found.get(pid, (None, False))
        for each, identity in reversed(line.items()):
            if not is_ancestor:
                root = self._kin.get(identity, root)
            if root is not None:
                self.remember(identity, root)
            found[each] = root, is_ancestor

    def _find(self, pid: int) -> str | None:
        line, root = self._line(pid)
        if root is not None:
            return self._holder_of(root)
        return self._find_by_cgroup(pid, line) if line else self._find_by_pid(pid)

    def _line(self, pid: int) -> tuple[list[Identity], Identity | None]:
        """Return the process and its ancestors up to the nearest attached one, and that one.

        For what descends from an orphan that is remembered, it is the orphan's.
        """
        line: list[Identity] = []
        origin_of = self._processes.origin
        origin = origin_of(pid)
        while origin is not None and len(line) < _MAX_DEPTH:
            if origin.identity in self._roots:
                for identity in line:
                    self.remember(identity, origin.identity)
                return line, origin.identity
            line.append(origin.identity)
            origin = origin_of(origin.parent_pid) if origin.parent_pid > 1 else None
        for place, orphan in enumerate(line):
            if orphan in self._kin:
                for identity in line[:place]:
                    self.remember(identity, self._kin[orphan])
                return line, self._kin[orphan]
        return line, None

    def _find_by_pid(self, pid: int) -> str | None:
        # It is gone from /proc, but whoever waits on its pidfd has not been told yet.
        identity = self._living.get(pid)
        return self._holder_of(identity) if identity is not None else None

    def _find_by_cgroup(self, pid: int, line: list[Identity]) -> str | None:
        cgroup = self._processes.own_cgroup(pid)
        roots = [
            identity
            for identity, root in self._roots.items()
            if cgroup is not None and root.handle is not None
            if is_within(cgroup, root.handle.cgroup)
        ]
        found = {self._holder_of(identity) for identity in roots}
        if len(found) == 1:
            self._by_cgroup[pid] = roots
            return found.pop()
        self.strangers.note(line, None if found else cgroup)
        return None
