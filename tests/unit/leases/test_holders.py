"""Holders: connected components of leases and processes, and whose a process is."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lease_host import Child, child, tree, until
from supereziod.leases.handles import HandleOpener, HeldBy, ProcessHandle
from supereziod.leases.holders import Holders
from supereziod.leases.processes import Identity, ProcessTable


class Watch:
    """Holders, and what they told."""

    def __init__(self, root: Path = Path("/proc")) -> None:
        self.processes = ProcessTable(root)
        self.ended: list[list[str]] = []
        self.moved: dict[str, str] = {}
        self.lost: list[tuple[str, list[int]]] = []
        self.split: list[tuple[str, str, list[str], list[int]]] = []
        self.holders = Holders(
            processes=self.processes,
            on_ended=self._on_ended,
            on_moved=self._on_moved,
            on_lost=self._on_lost,
            on_split=self._on_split,
        )

    def _on_ended(self, leases: list[str]) -> None:
        self.ended.append(sorted(leases))
        self.holders.unbind(*leases)

    def _on_moved(self, lease: str, holder: str) -> None:
        self.moved[lease] = holder

    def _on_lost(self, holder: str, pids: list[int]) -> None:
        self.lost.append((holder, sorted(pids)))

    def _on_split(self, old: str, new: str, leases: list[str], pids: list[int]) -> None:
        self.split.append((old, new, leases, sorted(pids)))

    def handle(self, pid: int) -> ProcessHandle:
        origin = self.processes.origin(pid)
        assert origin is not None
        return ProcessHandle(
            identity=origin.identity,
            pidfd=os.pidfd_open(pid),
            confirmed=True,
            processes=self.processes,
        )

    def bind(self, lease: str, *pids: int) -> str:
        return self.holders.bind(lease, [self.handle(pid) for pid in pids], uid=1000)

    def of(self, pid: int) -> str | None:
        return self.holders.descent.attribution()(pid)


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    watch = Watch()
    yield watch
    watch.holders.close()


@contextmanager
def children(count: int) -> Iterator[list[Child]]:
    found = [Child() for _ in range(count)]
    try:
        yield found
    finally:
        for each in found:
            each.close()


# --- components ---------------------------------------------------------------------------------


async def test_leases_without_a_common_process_have_holders_of_their_own(watch: Watch) -> None:
    with children(2) as (one, other):
        assert watch.bind("a", one.pid) != watch.bind("b", other.pid)
        assert watch.moved == {}


async def test_leases_of_one_process_have_one_holder(watch: Watch) -> None:
    with child() as process:
        holder = watch.bind("a", process.pid)
        assert watch.bind("b", process.pid) == holder
        assert watch.holders.leases_of(holder) == ["a", "b"]
        assert watch.moved == {}


async def test_a_lease_that_links_two_holders_makes_them_one(watch: Watch) -> None:
    with children(2) as (one, other):
        first = watch.bind("a", one.pid)
        second = watch.bind("b", other.pid)
        assert watch.bind("c", one.pid, other.pid) == first
        assert watch.moved == {"b": first}
        assert watch.of(other.pid) == first != second


async def test_attaching_merges_into_the_older_holder(watch: Watch) -> None:
    with children(2) as (one, other):
        first = watch.bind("a", one.pid)
        watch.bind("b", other.pid)
        watch.holders.attach("b", watch.handle(one.pid))
        assert watch.holders.holder_of("b") == first
        assert watch.moved == {"b": first}


async def test_a_link_that_is_released_parts_what_it_linked(watch: Watch) -> None:
    with children(2) as (one, other):
        watch.bind("link", one.pid, other.pid)
        watch.bind("a", one.pid)
        watch.bind("b", other.pid)
        watch.holders.unbind("link")
        assert watch.holders.holder_of("a") != watch.holders.holder_of("b")
        assert watch.of(one.pid) == watch.holders.holder_of("a")
        assert watch.of(other.pid) == watch.holders.holder_of("b")
        whole, part = watch.holders.holder_of("a"), watch.holders.holder_of("b")
        assert watch.split == [(whole, part, ["b"], [other.pid])]
        assert watch.moved == {}


async def test_a_release_that_parts_nothing_moves_nobody(watch: Watch) -> None:
    with children(2) as (one, other):
        holder = watch.bind("a", one.pid)
        watch.bind("b", one.pid, other.pid)
        watch.bind("c", one.pid)
        watch.holders.unbind("b")
        assert watch.moved == {}
        assert watch.split == []
        assert watch.lost == [(holder, [other.pid])]
        assert watch.holders.leases_of(holder) == ["a", "c"]
        assert watch.of(other.pid) is None


async def test_a_lease_without_processes_is_a_holder_too(watch: Watch) -> None:
    holder = watch.holders.bind("a", [], uid=1000)
    assert watch.holders.leases_of(holder) == ["a"]
    watch.holders.unbind("a")
    assert watch.holders.leases_of(holder) == []


# --- ends ---------------------------------------------------------------------------------------


async def test_a_lease_ends_with_its_last_process(watch: Watch) -> None:
    with children(2) as (one, other):
        watch.bind("a", one.pid, other.pid)
        watch.bind("b", one.pid)
        one.kill()
        await until(lambda: bool(watch.ended))
        assert watch.ended == [["b"]]
        assert [each.identity.pid for each in watch.holders.attached_to("a")] == [other.pid]
        other.kill()
        await until(lambda: len(watch.ended) == 2)
        assert watch.ended[1] == ["a"]


async def test_an_unreaped_process_has_ended(watch: Watch) -> None:
    with child() as process:
        watch.bind("a", process.pid)
        os.kill(process.pid, 9)  # and nobody collects it
        await until(lambda: bool(watch.ended))


async def test_nothing_is_left_open(watch: Watch) -> None:
    before = open_files()
    with children(2) as (one, other):
        opened = open_files()
        watch.bind("a", one.pid, other.pid)
        watch.bind("b", one.pid)
        watch.holders.attach("b", watch.handle(other.pid))
        watch.holders.unbind("a")
        watch.holders.unbind("b")
        assert open_files() == opened
    assert open_files() == before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# --- whose a process is -------------------------------------------------------------------------


async def test_what_a_process_started_is_its_holders(watch: Watch) -> None:
    with tree() as (top, middle, leaf):
        holder = watch.bind("a", top.pid)
        assert watch.of(leaf) == watch.of(middle) == holder
        assert watch.of(os.getpid()) is None
        assert watch.of(1) is None


async def test_the_nearest_attached_ancestor_counts(watch: Watch) -> None:
    with tree() as (top, middle, leaf):
        watch.bind("a", top.pid)
        watch.holders.search()
        nearer = watch.bind("b", middle)
        assert watch.of(leaf) == nearer


@pytest.mark.parametrize("seen_by", ["pass", "search"])
async def test_an_orphan_stays_with_its_holder(watch: Watch, seen_by: str) -> None:
    with tree() as (top, middle, leaf):
        holder = watch.bind("a", top.pid)
        if seen_by == "pass":
            assert watch.of(leaf) == holder
        else:
            watch.holders.search()
        os.kill(middle, 9)
        await until(lambda: _parent(leaf) not in (middle, top.pid))
        assert watch.of(leaf) == holder


async def test_a_descendant_is_the_holders_after_its_attached_ancestor_ended(watch: Watch) -> None:
    with tree() as (top, _, leaf), child() as other:
        holder = watch.bind("a", top.pid, other.pid)
        watch.holders.search()
        top.kill()
        await until(lambda: len(watch.holders.attached_to("a")) == 1)
        assert watch.of(leaf) == holder


async def test_an_orphan_is_forgotten_with_its_lease(watch: Watch) -> None:
    with tree() as (top, middle, leaf):
        watch.bind("a", top.pid)
        watch.holders.search()
        watch.holders.unbind("a")
        watch.bind("b", os.getppid())
        watch.holders.unbind("b")
        assert watch.of(leaf) is None
        assert watch.of(middle) is None


async def test_processes_that_come_and_go_for_months_are_forgotten(watch: Watch) -> None:
    """A server that starts one worker after the other takes no more than those that live."""
    with child() as server:
        holder = watch.bind("a", server.pid)
        for _ in range(5):
            with child() as worker:
                watch.holders.attach("a", watch.handle(worker.pid))
            await until(lambda: watch.holders.processes_of(1000) == 1)
        assert len(watch.holders._roots) == 1
        assert watch.of(server.pid) == holder


async def test_one_that_has_ended_is_forgotten_with_the_last_that_it_started(watch: Watch) -> None:
    with child() as other:
        with tree() as (top, middle, leaf):
            holder = watch.bind("a", top.pid, other.pid)
            watch.holders.search()
            top.kill()
            await until(lambda: len(watch.holders.attached_to("a")) == 1)
            watch.holders.search()
            assert watch.of(leaf) == holder
            assert watch.holders.processes_of(1000) == 2, "it counts as long as that lives"
        await until(lambda: not Path(f"/proc/{middle}").exists())
        watch.holders.search()
        assert watch.holders.processes_of(1000) == len(watch.holders._roots) == 1


async def test_leases_stay_one_holders_that_only_an_ended_process_links(watch: Watch) -> None:
    with child() as one, child() as two:
        with child() as link, child() as spare:
            watch.bind("a", one.pid, link.pid, spare.pid)
            watch.bind("b", two.pid, link.pid, spare.pid)
            spare.kill()
            await until(lambda: watch.holders.processes_of(1000) == 4)
        await until(lambda: len(watch.holders.attached_to("a")) == 1)
        watch.bind("c", one.pid, two.pid)
        watch.holders.unbind("c")
        assert watch.holders.holder_of("a") == watch.holders.holder_of("b")
        assert watch.split == []
        watch.holders.unbind("b")
        watch.holders.search()
        assert watch.holders.processes_of(1000) == len(watch.holders._roots) == 1


# --- a /proc that the test writes ---------------------------------------------------------------


class FakeProc:
    """A /proc tree with the few files that are read."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, pid: int, *, parent: int = 1, start: int = 1, cgroup: str = "/") -> None:
        folder = self.root / str(pid)
        folder.mkdir(exist_ok=True)
        (folder / "stat").write_text(f"{pid} (a) b) S {parent}" + " 0" * 17 + f" {start} 0")
        (folder / "cgroup").write_text(f"0::{cgroup}\n")
        (folder / "status").write_text("Name:\tx\nUid:\t7\t8\t7\t7\nGid:\t1\n")
        (folder / "cmdline").write_bytes(b"prog\0--flag\0")

    def remove(self, pid: int) -> None:
        for file in (self.root / str(pid)).iterdir():
            file.unlink()
        (self.root / str(pid)).rmdir()


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[tuple[FakeProc, Watch]]:
    watch = Watch(tmp_path)
    yield FakeProc(tmp_path), watch
    watch.holders.close()


