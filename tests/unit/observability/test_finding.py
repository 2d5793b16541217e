"""A search looks at what may be wanted, a little at a time, and ends where that takes long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from superezio.flight import reading
from superezio.flight.finding import Finding
from superezio.flight.layout import plain_head, stamp
from superezio.flight.reading import LOOKED_AT_A_SLICE
from superezio.flight.records import RequestNote
from superezio.wire import TraceFindParams
from supereziod.observability.ring import Ring

SECOND = 1_000_000_000
ANN, BEN = 1000, 1001
#: The most that one record tells of.
MANY = 256
RECORDS = 500


class Lane:
    """A ring with records of many requests each, a second apart, and how many were looked at."""

    def __init__(self, ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ring = ring
        self.now_ns = SECOND
        self._number = 1
        self._looked_at = 0
        entry = reading.RingReader._entry

        def counted(*args: Any) -> reading.Entry:
            self._looked_at += 1
            return entry(*args)

        monkeypatch.setattr(reading.RingReader, "_entry", counted)

    def write(self, *, uid: int = ANN, method: str = "limit.acquire", requests: int = MANY) -> None:
        self.now_ns += SECOND
        head = plain_head(self.ring.marks_of(method).number, requests)
        who = stamp(uid, 4711, b"\x01" * 8, b"\x02" * 8)
        self.ring.plain.write(head, who, self._number, self.now_ns)
        self._number += requests

    def find(
        self, *, uid: int | None = None, most_slices: int | None = None, **params: Any
    ) -> tuple[list[int], Finding]:
        """Return the numbers of what is found, the newest first."""
        finding = Finding(
            self.ring.reader(),
            TraceFindParams(**params),
            now_ns=self.now_ns,
            visible=lambda each: uid in {None, each},
            most_slices=most_slices,
        )
        self.longest = before = self._looked_at = 0
        for _ in finding.run():
            self.longest = max(self.longest, self._looked_at - before)
            before = self._looked_at
        notes = [each.note for each in finding.found if isinstance(each.note, RequestNote)]
        return sorted((note.number for note in notes), reverse=True), finding

    @property
    def looked_at(self) -> int:
        """Of how many requests the last search looked at each for itself."""
        return self._looked_at

    @property
    def last(self) -> int:
        return self._number - 1


@pytest.fixture
def lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lane]:
    ring = Ring.open(
        tmp_path / "flight.ring", size=512 * 1024, boot_id="b", clock=lambda: 0,
        wall_clock=lambda: 0,
    )  # fmt: skip
    with closing(ring):
        made = Lane(ring, monkeypatch)
        for _ in range(RECORDS):
            made.write()
        yield made


@pytest.mark.parametrize(
    "params", [{"method": "no.such"}, {"uid": BEN}, {"failed": True}, {"slow_ms": 1.0}]
)
def test_records_of_which_nothing_is_wanted_are_passed_over_as_a_whole(
    lane: Lane, params: dict[str, Any]
) -> None:
    assert lane.find(last=1000, **params)[0] == []
    assert lane.looked_at == 0


def test_as_many_requests_are_looked_at_as_are_asked_for(lane: Lane) -> None:
    assert lane.find(last=2)[0] == [lane.last, lane.last - 1]
    assert lane.looked_at <= 4
    found, _ = lane.find(last=1000)
    assert found == list(range(lane.last, lane.last - 1000, -1))
    assert lane.looked_at <= 1000 + 2 * MANY


def test_no_more_than_a_slice_is_looked_at_without_a_pause(lane: Lane) -> None:
    lane.find(last=1000)
    assert 0 < lane.longest <= LOOKED_AT_A_SLICE
    pauses = sum(1 for each in lane.ring.reader().newest_first(full=False) if each is None)
    assert pauses >= RECORDS * MANY / LOOKED_AT_A_SLICE


def test_records_that_are_passed_over_are_looked_at_a_slice_at_a_time_too(lane: Lane) -> None:
    _, finding = lane.find(method="no.such")
    assert not finding.cut
    lane.find(method="no.such", most_slices=1)
    pauses = sum(1 for _ in Finding(
        lane.ring.reader(), TraceFindParams(method="no.such"), now_ns=lane.now_ns
    ).run())  # fmt: skip
    assert pauses >= RECORDS / LOOKED_AT_A_SLICE


def test_what_is_older_than_asked_for_ends_a_search(lane: Lane) -> None:
    lane.write(method="cache.get", requests=1)
    assert lane.find(since_s=2.5, last=1000, method="cache.get")[0] == [lane.last]
    assert lane.looked_at == 1
    assert len(lane.find(since_s=2.5, last=1000)[0]) == 1 + 2 * MANY
    assert lane.looked_at == 1 + 2 * MANY
    before = Finding(
        lane.ring.reader(),
        TraceFindParams(since_s=2.5, method="no.such"),
        now_ns=lane.now_ns,
        most_slices=10_000,
    )
    everything = Finding(lane.ring.reader(), TraceFindParams(method="no.such"), now_ns=lane.now_ns)
    assert sum(1 for _ in before.run()) < sum(1 for _ in everything.run())


def test_a_record_in_short_of_something_old_does_not_end_a_search(lane: Lane) -> None:
    lane.write(method="cache.get", requests=1)
    wanted = lane.last
    head = plain_head(lane.ring.marks_of("lease.acquire outcome busy").number)
    lane.ring.plain.write(head, stamp(ANN, 1, b"\x03" * 8, b"\x02" * 8), 1, 1)
    assert lane.find(since_s=0.5, last=9)[0] == [wanted]


def test_a_search_that_takes_long_ends_and_says_so(lane: Lane) -> None:
    lane.write(method="cache.get", requests=1)
    found, finding = lane.find(last=1000, method="cache.get", most_slices=3)
    assert (found, finding.cut) == ([lane.last], True)
    found, finding = lane.find(last=1000, method="cache.get")
    assert (found, finding.cut) == ([lane.last], False)
