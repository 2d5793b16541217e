"""What processes link, against a model that searches naively; and that it is found quickly."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supereziod.leases.handles import ProcessHandle
from supereziod.leases.holders import Holders
from supereziod.leases.links import Bound, Root, components, hang_together
from supereziod.leases.processes import Identity, Origin, ProcessTable


class Quiet:
    """Holders of processes that nobody watches, and which lease is whose by what they told."""

    def __init__(self, processes: ProcessTable | None = None) -> None:
        self.lost: set[int] = set()
        self.splits = 0
        self.holder_of: dict[str, str] = {}
        self.holders = Holders(
            processes=processes or ProcessTable(),
            on_ended=lambda _: None,
            on_moved=self.holder_of.__setitem__,
            on_lost=lambda _, pids: self.lost.update(pids),
            on_split=self._on_split,
        )

    def _on_split(self, _: str, new: str, leases: list[str], pids: list[int]) -> None:
        del pids
        self.splits += 1
        self.holder_of.update(dict.fromkeys(leases, new))

    def bind(self, lease: str, pids: Iterable[int], handles: dict[int, ProcessHandle]) -> None:
        self.holder_of[lease] = self.holders.bind(lease, [handles[pid] for pid in pids], uid=1000)

    def parts(self) -> set[frozenset[str]]:
        holders = set(self.holder_of.values())
        found = {
            frozenset(lease for lease, each in self.holder_of.items() if each == holder)
            for holder in holders
        }
        assert found == {frozenset(self.holders.leases_of(holder)) for holder in holders}
        return found


def naive(held: dict[str, set[int]]) -> set[frozenset[str]]:
    """Join whatever shares a process, until nothing does."""
    parts = [({lease}, set(pids)) for lease, pids in held.items()]
    joined = True
    while joined:
        joined = False
        for one in parts:
            for other in parts:
                if one is not other and one[1] & other[1]:
                    one[0].update(other[0])
                    one[1].update(other[1])
                    parts.remove(other)
                    joined = True
                    break
            if joined:
                break
    return {frozenset(leases) for leases, _ in parts}


def lost(before: dict[str, set[int]], after: dict[str, set[int]]) -> set[int]:
    """Return what holds no lease any more, of holders that have some left."""
    held = set().union(*after.values())
    return {
        _pid(number)
        for part in naive(before)
        if part & after.keys()
        for number in set().union(*(before[lease] for lease in part)) - held
    }


HELD = st.lists(st.sets(st.integers(0, 5), max_size=3), min_size=2, max_size=9)
ENDS = st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=4), min_size=1, max_size=5)


@given(held=HELD, ends=ENDS)
@settings(max_examples=150, deadline=None)
def test_releases_part_exactly_what_nothing_links_any_more(
    held: list[set[int]], ends: list[list[int]]
) -> None:
    async def run() -> None:
        with ExitStack() as open_files:
            quiet = Quiet()
            open_files.callback(quiet.holders.close)
            handles = {number: _handle(number) for number in range(6)}
            left = {f"lease-{number}": pids for number, pids in enumerate(held)}
            for lease, pids in left.items():
                quiet.bind(lease, pids, handles)
            used = set().union(*left.values())
            for number in set(handles) - used:
                handles[number].close()
            assert quiet.parts() == naive(left)
            for step in ends:
                ending = {f"lease-{number}" for number in step} & left.keys()
                before = dict(left)
                quiet.lost.clear()
                quiet.holders.unbind(*sorted(ending))
                for lease in ending:
                    del left[lease], quiet.holder_of[lease]
                assert quiet.parts() == naive(left)
                assert quiet.lost == lost(before, left)

    asyncio.run(run())


def _pid(number: int) -> int:
    return 1_000_000 + number


def _handle(number: int) -> ProcessHandle:
    """Return a handle that nothing happens to: of this process, under another name."""
    return ProcessHandle(
        identity=Identity(_pid(number), 1),
        pidfd=os.pidfd_open(os.getpid()),
        confirmed=True,
        processes=ProcessTable(),
    )


# --- what it costs ------------------------------------------------------------------------------


class Counted(set[str]):
    """The leases of a process, which count how often they are gone through."""

    looks = 0

    def __iter__(self) -> Iterator[str]:
        Counted.looks += len(self)
        return super().__iter__()


def test_a_search_looks_at_each_link_once() -> None:
    bounds = {str(number): Bound("h", uid=1000) for number in range(100)}
    roots = {Identity(pid, 1): Root() for pid in range(8)}
    for root in roots.values():
        root.leases = Counted(bounds)
    for bound in bounds.values():
        bound.roots = roots
    assert hang_together(roots, bounds)
    Counted.looks = 0
    assert components(bounds, bounds) == [list(bounds)]
    assert Counted.looks == 100 * 8


@pytest.mark.parametrize("at_once", [True, False])
async def test_many_leases_of_the_same_processes_end_quickly(*, at_once: bool) -> None:
    """It took 10 s of the loop's time when each end searched all that was left for each process."""
    quiet = Quiet()
    handles = {number: _handle(number) for number in range(8)}
    leases = [f"lease-{number}" for number in range(512)]
    for lease in leases:
        quiet.bind(lease, handles, handles)
    started = time.process_time()
    for ending in [leases] if at_once else [[lease] for lease in leases]:
        quiet.holders.unbind(*ending)
    assert time.process_time() - started < 1
    assert (quiet.splits, quiet.lost) == (0, set())


async def test_a_chain_of_leases_is_taken_apart_quickly() -> None:
    """Where each release does part something, and has to be searched for."""
    quiet = Quiet()
    handles = {number: _handle(number) for number in range(257)}
    for number in range(256):
        quiet.bind(f"lease-{number}", (number, number + 1), handles)
    started = time.process_time()
    for number in range(1, 256, 2):
        quiet.holders.unbind(f"lease-{number}")
        del quiet.holder_of[f"lease-{number}"]
    assert time.process_time() - started < 1
    assert len(quiet.parts()) == 128
    quiet.holders.close()


class Origins(ProcessTable):
    """Processes in chains of 200, which count how often one is looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.there = {
            pid: Origin(Identity(pid, 1), 1 if pid % 200 == 0 else pid - 1)
            for pid in range(10_000, 14_000)
        }

    def origins(self) -> dict[int, Origin]:
        table = self

        class Seen(dict[int, Origin]):
            def __getitem__(self, pid: int) -> Origin:
                table.looks += 1
                return super().__getitem__(pid)

        return Seen(self.there)


async def test_a_search_for_descendants_looks_at_each_process_once() -> None:
    table = Origins()
    holders = Quiet(table).holders
    for pid in (10_000, 10_500):
        handle = _handle(0)
        handle.identity = Identity(pid, 1)
        holders.bind(f"lease-{pid}", [handle], uid=1000)
    holders.search()
    assert table.looks <= 2 * len(table.there)
    assert {each.pid for each in holders.kin_of("lease-10000")} == set(range(10_001, 10_200))
    assert {each.pid for each in holders.kin_of("lease-10500")} == set(range(10_501, 10_600))
    holders.close()


async def test_a_circle_of_reused_pids_ends_the_search() -> None:
    table = Origins()
    table.there[10_000] = Origin(Identity(10_000, 1), 10_199)
    holders = Quiet(table).holders
    holders.bind("a", [_handle(1)], uid=1000)
    holders.search()
    assert holders.kin_of("a") == ()
    holders.close()
