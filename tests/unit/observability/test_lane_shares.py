"""One user's flood leaves in the ring what others have recorded, and says in short what it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec import Struct

from superezio.flight.finding import Finding
from superezio.flight.layout import stamp
from superezio.flight.reading import Entry, RingReader, latest
from superezio.flight.records import IN_FLIGHT, RequestNote, SpanNote
from superezio.flight.telling import list_of, trace_of
from superezio.wire import TraceFindParams, TraceSummary
from supereziod.observability.flight_recorder import FlightRecorder
from supereziod.observability.ring import Ring
from supereziod.observability.timeline import Timeline

SIZE = 512 * 1024
SECOND = 1_000_000_000
ROOT, FLOODER, OTHER = 0, 1000, 1001


class Asked(Struct, kw_only=True):
    """A request, as far as it is recorded."""

    uid: int
    number: int
    received_ns: int
    method: str | None = "breaker.acquire"
    timeline: Timeline | None = None
    correlation_id: str = "the-callers-own"
    pid: int = 4711
    session_id: str = "0b" * 8
    trace_id: str | None = None
    parent_id: str | None = None

    @property
    def connection_id(self) -> str:
        return f"{self.uid:016x}"


class Host:
    """A recorder, by a clock that stands until it is moved, and users who ask."""

    def __init__(self, ring: Ring, clock: list[int]) -> None:
        self.ring, self.clock = ring, clock
        self.recorder = FlightRecorder(
            ring, clock=lambda: clock[0], wall_clock=lambda: clock[0] + SECOND
        )
        self.asked = 0

    def request(self, uid: int, method: str | None = "breaker.acquire") -> Asked:
        self.asked += 1
        return Asked(
            uid=uid,
            number=self.asked,
            received_ns=self.clock[0],
            method=method,
            timeline=self.recorder.timeline(),
        )

    def fail(self, uid: int, method: str | None = "breaker.acquire", kind: str = "busy") -> int:
        request = self.request(uid, method)
        self.recorder.finished(request, kind)
        return request.number

    def flood(self, uid: int, *, seconds: int, a_second: int = 500) -> None:
        for _ in range(seconds * a_second):
            self.clock[0] += SECOND // a_second
            self.fail(uid)

    def find(self, uid: int | None = None, **params: object) -> list[TraceSummary]:
        wanted = TraceFindParams(last=100_000, **params)  # type: ignore[arg-type]
        finding = Finding(
            self.ring.reader(),
            wanted,
            now_ns=self.clock[0] + SECOND,
            alive=self.ring.life,
            visible=lambda each: uid in {None, each},
        )
        for _ in finding.run():
            pass
        return list_of(finding.found).requests


@contextmanager
def host(path: Path, clock: list[int] | None = None) -> Iterator[Host]:
    clock = clock or [SECOND]
    ring = Ring.open(
        path / "flight.ring", size=SIZE, boot_id="b", clock=lambda: clock[0],
        wall_clock=lambda: clock[0] + SECOND,
    )  # fmt: skip
    with closing(ring):
        yield Host(ring, clock)


def test_records_of_others_survive_a_flood_of_one_user(tmp_path: Path) -> None:
    """Root's acts and failures of leases, both recorded before it: with all that they tell."""
    with host(tmp_path) as here:
        act = here.request(ROOT, "breaker.force_open")
        act.correlation_id = "of-root"
        here.recorder.finished(act)
        here.fail(OTHER, "lease.acquire", "no_capacity")
        here.flood(FLOODER, seconds=60)
        (of_root,) = here.find(ROOT)
        assert (of_root.method, of_root.correlation_id) == ("breaker.force_open", "of-root")
        (of_other,) = here.find(OTHER, failed=True)
        assert (of_other.method, of_other.outcome) == ("lease.acquire", "no_capacity")
        assert not of_root.short
        assert not of_other.short


