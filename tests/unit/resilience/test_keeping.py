"""What outlives a restart is written each second, and at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from supereziod.resilience.keeping import Keeper
from supereziod.storage import Database, Documents


class Part:
    """Has one thing to say each time there is news."""

    def __init__(self) -> None:
        self.news: bytes | None = None
        self.asked: list[bool] = []
        self.asked_s: list[float] = []
        self.was_asked = asyncio.Event()

    def snapshot(self, *, final: bool) -> bytes | None:
        self.asked.append(final)
        self.asked_s.append(time.monotonic())
        self.was_asked.set()
        body, self.news = self.news, None
        return body


@pytest.fixture
def documents(tmp_path: Path) -> Documents:
    return Documents(Database.open(tmp_path / "state.db", schema=Documents.SCHEMA))


async def test_what_is_new_is_written_each_second_and_at_the_end(documents: Documents) -> None:
    part = Part()
    keeper = Keeper(documents, {"breakers": part}, interval_s=0.001)
    part.news = b"one"
    await keeper.start()
    await asyncio.wait_for(part.was_asked.wait(), 10)
    assert documents.get("breakers") == b"one"
    part.news = b"two"
    await keeper.aclose()
    assert documents.get("breakers") == b"two"
    assert part.asked[-1] is True
    assert not any(part.asked[:-1])


async def test_where_nothing_is_new_nothing_is_written(documents: Documents) -> None:
    part = Part()
    keeper = Keeper(documents, {"breakers": part})
    keeper.keep()
    assert part.asked == [False]
    assert documents.get("breakers") is None


async def test_a_directory_that_cannot_be_written_is_said_and_stops_nothing(
    tmp_path: Path,
) -> None:
    database = Database.open(tmp_path / "no" / "state.db", schema=Documents.SCHEMA)
    part, other = Part(), Part()
    part.news = b"one"
    Keeper(Documents(database), {"a": part, "b": other}).keep()
    assert database.fault is not None
    assert other.asked == [False]


def test_what_was_said_last_is_found_and_what_cannot_be_read_is_nothing(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state.db", schema=Documents.SCHEMA)
    part = Part()
    keeper = Keeper(Documents(database), {"breakers": part})
    assert keeper.found("breakers") is None
    part.news = b"one"
    keeper.keep()
    assert keeper.found("breakers") == b"one"
    database.close()
    assert keeper.found("breakers") is None


async def test_what_is_urgent_is_written_at_once_and_not_again_before_its_time(
    documents: Documents,
) -> None:
    part = Part()
    keeper = Keeper(documents, {"breakers": part}, interval_s=3600.0, spacing_s=0.02)
    await keeper.start()
    try:
        part.news = b"one"
        keeper.soon("breakers")
        assert documents.get("breakers") == b"one"
        asked = len(part.asked)
        for news in (b"two", b"three"):
            part.news = news
            keeper.soon("breakers")
        assert documents.get("breakers") == b"one"
        part.was_asked.clear()
        await asyncio.wait_for(part.was_asked.wait(), 10)
        assert documents.get("breakers") == b"three"
        assert len(part.asked) == asked + 1
        assert part.asked_s[-1] - part.asked_s[-2] >= 0.02
    finally:
        await keeper.aclose()


async def test_what_is_urgent_takes_a_twentieth_of_the_time_at_most(documents: Documents) -> None:
    """Where there is much to write, or the disk is slow, the next write waits for longer."""

    class Slow(Part):
        def snapshot(self, *, final: bool) -> bytes | None:
            body = super().snapshot(final=final)
            while time.monotonic() - self.asked_s[-1] < 0.005:
                """It takes its time."""
            return body

    part = Slow()
    keeper = Keeper(documents, {"breakers": part}, interval_s=3600.0, spacing_s=0.001)
    await keeper.start()
    try:
        keeper.soon("breakers")
        part.was_asked.clear()
        keeper.soon("breakers")
        await asyncio.wait_for(part.was_asked.wait(), 10)
        assert part.asked_s[-1] - part.asked_s[-2] >= 20 * 0.005
    finally:
        await keeper.aclose()


async def test_what_is_urgent_does_not_undo_what_was_written_at_the_end(
    documents: Documents,
) -> None:
    part = Part()
    keeper = Keeper(documents, {"breakers": part}, interval_s=3600.0, spacing_s=0.001)
    part.news = b"before"
    keeper.soon("breakers")
    assert documents.get("breakers") is None
    await keeper.start()
    for _ in range(2):
        keeper.soon("breakers")
    part.news = b"the end"
    await keeper.aclose()
    part.news = b"after"
    keeper.soon("breakers")
    await asyncio.sleep(0.01)
    assert documents.get("breakers") == b"the end"


async def test_news_that_comes_about_while_it_is_written_is_written_once(
    documents: Documents,
) -> None:
    class Restless(Part):
        def snapshot(self, *, final: bool) -> bytes | None:
            keeper.soon("breakers")
            return super().snapshot(final=final)

    part = Restless()
    keeper = Keeper(documents, {"breakers": part}, interval_s=3600.0)
    await keeper.start()
    keeper.soon("breakers")
    assert part.asked == [False, False]
    await keeper.aclose()


def test_what_could_not_be_written_is_tried_again_though_nothing_is_new(tmp_path: Path) -> None:
    directory = tmp_path / "late"
    database = Database.open(directory / "state.db", schema=Documents.SCHEMA)
    part = Part()
    keeper = Keeper(Documents(database), {"breakers": part})
    part.news = b"one"
    keeper.keep()
    assert database.fault is not None
    directory.mkdir()
    keeper.keep()
    assert Documents(database).get("breakers") == b"one"
    assert database.fault is None


def test_what_is_newer_takes_the_place_of_what_could_not_be_written(tmp_path: Path) -> None:
    directory = tmp_path / "late"
    database = Database.open(directory / "state.db", schema=Documents.SCHEMA)
    part = Part()
    keeper = Keeper(Documents(database), {"breakers": part})
    part.news = b"one"
    keeper.keep()
    directory.mkdir()
    part.news = b"two"
    keeper.keep()
    keeper.keep()
    assert Documents(database).get("breakers") == b"two"


class SlowDisk:
    """A disk that takes its time, by a clock that nothing else moves."""

    def __init__(self, documents: Documents, write_s: float) -> None:
        self.now_s = 0.0
        self.writes = 0
        self._documents = documents
        self._write_s = write_s

    @property
    def fault(self) -> str | None:
        return self._documents.fault

    def put(self, name: str, body: bytes) -> None:
        self.now_s += self._write_s
        self.writes += 1
        self._documents.put(name, body)


@pytest.mark.parametrize(
    ("write_s", "parts", "pause_s"),
    [(0.0, 1, 0.05), (0.002, 1, 0.05), (0.01, 1, 0.2), (0.01, 3, 0.6), (1.0, 1, 20.0)],
)
async def test_urgent_writes_take_a_twentieth_of_the_time_at_most(
    documents: Documents, write_s: float, parts: int, pause_s: float
) -> None:
    disk = SlowDisk(documents, write_s)
    all_parts = {str(number): Part() for number in range(parts)}
    keeper = Keeper(cast("Documents", disk), all_parts, interval_s=3600.0, clock=lambda: disk.now_s)
    await keeper.start()
    try:
        loop = asyncio.get_running_loop()
        keeper._urgent.update(all_parts)
        for part in all_parts.values():
            part.news = b"urgent"
        begun_s = loop.time()
        keeper.soon("0")
        assert disk.writes == parts
        assert keeper._spacing is not None
        at_s = keeper._spacing.when()
        assert begun_s + pause_s <= at_s <= loop.time() + pause_s
        all_parts["0"].news = b"more"
        keeper.soon("0")
        assert disk.writes == parts, "it comes with the next"
        assert keeper._spacing.when() == at_s
    finally:
        await keeper.aclose()


class Large(Part):
    """Has much to say, a little with each step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def slices(self) -> Iterator[bytes | None]:
        loop, turns = asyncio.get_running_loop(), 0

        def count() -> None:
            nonlocal turns
            turns += 1
            loop.call_soon(count)

        count()
        for _ in range(5):
            self.steps.append(turns)
            yield None
        yield b"all of it"
        loop.call_soon(self.was_asked.set)


async def test_others_have_their_turn_between_two_slices_of_what_is_written(
    documents: Documents,
) -> None:
    large, small = Large(), Part()
    keeper = Keeper(documents, {"large": large, "small": small}, interval_s=0.001)
    await keeper.start()
    large.was_asked.clear()
    try:
        await asyncio.wait_for(large.was_asked.wait(), 10)
        assert documents.get("large") == b"all of it"
    finally:
        await keeper.aclose()
    first, *others = large.steps[:5]
    assert [each - first for each in others] == [1, 2, 3, 4]
    assert large.asked[-1] is True, "at the end at once"
