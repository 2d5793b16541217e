"""Whether the last life ended in order, and none has begun since (semantics 2: no fresh burst)."""

from __future__ import annotations

from pathlib import Path

import pytest

from supereziod.resilience.keeping import Keeper
from supereziod.resilience.sealing import Seal
from supereziod.storage import Database, Documents


class Halves:
    """A seal's two directories, each of which may be one that cannot be written."""

    def __init__(self, directory: Path) -> None:
        self.state, self.runtime = directory / "state", directory / "run"
        for each in (self.state, self.runtime):
            each.mkdir()

    def life(self, *, state: bool = True) -> Seal:
        """Begin one, which can write its state or not."""
        database = Database.open(self.state / "state.db", schema=Documents.SCHEMA)
        if not state:
            database.execute("PRAGMA query_only = 1")
        return Seal(Documents(database), self.runtime / "sealed")


@pytest.fixture
def halves(tmp_path: Path) -> Halves:
    made = Halves(tmp_path)
    seal = made.life()
    seal.break_()
    seal.set()
    return made


def test_a_life_that_ended_in_order_is_known_for_that_once(halves: Halves) -> None:
    assert halves.life().break_()
    assert not halves.life().break_(), "a life has begun since"


def test_a_first_life_comes_after_none_that_ended_in_order(tmp_path: Path) -> None:
    assert not Halves(tmp_path).life().break_()


def test_a_life_that_could_not_write_its_state_shows_in_the_runtime_directory(
    halves: Halves,
) -> None:
    assert not halves.life(state=False).break_(), "it cannot say that it was here"
    assert not halves.life().break_(), "and was here all the same"


def test_a_life_that_could_not_remove_the_file_shows_in_the_state(halves: Halves) -> None:
    left = (halves.runtime / "sealed").read_bytes()
    assert halves.life().break_()
    (halves.runtime / "sealed").write_bytes(left)
    assert not halves.life().break_()


def test_a_half_of_an_earlier_life_is_no_seal_with_that_of_a_later_one(halves: Halves) -> None:
    old = (halves.runtime / "sealed").read_bytes()
    seal = halves.life()
    seal.break_()
    seal.set()
    (halves.runtime / "sealed").write_bytes(old)
    assert not halves.life().break_()


def test_a_half_that_can_be_read_and_not_removed_is_no_seal(halves: Halves) -> None:
    stays = Path("/proc/sys/kernel/random/boot_id")
    database = Database.open(halves.state / "state.db", schema=Documents.SCHEMA)
    documents = Documents(database)
    documents.put("seal", stays.read_bytes())
    assert not Seal(documents, stays).break_(), "the next life would take it for its own"
    database.close()


def test_what_cannot_be_removed_is_no_seal(halves: Halves) -> None:
    path = halves.runtime / "sealed"
    path.unlink()
    path.mkdir()
    assert not halves.life().break_()


def test_no_seal_is_left_where_the_state_cannot_be_written(halves: Halves) -> None:
    halves.life(state=False).set()
    assert not halves.life(state=False).break_()
    assert not halves.life().break_()


class Part:
    """Has something to say, always."""

    def snapshot(self, *, final: bool) -> bytes | None:
        return b"final" if final else b"more may come"


@pytest.mark.parametrize("can_write", [True, False])
async def test_the_end_is_sealed_only_where_all_was_written(
    tmp_path: Path, *, can_write: bool
) -> None:
    halves = Halves(tmp_path)
    database = Database.open(halves.state / "state.db", schema=Documents.SCHEMA)
    documents = Documents(database)
    seal = Seal(documents, halves.runtime / "sealed")
    keeper = Keeper(documents, {"a": Part()}, interval_s=3600.0, seal=seal)
    await keeper.start()
    if not can_write:
        database.execute("PRAGMA query_only = 1")
    await keeper.aclose()
    assert (halves.runtime / "sealed").exists() == can_write
    assert halves.life().break_() == can_write