def test_what_comes_during_the_flood_is_recorded_in_full_and_stays(tmp_path: Path) -> None:
    with host(tmp_path) as here:
        here.flood(FLOODER, seconds=20)
        here.fail(OTHER, "lease.acquire", "no_capacity")
        here.flood(FLOODER, seconds=20)
        (of_other,) = here.find(OTHER)
        assert (of_other.outcome, of_other.short) == ("no_capacity", False)


def test_the_excess_is_recorded_in_short_with_its_method_and_outcome(tmp_path: Path) -> None:
    """Nothing of the flood is lost: what it was, when, who asked, and how it ended."""
    with host(tmp_path) as here:
        here.fail(OTHER)
        here.flood(FLOODER, seconds=4)
        found = here.find(FLOODER, failed=True)
        assert len(found) == 2000
        assert {(each.method, each.outcome) for each in found} == {("breaker.acquire", "busy")}
        assert {each.duration_ms for each in found if each.short} == {None}
        short = [each for each in found if each.short]
        assert short
        assert not found[-1].short
        assert here.find(FLOODER, failed=True, method="lease.") == []


def test_a_quarter_of_the_lane_is_a_users_at_once_and_more_with_time(tmp_path: Path) -> None:
    with host(tmp_path) as here:
        here.fail(OTHER)
        lane = len(here.ring.lanes.full)
        before = here.ring.full_end
        here.flood(FLOODER, seconds=8)
        written = here.ring.full_end - before
        assert lane // 4 <= written < lane // 4 + lane // 100
        here.clock[0] += 900 * SECOND
        before = here.ring.full_end
        here.flood(FLOODER, seconds=8)
        written = here.ring.full_end - before
        assert lane // 4 <= written < lane // 4 + lane // 100


def test_who_is_alone_in_the_lane_records_all_in_full(tmp_path: Path) -> None:
    """Until another comes: from then on one's share is what others' is."""
    with host(tmp_path) as here:
        here.flood(FLOODER, seconds=8)
        assert not any(each.short for each in here.find(FLOODER))
        here.fail(OTHER)
        assert here.fail(FLOODER)
        assert here.find(FLOODER)[0].short
        here.clock[0] += 10 * SECOND
        here.fail(FLOODER)
        assert not here.find(FLOODER)[0].short


def test_two_who_take_turns_do_not_push_out_a_third(tmp_path: Path) -> None:
    with host(tmp_path) as here:
        here.fail(ROOT, "gpu.cordon", "not_found")
        for _ in range(4000):
            here.clock[0] += 1_000_000
            here.fail(FLOODER)
            here.fail(OTHER)
        assert [each.method for each in here.find(ROOT)] == ["gpu.cordon"]


