"""The ring file: kept over whatever end, bounded, private, and never the end of the daemon."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from superezio.flight import head as flight_head
from superezio.flight import layout
from superezio.flight.reading import Entry, RingReader, latest
from superezio.flight.records import IN_FLIGHT, OK, RequestNote, encode_note
from supereziod.observability.plain_lane import SERIES_NS, Series
from supereziod.observability.ring import Ring

SIZE = 256 * 1024
WHO = layout.stamp(1000, 4711, b"\x0a" * 8, b"\x0b" * 8)
WALL_NS = 1_700_000_000_000_000_000


class Clocks:
    """A monotonic clock, and a time of day that can be set."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000
        self.wall_ns = WALL_NS

    def monotonic(self) -> int:
        return self.now_ns

    def wall(self) -> int:
        return self.now_ns + self.wall_ns


@contextmanager
def opened(path: Path, *, size: int = SIZE, clocks: Clocks | None = None) -> Iterator[Ring]:
    clocks = clocks or Clocks()
    ring = Ring.open(
        path, size=size, boot_id="b007", clock=clocks.monotonic, wall_clock=clocks.wall
    )
    with closing(ring):
        yield ring


def plain(ring: Ring, number: int, method: str = "system.ping") -> None:
    ring.plain.write(ring.marks_of(method).plain, WHO, number, number * 10)


def full(ring: Ring, number: int, *, text: str = "") -> None:
    note = RequestNote(
        connection="0a" * 8, number=number, correlation_id=f"id-{number}", session="0b" * 8,
        uid=1000, pid=4711, method="lease.acquire", outcome=OK, received_ns=number * 10,
        duration_ns=5, lease=text or None,
    )  # fmt: skip
    assert ring.write_full(encode_note(note))


def read(reader: RingReader, *, full: bool) -> list[Entry]:
    return [entry for entry in reader.newest_first(full=full) if entry is not None]


def numbers(reader: RingReader, *, full: bool) -> list[int]:
    """The numbers of the requests of a lane, the oldest first."""
    notes = [entry.note for entry in reversed(read(reader, full=full))]
    return [note.number for note in notes if isinstance(note, RequestNote)]


def of_file(path: Path) -> RingReader:
    return RingReader.of(memoryview(path.read_bytes()))


def test_what_was_written_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "flight.ring"
    with opened(path) as ring:
        for number in (1, 2, 3):
            plain(ring, number)
            full(ring, number + 10)
        assert numbers(of_file(path), full=False) == [1, 2, 3]
        assert numbers(of_file(path), full=True) == [11, 12, 13]
        assert numbers(ring.reader(), full=False) == [1, 2, 3]


def test_the_next_life_goes_on_behind_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "flight.ring"
    for life in (1, 2, 3):
        with opened(path) as ring:
            assert ring.life == life
            assert ring.moved_aside is None
            plain(ring, life)
            full(ring, life)
    entries = read(of_file(path), full=True)
    assert [entry.era.life for entry in entries] == [3, 2, 1]
    assert numbers(of_file(path), full=False) == [1, 2, 3]