ME = os.getpid()


async def test_a_reused_pid_is_another_process(fake: tuple[FakeProc, Watch]) -> None:
    proc, watch = fake
    proc.put(ME)
    proc.put(4000, parent=ME, start=5)
    holder = watch.bind("a", ME)
    assert watch.of(4000) == holder
    proc.put(4000, parent=1, start=5)
    assert watch.of(4000) == holder  # an orphan now
    proc.put(4000, parent=1, start=9)
    assert watch.of(4000) is None


@pytest.mark.parametrize("seen_by", ["pass", "search"])
async def test_what_an_orphan_has_started_is_remembered_too(
    fake: tuple[FakeProc, Watch], seen_by: str
) -> None:
    proc, watch = fake
    proc.put(ME)
    proc.put(4000, parent=ME, start=5)
    holder = watch.bind("a", ME)
    watch.holders.search()
    proc.put(4000, parent=1, start=5)  # an orphan now
    proc.put(4001, parent=4000, start=6)
    if seen_by == "pass":
        assert watch.of(4001) == holder
    else:
        watch.holders.search()
    proc.remove(4000)
    proc.put(4001, parent=1, start=6)
    assert watch.of(4001) == holder


async def test_descendants_that_are_gone_are_forgotten(fake: tuple[FakeProc, Watch]) -> None:
    proc, watch = fake
    proc.put(ME)
    proc.put(4000, parent=ME, start=5)
    holder = watch.bind("a", ME)
    watch.holders.search()
    assert watch.of(4000) == holder
    proc.remove(4000)
    watch.holders.search()
    proc.put(4000, parent=1, start=5)
    assert watch.of(4000) is None


