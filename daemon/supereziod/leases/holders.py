"""Which processes hold which leases, and who is one holder by that.

A holder is a connected component of leases and the processes attached to them: two leases that
share a process have one holder, so that its VRAM is counted once. `descent` knows what else counts
for those processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import Context
from itertools import chain, count, islice
from typing import Final

from superezio.errors import BusyError
from supereziod.leases.descent import Descent
from supereziod.leases.handles import HandleOpener, HeldBy, ProcessHandle
from supereziod.leases.links import Bound, Root, components, hang_together, is_spare
from supereziod.leases.processes import Identity, ProcessTable

#: How many descendants of a lease are worth a place in its record.
_MAX_KIN: Final = 256


class Holders:
    """The processes behind the leases, watched on the event loop.

    `on_ended` hears of leases whose last attached process has ended; `on_moved` of a lease that
    counts for another holder from now on, as that was linked to it; `on_lost` of a holder and
    processes that are not its own any more; `on_split` of a holder, another one that begins, and
    the leases and processes that count for that from now on.
    """

    def __init__(
        self,
        *,
        processes: ProcessTable,
        on_ended: Callable[[list[str]], None],
        on_moved: Callable[[str, str], None],
        on_lost: Callable[[str, list[int]], None],
        on_split: Callable[[str, str, list[str], list[int]], None],
    ) -> None:
        self._processes = processes
        self._on_ended = on_ended
        self._on_moved = on_moved
        self._on_lost = on_lost
        self._on_split = on_split
        self._numbers = count(1)
        self._leases: dict[str, Bound] = {}
        self._members: dict[str, dict[str, None]] = {}  # holder -> its leases, oldest first
        self._roots: dict[Identity, Root] = {}
        self._living: dict[int, Identity] = {}
        self._ended: dict[Identity, Root] = {}  # what is kept of them, for others
        self._held: dict[int, int] = {}  # uid -> how many processes hold its leases
        self._awaited = False
        self.descent = Descent(
            processes=processes,
            roots=self._roots,
            living=self._living,
            holder_of=self._holder_at,
        )

    def bind(
        self,
        lease: str,
        handles: Iterable[ProcessHandle],
        *,
        uid: int,
        awaited: Iterable[HeldBy] = (),
    ) -> str:
        """Let the processes hold a new lease of a user, and return its holder.

        The handles change owner. `awaited` hold it, too: they are watched once they can be opened.
        """
        holder = f"holder-{next(self._numbers)}"
        self._leases[lease] = Bound(holder, uid=uid)
        self._members[holder] = {lease: None}
        for handle in handles:
            self._join(lease, handle, tell=False)
        for held in awaited:
            root = self._roots.setdefault(held.identity, Root())
            if root.handle is None:
                root.awaited = held
                self._awaited = True
            self._link(lease, held.identity, root, tell=False)
        return self._leases[lease].holder

    def attach(self, lease: str, handle: ProcessHandle) -> None:
        """Let one more process hold the lease. The handle changes owner."""
        self._join(lease, handle, tell=True)

    def watch_awaited(self, opener: HandleOpener) -> None:
        """Open what could not be opened, as far as it can be now; some may have ended since."""
        if not self._awaited:
            return
        for identity, root in tuple(self._roots.items()):
            if root.awaited is None or self._roots.get(identity) is not root:
                continue
            try:
                handle = opener.again(root.awaited)
            except BusyError:
                return
            root.awaited = None
            if handle is None:
                self._end_leases(root)
                self._forget_ended(identity, root)
            else:
                self._watch(handle, root)
        self._awaited = False

    def unbind(self, *leases: str) -> None:
        """Forget leases; what linked others through them links them no more.

        Where a holder has leases left, `on_lost` hears of the processes that it has lost, as they
        hold no other lease; then `on_split` of those of its leases that nothing links to the rest.
        """
        gone: dict[str, dict[Identity, Root]] = {}
        for lease in leases:
            bound = self._leases.pop(lease)
            del self._members[bound.holder][lease]
            gone.setdefault(bound.holder, {}).update(bound.roots)
            for root in bound.roots.values():
                root.leases.discard(lease)
                self._count(bound.uid, -1)
        for holder, roots in gone.items():
            lost = self._drop_unbound(roots)
            if not self._members[holder]:
                del self._members[holder]
            else:
                if lost:
                    self._on_lost(holder, lost)
                left = {identity: root for identity, root in roots.items() if root.leases}
                if not hang_together(left, self._leases):
                    self._split(holder)

    def holder_of(self, lease: str) -> str:
        """Return the lease's holder."""
        return self._leases[lease].holder

    def leases_of(self, holder: str) -> list[str]:
        """Return the holder's leases, oldest first."""
        return list(self._members.get(holder, ()))

    def attached_to(self, lease: str) -> list[ProcessHandle]:
        """Return the living processes attached to the lease."""
        roots = self._leases[lease].roots.values()
        return [root.handle for root in roots if root.handle is not None]

    def is_held_by(self, lease: str, identity: Identity) -> bool:
        """Tell whether the process holds the lease, and has not ended as far as is known."""
        root = self._leases[lease].roots.get(identity)
        return root is not None and root.holds

    def processes_of(self, uid: int) -> int:
        """Return how many processes hold leases of the user; for each lease, if they hold more.

        One that has ended counts as long as others count for it, or hang together by it.
        """
        return self._held.get(uid, 0)

    def whose(self, handle: ProcessHandle) -> tuple[str | None, frozenset[int]]:
        """Return the holder of the process, if any, and those of its own that are nobody's.

        The latter as of the last pass: what it started, and what is in a cgroup of its own.
        """
        strangers = self.descent.strangers.of(handle.identity, lambda: handle.cgroup)
        return self._holder_of(handle.identity), strangers

    def whose_pid(self, pid: int) -> tuple[str | None, frozenset[int]]:
        """Return the same for a process that nobody holds on to. Raises BusyError."""
        strangers = self.descent.strangers
        if pid in self._living or strangers.may_be_of(pid):
            origin = self._processes.origin(pid)
            if origin is not None:
                own = strangers.of(origin.identity, lambda: self._processes.own_cgroup(pid))
                return self._holder_of(origin.identity), own
        return None, frozenset()

    def search(self) -> None:
        """Note what processes have started, before one in between can end. Raises BusyError."""
        self.descent.search()
        for identity, root in tuple(self._ended.items()):
            self._forget_ended(identity, root)

    def kin_of(self, lease: str) -> tuple[Identity, ...]:
        """Return the known descendants of the lease's processes.

        Those that have ended go with the next search. Of more than 256 that live, the first that
        were found stay: they have lived longest, and what has just been started is found again as
        long as its parent lives.
        """
        roots = self._leases[lease].roots.values()
        return tuple(islice(chain.from_iterable(root.kin for root in roots), _MAX_KIN))

    def restore_kin(
        self, lease: str, kin: Iterable[Identity], *, ended: Iterable[Identity]
    ) -> None:
        """Take up descendants known in an earlier run, if they live: the same pid is not enough.

        They are one of the lease's processes' own; where all of those have ended, of one that has.
        """
        known = tuple(kin)
        try:
            there = [each for each in known if self._processes.is_alive(each)]
        except BusyError:
            there = list(known)  # the next search forgets those that are not there
        bound = self._leases[lease]
        identity = next(iter(bound.roots), None) or next(iter(ended), None)
        if not there or identity is None:
            return
        root = self._roots.setdefault(identity, Root())
        self._link(lease, identity, root, tell=True)
        if not root.holds:
            self._ended[identity] = root
        for each in there:
            self.descent.remember(each, identity)

    def close(self) -> None:
        """Stop watching and let go of every process."""
        for identity, root in self._roots.items():
            self._let_go(identity, root)
        self._roots.clear()
        self._living.clear()
        self._leases.clear()
        self._members.clear()
        self._ended.clear()
        self.descent.clear()
        self._held.clear()

    # --- the graph ------------------------------------------------------------------------------

    def _join(self, lease: str, handle: ProcessHandle, *, tell: bool) -> None:
        root = self._roots.get(handle.identity)
        if root is None:
            root = self._roots[handle.identity] = Root()
            self._watch(handle, root)
        elif root.awaited is not None:
            self._watch(handle, root)
        elif root.handle is not handle:
            if root.handle is not None:
                root.handle.confirmed |= handle.confirmed
            handle.close()
        self._link(lease, handle.identity, root, tell=tell)

    def _link(self, lease: str, identity: Identity, root: Root, *, tell: bool) -> None:
        bound = self._leases[lease]
        for other in root.leases:
            self._merge(bound.holder, self._leases[other].holder, newest=lease, tell=tell)
            break  # all leases of one process have one holder already
        if lease not in root.leases:
            self._count(bound.uid, 1)
        root.leases.add(lease)
        bound.roots[identity] = root
        if root.kin:
            self.descent.note_changed(lease)

    def _merge(self, one: str, other: str, *, newest: str, tell: bool) -> None:
        if one == other:
            return
        keep, gone = sorted((one, other), key=_number)
        for lease in self._members.pop(gone):
            self._move(lease, keep, tell=tell or lease != newest)

    def _drop_unbound(self, roots: dict[Identity, Root]) -> list[int]:
        """Let go of those that hold no lease any more; return them and what counts for them."""
        lost: list[int] = []
        for identity, root in roots.items():
            if not root.leases:
                lost += [identity.pid, *(kin.pid for kin in root.kin)]
                self._drop(identity, root)
        return [*lost, *self.descent.in_no_cgroup()] if lost else []

    def _split(self, holder: str) -> None:
        _, *parted = components(self._members[holder], self._leases)
        names = [f"holder-{next(self._numbers)}" for _ in parted]
        for name, part in zip(names, parted, strict=True):
            self._members[name] = dict.fromkeys(part)
            for lease in part:
                del self._members[holder][lease]
                self._leases[lease].holder = name
        by_cgroup: dict[str, list[int]] = {}
        for pid, whose in self.descent.holders_by_cgroup():
            if len(whose) > 1:
                self._on_lost(holder, [pid])  # a cgroup of two holders counts for neither
            for name in whose:
                by_cgroup.setdefault(name, []).append(pid)
        for name, part in zip(names, parted, strict=True):
            pids = by_cgroup.get(name, [])
            for identity, root in self._roots_of(part).items():
                pids += [identity.pid, *(kin.pid for kin in root.kin)]
            self._on_split(holder, name, part, pids)

    def _roots_of(self, leases: Iterable[str]) -> dict[Identity, Root]:
        found: dict[Identity, Root] = {}
        for lease in leases:
            found.update(self._leases[lease].roots)
        return found

    def _move(self, lease: str, holder: str, *, tell: bool) -> None:
        self._leases[lease].holder = holder
        self._members.setdefault(holder, {})[lease] = None
        if tell:
            self._on_moved(lease, holder)

    def _holder_of(self, identity: Identity) -> str | None:
        return self._holder_at(identity) if identity in self._roots else None

    def _holder_at(self, root: Identity) -> str:
        return self._leases[next(iter(self._roots[root].leases))].holder

    # --- the processes --------------------------------------------------------------------------

    def _watch(self, handle: ProcessHandle, root: Root) -> None:
        root.handle = handle
        root.awaited = None
        self.descent.unsearched = True
        self._living[handle.identity.pid] = handle.identity
        # An end works for nobody's request: not for the one that bound the process.
        loop = asyncio.get_running_loop()
        Context().run(loop.add_reader, handle.pidfd, self._on_process_ended, handle.identity)

    def _on_process_ended(self, identity: Identity) -> None:
        root = self._roots[identity]
        self._let_go(identity, root)
        self._end_leases(root)
        self._forget_ended(identity, root)

    def _end_leases(self, root: Root) -> None:
        """Tell which leases end with a process that has just ended."""
        over = []
        for lease in root.leases:
            bound = self._leases[lease]
            if not any(other.holds for other in bound.roots.values()):
                over.append(lease)
        if over:
            self._on_ended(over)

    def _forget_ended(self, identity: Identity, root: Root) -> None:
        """Forget one that has ended, unless others count for it, or hang together by it alone.

        Who starts a worker after the other for months has as many as live.
        """
        if not root.leases or root.holds:
            self._ended.pop(identity, None)
        elif root.kin or not is_spare(root, self._leases):
            self._ended[identity] = root
        else:
            self._ended.pop(identity, None)
            for lease in root.leases:
                bound = self._leases[lease]
                del bound.roots[identity]
                self._count(bound.uid, -1)
            del self._roots[identity]

    def _count(self, uid: int, change: int) -> None:
        held = self._held.pop(uid, 0) + change
        if held:
            self._held[uid] = held

    def _drop(self, identity: Identity, root: Root) -> None:
        self._let_go(identity, root)
        self._ended.pop(identity, None)
        del self._roots[identity]
        self.descent.drop(identity, root)

    def _let_go(self, identity: Identity, root: Root) -> None:
        if root.handle is None:
            return
        asyncio.get_running_loop().remove_reader(root.handle.pidfd)
        root.handle.close()
        root.handle = None
        if self._living.get(identity.pid) == identity:
            del self._living[identity.pid]


def _number(holder: str) -> int:
    return int(holder.rpartition("-")[2])