def test_the_file_is_the_daemons_alone_and_of_the_size_that_was_asked(tmp_path: Path) -> None:
    path = tmp_path / "flight.ring"
    path.touch(mode=0o666)
    path.unlink()
    with opened(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert SIZE - 128 <= path.stat().st_size <= SIZE
        assert path.stat().st_blocks * 512 >= path.stat().st_size - 4096, "it has holes"


@pytest.mark.parametrize("laps", [1.5, 3.2])
def test_a_ring_that_is_full_loses_its_oldest_and_nothing_else(tmp_path: Path, laps: float) -> None:
    path = tmp_path / "flight.ring"
    with opened(path) as ring:
        slots = ring.plain.size // 64
        count = int(slots * laps)
        for number in range(1, count + 1):
            plain(ring, number)
        assert numbers(ring.reader(), full=False) == list(range(count - slots + 1, count + 1))
        size = len(ring.lanes.full)
        written = 0
        for number in range(1, 4000):
            full(ring, number, text="x" * (number % 700))
            written += 1
        kept = numbers(ring.reader(), full=True)
    assert kept[-120:] == list(range(written - 119, written + 1))
    assert len(kept) * 128 < size * 2
    assert numbers(of_file(path), full=True) == kept


def test_a_full_record_never_stands_across_the_end(tmp_path: Path) -> None:
    with opened(tmp_path / "flight.ring") as ring:
        for number in range(1, 3000):
            full(ring, number, text="y" * 777)
            assert numbers_of_newest(ring) == number


def numbers_of_newest(ring: Ring) -> int:
    entry = next(each for each in ring.reader().newest_first(full=True) if each is not None)
    assert isinstance(entry.note, RequestNote)
    return entry.note.number


def test_plain_records_do_not_push_out_full_ones(tmp_path: Path) -> None:
    with opened(tmp_path / "flight.ring") as ring:
        full(ring, 1)
        for number in range(2, 10_000):
            plain(ring, number)
        assert numbers(ring.reader(), full=True) == [1]


def test_a_method_keeps_its_number_over_versions_with_other_methods(tmp_path: Path) -> None:
    path = tmp_path / "flight.ring"
    with opened(path) as ring:
        for method in ("system.ping", "limit.acquire"):
            ring.marks_of(method)
        plain(ring, 1, "limit.acquire")
    with opened(path) as ring:
        for method in ("cache.get", "limit.acquire"):
            ring.marks_of(method)
        plain(ring, 2, "cache.get")
    entries = reversed(read(of_file(path), full=False))
    notes = [entry.note for entry in entries]
    assert [n.method for n in notes if isinstance(n, RequestNote)] == ["limit.acquire", "cache.get"]


def test_times_of_day_are_right_after_the_clock_was_set_and_after_a_sleep(tmp_path: Path) -> None:
    clocks = Clocks()
    with opened(tmp_path / "flight.ring", clocks=clocks) as ring:
        full(ring, 1)
        clocks.wall_ns += 3_600_000_000_000
        full(ring, 2)
        plain(ring, 3)
        walls = [entry.wall_ns for entry in read(ring.reader(), full=True)]
        assert walls == [WALL_NS + 3_600_000_000_000 + 20, WALL_NS + 10]
        (entry,) = read(ring.reader(), full=False)
        assert entry.wall_ns == WALL_NS + 3_600_000_000_000 + 30


def test_the_head_stays_within_its_slot_whatever_the_clock_does(tmp_path: Path) -> None:
    clocks = Clocks()
    path = tmp_path / "flight.ring"
    with opened(path, clocks=clocks) as ring:
        for number in range(500):
            ring.marks_of(f"family{number}.{'m' * 20}") if number < 400 else None
            clocks.wall_ns += 1_000_000_000
            full(ring, number)
        assert flight_head.read_head(memoryview(path.read_bytes()))[0].eras[-1].life == 1
    with opened(path, clocks=clocks) as ring:
        assert ring.moved_aside is None


@pytest.mark.parametrize("cut", range(0, 2600, 7))
def test_a_head_that_was_being_written_when_the_daemon_died_is_the_one_before(
    tmp_path: Path, cut: int
) -> None:
    path = tmp_path / "flight.ring"
    with opened(path) as ring:
        plain(ring, 1)
    before = bytearray(path.read_bytes())
    with opened(path) as ring:
        ring.marks_of("x" * 1000)
        plain(ring, 2)
    after = path.read_bytes()
    # Two heads were written; the last of them is cut off.
    generation = flight_head.read_head(memoryview(after))[1]
    start = generation % 2 * flight_head.SLOT_BYTES
    torn = bytearray(after)
    end = start + flight_head.SLOT_BYTES
    torn[start + cut : end] = before[start + cut : end]
    path.write_bytes(torn)
    with opened(path) as ring:
        assert ring.moved_aside is None
        assert numbers(ring.reader(), full=False) == [1, 2]


def test_a_head_with_one_wrong_digit_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "flight.ring"
    with opened(path) as ring:
        plain(ring, 1)
    content = bytearray(path.read_bytes())
    head, generation = flight_head.read_head(memoryview(content))
    start = generation % 2 * flight_head.SLOT_BYTES
    digit = content.index(b'"wall_ns":', start) + 12
    content[digit] ^= 1
    assert flight_head.read_head(memoryview(content))[1] == generation - 1
    assert head.eras


def test_what_is_found_by_an_id_is_what_may_be_seen_of_it(tmp_path: Path) -> None:
    with opened(tmp_path / "flight.ring") as ring:
        plain(ring, 1)
        full(ring, 2)
        ring.write_named(ring.marks_of("cache.get"), WHO, 3, 30, "mine")
        for id_ in (f"{'0a' * 8}.1", "id-2", "mine"):
            for uid, count in ((1000, 1), (1001, 0)):
                found = ring.reader().of_id(id_, lambda owner, uid=uid: owner == uid)  # type: ignore[misc]
                assert len([each for each in found if each is not None]) == count


def test_one_that_waited_is_told_as_it_ended(tmp_path: Path) -> None:
    with opened(tmp_path / "flight.ring") as ring:
        for outcome, took_ns in ((IN_FLIGHT, None), (OK, 7)):
            note = RequestNote(
                connection="0a" * 8, number=1, correlation_id="waits", session="0b" * 8, uid=1000,
                pid=4711, method="lease.acquire", outcome=outcome, received_ns=1,
                duration_ns=took_ns,
            )  # fmt: skip
            assert ring.write_full(encode_note(note))
        found = [each for each in ring.reader().of_id("waits", lambda _uid: True) if each]
        (entry,) = latest(found)
        assert isinstance(entry.note, RequestNote)
        assert entry.note.outcome == OK
        (entry,) = latest(reversed(found))
        assert isinstance(entry.note, RequestNote)
        assert entry.note.outcome == OK


def test_an_id_is_found_wherever_in_the_ring_it_stands(tmp_path: Path) -> None:
    """The ring is searched in slices of 256 KiB: none is lost where one ends."""
    with opened(tmp_path / "flight.ring", size=2 << 20) as ring:
        for units in range(6):
            ring._full_place = len(ring.lanes.full) + 256 * 1024 - units * 64
            full(ring, units)
            found = ring.reader().of_id(f"id-{units}", lambda _uid: True)
            assert [each for each in found if each is not None], units


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(SIZE))


