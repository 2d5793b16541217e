"""What outlives a restart is written each second, and at the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from supereziod.resilience.keeping import Keeper
from supereziod.storage import Database, Documents


class Part:
    """Has one thing to say each time there is news."""

    def __init__(self) -> None:
        self.news: bytes | None = None
        self.asked: list[bool] = []
        self.was_asked = asyncio.Event()

    def snapshot(self, *, final: bool) -> bytes | None:
        self.asked.append(final)
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
