"""A file that survives `kill -9`, and that may be corrupt, full or read-only."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from supereziod.storage import Database, Documents, StorageError, read_document, read_rows

SCHEMA = "CREATE TABLE IF NOT EXISTS things (name TEXT PRIMARY KEY, body BLOB)"
PUT = "INSERT INTO things VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body"


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB, which can be filled and made read-only."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("may not mount a small file system here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 1024)
        except OSError:
            return filler


def put_many(database: Database) -> None:
    for number in range(1000):
        database.execute(PUT, (f"{number}", b"x" * 4000))


async def test_a_commit_is_over_a_power_cut_once_its_log_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "things.db"
    database = Database.open(path, schema=SCHEMA)
    database.execute(PUT, ("one", b"x"))
    synced: list[str] = []
    fdatasync = os.fdatasync

    def observed(log: int) -> None:
        assert threading.current_thread() is not threading.main_thread()
        fdatasync(log)
        synced.append(str(Path(f"/proc/self/fd/{log}").readlink()))

    monkeypatch.setattr(os, "fdatasync", observed)
    done: asyncio.Queue[StorageError | None] = asyncio.Queue()
    turns: list[str] = []
    database.soon(lambda: turns.append("next"))
    database.sync(done.put_nowait)
    assert not turns
    assert await done.get() is None
    assert synced == [f"{path}-wal"]
    assert turns == ["next"]
    database.close()
    database.sync(done.put_nowait)
    fault = await done.get()
    assert "cannot have" in str(fault), "the log is gone"


async def test_a_disk_that_cannot_sync_is_a_fault_until_it_takes_all_of_the_log_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "things.db"
    database = Database.open(path, schema=SCHEMA)
    database.execute(PUT, ("one", b"x"))
    log = path.with_name("things.db-wal")
    done: asyncio.Queue[StorageError | None] = asyncio.Queue()

    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        database.sync(done.put_nowait)
        assert "Input/output error" in str(await done.get())
        assert "Input/output error" in str(database.fault)
        assert log.stat().st_size
        # Each write asks for it again; one success of the kernel's is no answer for what was lost.
        database.execute(PUT, ("two", b"x"))
        assert database.fault is not None
    database.sync(done.put_nowait)
    assert await done.get() is None
    assert database.fault is None
    assert log.stat().st_size == 0, "all of it is in the main file, which SQLite has synced"
    assert names(database) == ["one", "two"]
    database.close()


@pytest.mark.parametrize("there_before", [False, True])
def test_nobody_else_may_read_the_file(tmp_path: Path, there_before: bool) -> None:  # noqa: FBT001
    path = tmp_path / "things.db"
    if there_before:
        path.touch(mode=0o644)
    database = Database.open(path, schema=SCHEMA)
    put_many(database)
    modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
    database.close()
    assert modes == dict.fromkeys(("things.db", "things.db-wal", "things.db-shm"), 0o600)


def names(database: Database) -> list[str]:
    return [str(row[0]) for row in database.rows("SELECT name FROM things ORDER BY name")]


def test_what_was_committed_survives_kill_nine(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from supereziod.storage import Database
database = Database.open(Path({str(tmp_path / "a.db")!r}), schema={SCHEMA!r})
database.execute({PUT!r}, ("kept", b"1"))
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    database = Database.open(tmp_path / "a.db", schema=SCHEMA)
    assert names(database) == ["kept"]
    assert database.fault is None
    database.close()


def test_a_corrupt_file_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    database = Database.open(path, schema=SCHEMA)
    assert database.fault is None
    assert database.moved_aside is not None
    assert database.moved_aside.read_bytes().startswith(b"not a database")
    database.execute(PUT, ("new", b""))
    assert names(database) == ["new"]
    database.close()


def test_a_file_with_a_corrupt_page_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = Database.open(path, schema=SCHEMA)
    for number in range(200):
        database.execute(PUT, (f"{number}", b"x" * 200))
    database.close()
    content = bytearray(path.read_bytes())
    content[4096:12288] = b"\xff" * 8192
    path.write_bytes(content)
    database = Database.open(path, schema=SCHEMA)
    assert database.moved_aside is not None
    assert names(database) == []
    database.close()


def test_a_directory_that_is_not_there_is_a_fault_until_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    database = Database.open(folder / "a.db", schema=SCHEMA)
    assert database.fault is not None
    assert names(database) == []
    with pytest.raises(StorageError):
        database.execute(PUT, ("a", b""))
    assert not database.recheck()
    folder.mkdir()
    assert database.recheck()
    assert database.fault is None
    database.execute(PUT, ("a", b""))
    database.close()
    again = Database.open(folder / "a.db", schema=SCHEMA)
    assert names(again) == ["a"]
    again.close()


def test_a_statement_that_fails_records_nothing(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.db", schema=SCHEMA)
    with pytest.raises(StorageError):
        database.execute("INSERT INTO nowhere VALUES (1)")
    assert database.fault is not None
    with pytest.raises(StorageError):
        database.rows("SELECT * FROM nowhere")
    database.execute(PUT, ("a", b""))
    assert database.fault is None
    database.close()


def test_a_full_disk_records_nothing_and_heals(tmpfs: Path) -> None:
    database = Database.open(tmpfs / "a.db", schema=SCHEMA)
    database.execute(PUT, ("kept", b""))
    filler = fill(tmpfs)
    with pytest.raises(StorageError):
        put_many(database)
    assert database.fault is not None
    before = names(database)
    with pytest.raises(StorageError):
        database.execute(PUT, ("no", b"x" * 4000))
    assert names(database) == before
    filler.unlink()
    database.execute(PUT, ("yes", b"x" * 4000))
    assert database.fault is None
    database.close()
    again = Database.open(tmpfs / "a.db", schema=SCHEMA)
    assert names(again) == sorted([*before, "yes"])
    again.close()


def test_a_file_that_was_removed_is_written_anew_only_where_there_is_room_for_all_of_it(
    tmpfs: Path,
) -> None:
    """There may be room for the log of the new file, and not for the file besides."""
    database = Database.open(tmpfs / "a.db", schema=SCHEMA)
    for number in range(10, 25):
        database.execute(PUT, (f"{number}", b"x" * 4000))
    held = names(database)
    database._rewrite(tmpfs / "a.db")
    assert database.look() is None
    (tmpfs / "a.db").unlink()
    filler = fill(tmpfs)
    told, tries = None, 0
    while told is None:
        told = database.look()
        assert names(database) == held
        tries += told is None
        assert ("cannot be written anew" in str(database.fault)) == (told is None)
        os.truncate(filler, max(0, filler.stat().st_size - 8192))
    assert tries > 10
    assert sorted(each.name for each in tmpfs.glob("a.db*")) == ["a.db", "a.db-shm", "a.db-wal"]
    database.close()
    again = Database.open(tmpfs / "a.db", schema=SCHEMA)
    assert names(again) == held
    again.close()


def test_what_was_set_aside_lets_a_full_disk_be_emptied(tmpfs: Path) -> None:
    database = Database.open(tmpfs / "a.db", schema=SCHEMA, spare_bytes=65536)
    for number in range(20):
        database.execute(PUT, (f"{number}", b"x" * 500))
    fill(tmpfs)
    for _ in range(10):  # far more pages than the log has room for
        for number in range(20):
            database.execute("DELETE FROM things WHERE name = ?", (f"{number}",))
            database.execute(PUT, (f"{number}", b"x" * 500))
    for number in range(20):
        database.execute("DELETE FROM things WHERE name = ?", (f"{number}",))
    assert names(database) == []
    database.close()


def test_what_a_full_disk_holds_can_be_read_after_a_restart(tmpfs: Path) -> None:
    database = Database.open(tmpfs / "a.db", schema=SCHEMA)
    database.execute(PUT, ("kept", b""))
    database.close()
    filler = fill(tmpfs)
    again = Database.open(tmpfs / "a.db", schema=SCHEMA)
    assert names(again) == ["kept"]
    with pytest.raises(StorageError):
        put_many(again)
    filler.unlink()
    assert again.recheck()
    again.close()


def test_what_a_read_only_directory_holds_can_be_read_and_it_heals(tmpfs: Path) -> None:
    database = Database.open(tmpfs / "a.db", schema=SCHEMA)
    database.execute(PUT, ("kept", b""))
    copy = [(path, path.read_bytes()) for path in tmpfs.iterdir() if path.suffix != ".db-shm"]
    database.close()
    for path, content in copy:  # as kill -9 leaves it: the row is in the log alone
        path.write_bytes(content)
    remount(tmpfs, "ro")
    again = Database.open(tmpfs / "a.db", schema=SCHEMA, spare_bytes=4096)
    assert again.fault is not None
    assert names(again) == ["kept"]
    with pytest.raises(StorageError):
        again.execute(PUT, ("new", b""))
    remount(tmpfs, "rw")
    again.execute(PUT, ("new", b""))
    assert names(again) == ["kept", "new"]
    again.close()


def test_a_database_that_another_process_holds_is_a_fault_not_a_wait(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.db", schema=SCHEMA)
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="locked"):
        database.execute(PUT, ("a", b""))
    other.execute("ROLLBACK")
    other.close()
    database.execute(PUT, ("a", b""))
    database.close()


def test_documents_are_kept_by_name(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.db", schema=Documents.SCHEMA)
    documents = Documents(database)
    assert documents.get("watchdog") is None
    documents.put("watchdog", b"1")
    documents.put("watchdog", b"2")
    assert documents.get("watchdog") == b"2"
    assert documents.fault is None
    database.close()


def test_what_an_owner_left_is_read_with_its_log_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "things.db"
    database = Database.open(path, schema=f"{SCHEMA}; {Documents.SCHEMA}")
    database.execute(PUT, ("a", b"1"))
    Documents(database).put("heat", b"{}")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert read_rows(path, "SELECT name, body FROM things") == [("a", b"1")]
    assert read_document(path, "heat") == b"{}"
    assert read_document(path, "none") is None
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    database.close()


def test_what_is_no_database_or_not_there_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "things.db"
    with pytest.raises(StorageError, match="cannot read"):
        read_rows(path, "SELECT 1 FROM things")
    path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(StorageError, match="cannot read"):
        read_rows(path, "SELECT 1 FROM things")
    assert path.read_bytes() == b"nonsense" * 1000
