"""A database whose files are taken away while it is open: all of it is written anew, and told."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supereziod.storage import Database, StorageError

SCHEMA = "CREATE TABLE IF NOT EXISTS things (name TEXT PRIMARY KEY, body BLOB)"
PUT = "INSERT INTO things VALUES (?, ?)"
BEFORE = 50


@pytest.fixture(params=[0, 256 * 1024], ids=["plain", "with room set aside"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    (tmp_path / "d").mkdir()
    database = Database.open(tmp_path / "d" / "x.db", schema=SCHEMA, spare_bytes=request.param)
    for number in range(BEFORE):
        database.execute(PUT, (f"{number}", b"x" * 500))
    assert database.look() is None
    yield database
    database.close()


def names_after_kill_nine(directory: Path, scratch: Path) -> set[str]:
    """Return what another process would find there now, without the end of this one."""
    shutil.copytree(directory, scratch)
    found = Database.open(scratch / "x.db", schema=SCHEMA)
    names = {str(name) for (name,) in found.rows("SELECT name FROM things")}
    assert found.moved_aside is None
    found.close()
    return names


def remove(*names: str) -> Callable[[Path], None]:
    def act(directory: Path) -> None:
        for name in names:
            (directory / name).unlink()

    return act


def cut_short(name: str) -> Callable[[Path], None]:
    return lambda directory: os.truncate(directory / name, 0)


def replace_by_another(directory: Path) -> None:
    other = directory / "backup"
    with sqlite3.connect(other) as connection:
        connection.execute(SCHEMA)
        connection.execute(PUT, ("of the backup", b""))
    connection.close()
    other.rename(directory / "x.db")


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (remove("x.db"), "x.db was removed"),
        (remove("x.db", "x.db-wal", "x.db-shm"), "x.db was removed"),
        (remove("x.db-wal"), "x.db-wal was removed"),
        (remove("x.db-shm"), "x.db-shm was removed"),
        (cut_short("x.db"), "x.db was cut short"),
        (cut_short("x.db-wal"), "x.db-wal was cut short"),
        (replace_by_another, "x.db was replaced"),
    ],
    ids=["file", "all", "log", "index", "short file", "short log", "replaced"],
)
def test_a_file_that_is_gone_is_written_anew_with_all_that_was_in_it(
    database: Database, tmp_path: Path, act: Callable[[Path], None], what: str
) -> None:
    directory = tmp_path / "d"
    act(directory)
    database.execute(PUT, ("before it is seen", b""))
    told = database.look()
    assert told is not None
    assert f"{what} while it was in use: all of it is written anew" in told
    assert (database.look(), database.fault) == (None, None)
    database.execute(PUT, ("after", b""))
    wanted = {*map(str, range(BEFORE)), "before it is seen", "after"}
    assert names_after_kill_nine(directory, tmp_path / "copy") == wanted
    aside = list(directory.glob("x.db.aside-*"))
    assert all(str(path) in told for path in aside)
    assert (what == "x.db was replaced") <= bool(aside), "what was put there is kept"
    assert list(directory.glob("*.new*")) == []


def test_a_directory_that_is_away_is_a_fault_until_it_is_back(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "d").rename(tmp_path / "away")
    assert database.look() is None
    assert "was removed while it was in use, and cannot be written anew" in str(database.fault)
    database.execute(PUT, ("meanwhile", b""))
    assert database.fault is not None
    with pytest.raises(StorageError, match="was removed while it was in use"):
        database.check_room()  # nobody is granted what a kill -9 would take back
    (tmp_path / "away").rename(tmp_path / "d")
    assert database.look() is None
    assert database.fault is None
    database.check_room()
    names = names_after_kill_nine(tmp_path / "d", tmp_path / "copy")
    assert names == {*map(str, range(BEFORE)), "meanwhile"}


def test_what_is_there_stays_by_its_name_until_it_is_replaced(
    database: Database, tmp_path: Path
) -> None:
    """A kill -9 in the middle finds one of the two, and not none."""
    directory = tmp_path / "d"
    replace_by_another(directory)
    other = (directory / "x.db").stat().st_ino
    (directory / "x.db-wal").unlink()
    (directory / "x.db-wal").mkdir()  # it cannot be removed, which is what comes in between
    assert database.look() is None
    assert "was replaced while it was in use, and cannot be written anew" in str(database.fault)
    assert (directory / "x.db").stat().st_ino == other
    assert sorted(each.name for each in directory.iterdir()) == ["x.db", "x.db-shm", "x.db-wal"]
    (directory / "x.db-wal").rmdir()
    assert "x.db was replaced while it was in use: all of it is written anew" in str(
        database.look()
    )
    assert (directory / "x.db").stat().st_ino != other


async def test_what_cannot_be_read_any_more_is_told_and_nothing_is_put_in_its_place(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.db"
    database = Database.open(path, schema=SCHEMA)
    for number in range(2000):  # more than the memory that SQLite keeps pages in
        database.execute(PUT, (f"{number}", b"x" * 4000))
    assert database.look() is None
    os.truncate(path, 4096)
    assert database.look() is None
    assert "x.db was cut short while it was in use, and cannot be written anew" in str(
        database.fault
    )
    assert path.stat().st_size == 4096
    assert sorted(each.name for each in tmp_path.iterdir()) == ["x.db", "x.db-shm", "x.db-wal"]
    synced: asyncio.Future[StorageError | None] = asyncio.get_running_loop().create_future()
    database.sync(synced.set_result)
    assert "x.db was cut short" in str(await synced), "nothing is told to be over a power cut"
    database.close()


def test_who_looks_gives_up_no_lock(database: Database) -> None:
    """A file of a database that is closed loses the locks that the process has on it."""
    before = Path("/proc/locks").read_text()
    ours = [line.split(None, 1)[1] for line in before.splitlines() if f" {os.getpid()} " in line]
    if not ours:
        pytest.skip("no locks are seen here")
    assert database.look() is None
    after = Path("/proc/locks").read_text()
    assert [line for line in ours if line not in after] == []


def test_a_log_that_its_owner_made_shorter_is_no_loss(database: Database, tmp_path: Path) -> None:
    database._rewrite(tmp_path / "d" / "x.db")
    assert (tmp_path / "d" / "x.db-wal").stat().st_size == 0
    assert (database.look(), database.fault) == (None, None)
    database.execute(PUT, ("more", b""))
    assert (database.look(), database.fault) == (None, None)


def test_without_a_file_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "none" / "x.db", schema=SCHEMA)
    assert database.look() is None
    with pytest.raises(StorageError, match="cannot use"):
        database.execute(PUT, ("a", b""))
    (tmp_path / "none").mkdir()
    database.execute(PUT, ("a", b""))
    assert database.look() is None
    (tmp_path / "none" / "x.db").unlink()
    assert "written anew" in str(database.look())
    database.close()