async def test_so_many_descendants_are_told_and_the_first_found_are(
    fake: tuple[FakeProc, Watch],
) -> None:
    proc, watch = fake
    proc.put(ME)
    proc.put(4000, parent=ME)
    watch.bind("a", ME)
    watch.holders.search()
    for pid in range(4001, 4400):
        proc.put(pid, parent=4000)
    watch.holders.search()
    kin = watch.holders.kin_of("a")
    assert (len(kin), kin[0]) == (256, Identity(4000, 1))
    assert watch.of(4399) is not None, "it is known nevertheless"
    for pid in range(4001, 4300):
        proc.remove(pid)
    watch.holders.descent.changed_kin()
    watch.holders.search()
    assert watch.holders.descent.changed_kin() == {"a"}
    kin = watch.holders.kin_of("a")
    assert {each.pid for each in kin} == {4000, *range(4300, 4400)}, "the dead go first"
    watch.holders.search()
    assert watch.holders.descent.changed_kin() == set()


async def test_a_process_whose_end_is_not_told_yet_is_still_its_holders(
    fake: tuple[FakeProc, Watch],
) -> None:
    proc, watch = fake
    proc.put(ME)
    holder = watch.bind("a", ME)
    proc.remove(ME)
    assert watch.of(ME) == holder