def test_ids_of_ones_own_are_bounded_as_well(tmp_path: Path) -> None:
    """A request that was answered at once and named by its caller loses the name, no more."""
    with host(tmp_path) as here:
        here.fail(OTHER)
        marks = here.recorder.marks_of("cache.get")
        who = stamp(FLOODER, 1, b"\x01" * 8, b"\x02" * 8)
        lane = len(here.ring.lanes.full)
        for number in range(1, lane // 128 + 2):
            here.recorder.named(marks, who, FLOODER, number, here.clock[0], f"id-{number}")
        found = here.find(FLOODER)
        assert len(found) == lane // 128 + 1
        named = sum(each.correlation_id.startswith("id-") for each in found)
        assert 0 <= named - lane // 128 // 4 <= 1
        assert here.find(OTHER)


def test_a_request_that_waits_is_found_as_it_ended(tmp_path: Path) -> None:
    """In full where its beginning is, whatever came between; in short where there was no room."""
    with host(tmp_path) as here:
        here.fail(OTHER)
        waits = here.request(FLOODER, "lease.acquire")
        here.recorder.begun(waits)
        here.flood(FLOODER, seconds=8)
        here.recorder.finished(waits, "no_capacity")
        (found,) = here.find(FLOODER, method="lease.acquire")
        assert (found.outcome, found.short) == ("no_capacity", False)

        late = here.request(FLOODER, "limit.acquire")
        here.recorder.begun(late)
        (found,) = here.find(FLOODER, method="limit.acquire")
        assert (found.outcome, found.short) == (IN_FLIGHT, True)
        here.recorder.finished(late)
        (found,) = here.find(FLOODER, method="limit.acquire")
        assert (found.outcome, found.short) == ("ok", True)
        id_ = f"{late.connection_id}.{late.number}"
        entries = [each for each in here.ring.reader().of_id(id_, lambda _: True) if each]
        (record,) = trace_of(id_, latest(entries)).records
        assert (record.outcome, record.short, record.marks) == ("ok", True, [])


def test_one_that_waited_long_does_not_end_the_search(tmp_path: Path) -> None:
    with host(tmp_path) as here:
        here.fail(OTHER)
        late = here.request(FLOODER, "lease.acquire")
        here.flood(FLOODER, seconds=8)
        here.clock[0] += SECOND
        here.fail(FLOODER)
        here.recorder.finished(late, "no_capacity")
        assert len(here.find(FLOODER, failed=True, since_s=4)) > 1000


def test_there_is_room_for_spans_while_there_is_for_requests(tmp_path: Path) -> None:
    with host(tmp_path) as here:
        here.fail(OTHER)
        assert here.recorder.has_room(FLOODER)
        here.flood(FLOODER, seconds=8)
        assert not here.recorder.has_room(FLOODER)
        assert here.recorder.has_room(OTHER)


def test_spans_are_charged(tmp_path: Path) -> None:
    with host(tmp_path) as here:
        here.fail(OTHER)
        span = SpanNote(
            correlation_id="x", uid=FLOODER, pid=1, name="n", started_ns=0, duration_ns=None,
            attributes={"text": "x" * 3000},
        )  # fmt: skip
        taken = 0
        while here.recorder.has_room(FLOODER):
            here.recorder.span(span)
            taken += 1
        assert taken * 3000 <= len(here.ring.lanes.full) // 4


def test_the_names_of_short_records_leave_room_for_those_of_methods(tmp_path: Path) -> None:
    """A caller that fails in every way with every method cannot fill the head of the ring."""
    with host(tmp_path) as here:
        here.fail(OTHER)
        here.flood(FLOODER, seconds=8)
        for method in range(30):
            for kind in range(20):
                here.fail(FLOODER, f"method.{method}", f"kind_{kind}")
        assert len(here.ring.names) < 300
        assert here.ring.marks_of("one.more")
        newest = here.find(FLOODER)[0]
        assert (newest.method, newest.outcome) == (None, "kind_19")


def test_a_file_is_read_without_the_daemon_and_after_it(tmp_path: Path) -> None:
    """What a life before has written is protected as what another wrote."""
    clock = [SECOND]
    with host(tmp_path, clock) as here:
        here.fail(OTHER, "lease.acquire", "no_capacity")
        here.flood(FLOODER, seconds=8)
    with host(tmp_path, clock) as here:
        here.flood(FLOODER, seconds=8)
        assert here.find(OTHER)
    content = memoryview((tmp_path / "flight.ring").read_bytes())
    reader = RingReader.of(content)
    entries = [
        each
        for full in (True, False)
        for each in reader.newest_first(full=full)
        if isinstance(each, Entry) and isinstance(each.note, RequestNote)
    ]
    assert {(each.note.uid, each.note.outcome) for each in entries} == {  # type: ignore[union-attr]
        (OTHER, "no_capacity"),
        (FLOODER, "busy"),
    }


def test_users_who_owe_nothing_are_forgotten(tmp_path: Path) -> None:
    with host(tmp_path) as here:
        for uid in range(300):
            here.fail(uid)
            here.clock[0] += 10 * SECOND
        assert len(here.recorder._shares._paid_ns) < 257