def truncated(path: Path) -> None:
    with opened(path) as ring:
        full(ring, 1)
    path.write_bytes(path.read_bytes()[:-1])


def another_version(path: Path) -> None:
    with opened(path) as ring:
        full(ring, 1)
    content = bytearray(path.read_bytes())
    for start in (0, flight_head.SLOT_BYTES):
        content[start + len(flight_head.MAGIC)] += 1
    path.write_bytes(content)


def another_size(path: Path) -> None:
    with opened(path, size=2 * SIZE) as ring:
        full(ring, 1)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def a_directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    "spoil", [garbage, truncated, another_version, another_size, empty, a_directory]
)
def test_what_is_no_ring_of_this_version_and_size_is_moved_aside(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "flight.ring"
    spoil(path)
    kept = path.read_bytes() if path.is_file() else None
    with opened(path) as ring:
        assert ring.fault is None
        assert ring.moved_aside is not None
        if kept is not None:
            assert ring.moved_aside.read_bytes() == kept
        full(ring, 7)
    assert numbers(of_file(path), full=True) == [7]


def test_a_ring_of_another_version_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "flight.ring"
    another_version(path)
    with pytest.raises(flight_head.UnreadableRingError, match="it has version 2"):
        of_file(path)


def test_where_no_file_can_be_made_the_ring_is_memory_and_says_why(tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "flight.ring", Path("/proc/flight.ring")):
        with opened(path) as ring:
            assert ring.fault is not None
            assert str(path) in ring.fault
            full(ring, 1)
            plain(ring, 2)
            assert numbers(ring.reader(), full=True) == [1]


def test_a_link_is_not_followed_to_where_it_leads(tmp_path: Path) -> None:
    target = tmp_path / "passwd"
    target.write_bytes(b"root")
    (tmp_path / "flight.ring").symlink_to(target)
    with opened(tmp_path / "flight.ring") as ring:
        assert ring.fault is not None
        full(ring, 1)
    assert target.read_bytes() == b"root"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk_costs_the_file_and_not_the_daemon(tmp_path: Path) -> None:
    """All blocks are there from the start: no store into the map can find the disk full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], check=False
    )
    if mounted.returncode:
        pytest.skip("this container may not mount")
    try:
        with opened(disk / "flight.ring") as ring:
            assert ring.fault is not None
            assert "No space left" in ring.fault
            for number in range(5000):
                full(ring, number)
                plain(ring, number)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_request_joins_the_record_of_those_before_it_and_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "flight.ring"
    with opened(path) as ring:
        series = Series()
        ring.plain.begin(series, ring.marks_of("system.ping"), WHO, 7, 100)
        assert series.until_ns == 100 + SERIES_NS
        for count in (2, 3):
            ring.plain.counts[series.at] = count
            # As after a death at this instant: the file is read as it is.
            assert numbers(of_file(path), full=False) == list(range(7, 7 + count))


def test_no_series_outlives_the_lap_that_it_was_begun_in(tmp_path: Path) -> None:
    """What takes its place may be another connection's: nothing may be counted into that."""
    with opened(tmp_path / "flight.ring") as ring:
        series = Series()
        ring.plain.begin(series, ring.marks_of("system.ping"), WHO, 1, 100)
        for number in range(2, ring.plain.size // 64 + 1):
            plain(ring, number)
            assert series.until_ns > 100
        plain(ring, 1_000_000)
        assert series.until_ns == 0


def test_a_series_that_begins_a_lap_ends_the_others(tmp_path: Path) -> None:
    with opened(tmp_path / "flight.ring") as ring:
        first, second = Series(), Series()
        ring.plain.begin(first, ring.marks_of("system.ping"), WHO, 1, 100)
        while ring.plain.place % ring.plain.size:
            plain(ring, 2)
        ring.plain.begin(second, ring.marks_of("system.ping"), WHO, 1, 100)
        assert (first.until_ns, second.until_ns) == (0, 100 + SERIES_NS)


def test_a_series_begun_anew_ends_with_its_lap_too(tmp_path: Path) -> None:
    with opened(tmp_path / "flight.ring") as ring:
        series = Series()
        for number in range(1, 2 * ring.plain.size // 64 + 2):
            if number % 100 == 1:
                ring.plain.begin(series, ring.marks_of("system.ping"), WHO, number, 100)
            elif ring.plain.place % ring.plain.size == 0:
                plain(ring, number)
                assert series.until_ns == 0
            else:
                plain(ring, number)


def test_nothing_joins_a_series_of_a_connection_that_has_ended(tmp_path: Path) -> None:
    with opened(tmp_path / "flight.ring") as ring:
        series = Series()
        alone = sys.getrefcount(series)
        ring.plain.begin(series, ring.marks_of("system.ping"), WHO, 1, 100)
        ring.plain.forget(series)
        assert series.until_ns == 0
        assert sys.getrefcount(series) == alone, "it keeps something of each that there was"


def test_a_ring_whose_file_is_taken_away_says_so_until_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "flight.ring"
    with opened(path) as ring:
        ring.look()
        assert ring.fault is None
        path.rename(tmp_path / "away")
        ring.look()
        assert ring.fault == f"{path} was removed while it was in use"
        plain(ring, 1)
        (tmp_path / "away").rename(path)
        ring.look()
        assert ring.fault is None
        assert numbers(of_file(path), full=False) == [1]