@pytest.mark.parametrize(
    ("cgroup", "counts"),
    [
        ("/system.slice/llama.service", True),
        ("/machine.slice/libpod-0123.scope", True),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/run-7.scope", True),
        ("/user.slice/user-1000.slice/session-3.scope", False),
        ("/user.slice/user-1000.slice/user@1000.service", False),
        ("/user.slice", False),
        ("/", False),
    ],
)
async def test_the_cgroup_counts_where_it_is_one_programs_own(
    fake: tuple[FakeProc, Watch], cgroup: str, *, counts: bool
) -> None:
    proc, watch = fake
    proc.put(ME, cgroup=cgroup)
    proc.put(4000, parent=1, cgroup=cgroup)
    holder = watch.bind("a", ME)
    assert watch.of(4000) == (holder if counts else None)


async def test_a_cgroup_beneath_the_holders_counts(fake: tuple[FakeProc, Watch]) -> None:
    proc, watch = fake
    proc.put(ME, cgroup="/machine.slice/libpod-01.scope")
    proc.put(4000, cgroup="/machine.slice/libpod-01.scope/app.service")
    proc.put(4001, cgroup="/machine.slice/libpod-011.scope")
    assert watch.bind("a", ME) == watch.of(4000)
    assert watch.of(4001) is None


async def test_a_cgroup_of_two_holders_counts_for_neither(fake: tuple[FakeProc, Watch]) -> None:
    proc, watch = fake
    with child() as other:
        for pid in (ME, other.pid, 4000):
            proc.put(pid, cgroup="/system.slice/llama.service")
        watch.bind("a", ME)
        watch.bind("b", other.pid)
        assert watch.of(4000) is None


async def test_what_a_cgroup_gave_a_holder_is_lost_with_the_process_in_it(
    fake: tuple[FakeProc, Watch],
) -> None:
    proc, watch = fake
    with child() as other:
        proc.put(ME, cgroup="/system.slice/llama.service")
        proc.put(4000, cgroup="/system.slice/llama.service")
        proc.put(other.pid)
        holder = watch.bind("link", ME, other.pid)
        watch.bind("kept", other.pid)
        assert watch.of(4000) == holder
        watch.holders.unbind("link")
        assert watch.lost == [(holder, sorted([ME, 4000]))]


@pytest.mark.parametrize("shared", [True, False])
async def test_what_a_cgroup_gave_a_holder_goes_with_the_process_in_it(
    fake: tuple[FakeProc, Watch], *, shared: bool
) -> None:
    """And with neither where both parts have one in it."""
    proc, watch = fake
    with child() as other:
        proc.put(ME, cgroup="/system.slice/llama.service" if shared else "/")
        proc.put(other.pid, cgroup="/system.slice/llama.service")
        proc.put(4000, cgroup="/system.slice/llama.service")
        holder = watch.bind("stays", ME)
        watch.bind("goes", other.pid)
        watch.bind("link", ME, other.pid)
        assert watch.of(4000) == holder
        watch.holders.unbind("link")
        ((_, new, leases, pids),) = watch.split
        assert leases == ["goes"]
        assert watch.lost == ([(holder, [4000])] if shared else [])
        assert pids == sorted([other.pid, 4000])
        assert watch.of(4000) == (None if shared else new)


# --- /proc itself -------------------------------------------------------------------------------


def test_a_command_may_hold_any_character(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path)
    proc.put(7, parent=3, start=11)
    table = ProcessTable(tmp_path)
    origin = table.origin(7)
    assert origin is not None
    assert (origin.identity, origin.parent_pid) == (Identity(7, 11), 3)
    assert table.uids(7) == (7, 8)
    assert table.command(7) == "prog --flag"
    assert list(table.origins()) == [7]


def test_a_process_that_is_not_there_is_none(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path)
    answers = [table.origin(7), table.uids(7), table.command(7), table.own_cgroup(7)]
    assert answers == [None] * 4


def test_a_thread_without_a_command_line_shows_its_name(tmp_path: Path) -> None:
    FakeProc(tmp_path).put(7)
    (tmp_path / "7" / "cmdline").write_bytes(b"")
    (tmp_path / "7" / "comm").write_text("kworker\n")
    assert ProcessTable(tmp_path).command(7) == "kworker"


def test_a_recorded_process_is_opened_again_only_if_it_is_the_same() -> None:
    opener = HandleOpener(processes=ProcessTable())
    origin = ProcessTable().origin(ME)
    assert origin is not None
    start = origin.identity.start_time
    again = opener.again(HeldBy(pid=ME, start_time=start, confirmed=True))
    assert again is not None
    again.close()
    again.close()
    assert opener.again(HeldBy(pid=ME, start_time=start + 1, confirmed=True)) is None
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert opener.again(HeldBy(pid=gone.pid, start_time=1, confirmed=True)) is None


def _parent(pid: int) -> int:
    origin = ProcessTable().origin(pid)
    assert origin is not None
    return origin.parent_pid


# --- whose strangers would be -------------------------------------------------------------------

SERVICE = "/system.slice/llama.service"
FOREST = st.lists(
    st.tuples(st.integers(0, 11), st.sampled_from(("/", SERVICE, f"{SERVICE}/a", "/x.service"))),
    min_size=2,
    max_size=12,
)


@given(forest=FOREST, held=st.booleans())
@settings(max_examples=30, deadline=None)
def test_what_is_a_processes_own_is_what_counts_for_it_once_it_holds_a_lease(
    forest: list[tuple[int, str]], *, held: bool
) -> None:
    """By its tree and its own cgroup, with another holder about or without."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as root, child() as other:
            proc, watch = FakeProc(Path(root)), Watch(Path(root))
            pids = [ME, other.pid, *range(4000, 4000 + len(forest) - 2)]
            for number, (parent, cgroup) in enumerate(forest):
                above = pids[parent] if parent < number else 1
                proc.put(pids[number], parent=above, start=number + 1, cgroup=cgroup)
            if held:
                watch.bind("other", other.pid)
            before = watch.holders.descent.attribution()
            nobodys = [pid for pid in pids if before(pid) is None]
            handle = watch.handle(ME)
            _, own = watch.holders.whose(handle)
            assert watch.holders.whose_pid(ME)[1] == own
            holder = watch.holders.bind("mine", [handle], uid=1000)
            after = watch.holders.descent.attribution()
            assert own == {pid for pid in nobodys if after(pid) == holder}
            watch.holders.close()

    asyncio.run(run())


async def test_a_reused_pid_has_nothing_of_its_own(fake: tuple[FakeProc, Watch]) -> None:
    proc, watch = fake
    proc.put(3999, start=1)
    proc.put(4000, parent=3999, start=2)
    assert watch.of(4000) is None
    assert watch.holders.whose_pid(3999) == (None, frozenset({4000}))
    proc.put(3999, start=7)
    assert watch.holders.whose_pid(3999) == (None, frozenset())
