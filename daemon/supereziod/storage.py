"""A SQLite file that survives `kill -9`, and that may be corrupt, full or read-only.

Commits are durable against the death of the process, and against a power cut once `sync` says so:
WAL with synchronous=NORMAL. One connection, used on the event loop's thread alone.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from contextvars import Context
from pathlib import Path
from threading import Lock
from typing import Final, Self

from supereziod import database_files
from supereziod.stopgap import Stopgap
from supereziod.whereabouts import Whereabouts

_OPEN_TIMEOUT_S: Final = 1.0
# What comes later runs on the event loop, in the middle of somebody's request.
_REOPEN_TIMEOUT_S: Final = 0.02
_BUSY_TIMEOUT_MS: Final = 20
#: Small against what is set aside, at a page or two each.
_ADDITIONS_A_CHECK: Final = 8
#: How long the log grows before it is written back: 800 KiB, as it may lie in memory.
_LOG_PAGES: Final = 200


class StorageError(Exception):
    """The file cannot be written; what was not committed is not recorded."""


class Database:
    """An opened database. `moved_aside` names the corrupt file it replaced, if there was one.

    Where the file cannot be written (read-only directory, disk full), `open` still returns a
    database, whose `fault` says why: what the file held can be read, `execute` raises
    StorageError, and each call tries the file again, so that it heals once the directory does.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        path: Path,
        schema: str,
        spare_bytes: int,
        fault: str | None,
        moved_aside: Path | None,
    ) -> None:
        self._connection = connection
        self._spare_bytes = spare_bytes
        self._additions = 0
        self._path = path
        self._schema = schema
        self._on_file = fault is None
        self._write_fault = fault
        self._sync_fault: str | None = None
        self._is_syncing_again = False
        self._rewriting = Lock()
        self._whereabouts = _whereabouts(path)
        self._lost: str | None = None
        self.moved_aside = moved_aside

    @classmethod
    def open(cls, path: Path, *, schema: str, spare_bytes: int = 0) -> Self:
        """Open `path`, create `schema` (idempotent statements) in it, and check it.

        `spare_bytes` are set aside in the file, so that a disk that has filled up does not stop
        the deletions that empty it: `check_room` is for what adds to it.
        """
        moved_aside: Path | None = None
        try:
            try:
                connection = _connect(path, schema, timeout_s=_OPEN_TIMEOUT_S)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                moved_aside = database_files.move_aside(path)
                connection = _connect(path, schema, timeout_s=_OPEN_TIMEOUT_S)
        except (sqlite3.Error, OSError) as error:
            fault: str | None = f"cannot use {path}: {error}"
            connection = _copy_in_memory(path, schema)
        else:
            fault = None
            _set_aside(connection, spare_bytes)
        return cls(
            connection,
            path=path,
            schema=schema,
            spare_bytes=spare_bytes,
            fault=fault,
            moved_aside=moved_aside,
        )

    @property
    def fault(self) -> str | None:
        """Why nothing is recorded, or is gone with the next power cut; None if neither."""
        return self._lost or self._write_fault or self._sync_fault

    def execute(self, statement: str, parameters: tuple[object, ...] = ()) -> None:
        """Run and commit one statement. Raises StorageError; then nothing was recorded."""
        if not self._on_file:
            self._open_again()
        try:
            try:
                self._connection.execute(statement, parameters)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                    raise
                # Once its pages are in the main file, the log is written again from its start,
                # and that takes no new room.
                self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
                self._connection.execute(statement, parameters)
        except sqlite3.Error as error:
            self._write_fault = f"cannot write {self._path}: {error}"
            raise StorageError(self._write_fault) from error
        self._write_fault = None
        if self._sync_fault is not None and not self._is_syncing_again:
            self._is_syncing_again = True
            self.sync(self._synced_again)

    def soon(self, act: Callable[[], None]) -> None:
        """Call `act` in the next turn of the loop, for nobody's request."""
        asyncio.get_running_loop().call_soon(act, context=Context())

    def sync(self, done: Callable[[StorageError | None], None]) -> None:
        """Call `done` once all that is committed now is over a power cut, or with why it is not.

        A thread waits for the disk, and the loop does not: of the log, which is all that a commit
        writes; what has left it for the main file was synced before. A disk that could not once is
        a `fault` until it can, and has to take all of the log anew: the kernel tells of what it
        failed to write once, and forgets it.
        """
        how = _sync if self._sync_fault is None else self._rewrite
        waiting = asyncio.get_running_loop().run_in_executor(None, how, self._path)

        def tell(synced: asyncio.Future[StorageError | None]) -> None:
            if synced.cancelled():
                done(StorageError(f"{self._path} may not be on the disk yet: the daemon ends"))
                return
            fault = synced.result()
            self._sync_fault = None if fault is None else str(fault)
            # What is on the disk is no use where no name leads to it.
            done(fault if self._lost is None else StorageError(self._lost))

        waiting.add_done_callback(tell, context=Context())

    def check_room(self) -> None:
        """Make sure that what adds to the file is found there, and leaves what was set aside.

        Raises StorageError while the file system has less left than that, and while the file that
        is open is not the one by its name: what it takes is gone with the process.
        """
        if self._lost is not None:
            raise StorageError(self._lost)
        try:
            system = os.statvfs(self._path.parent)
        except OSError:
            return  # the write itself says what is wrong
        room_bytes = system.f_bavail * system.f_frsize
        if system.f_blocks and room_bytes < self._spare_bytes:  # no blocks: no limit
            self._write_fault = f"cannot write {self._path}: the disk is full"
            raise StorageError(self._write_fault)
        self._additions += 1
        if self._additions % _ADDITIONS_A_CHECK == 0 and self._on_file:
            _set_aside(self._connection, self._spare_bytes)

    def rows(self, query: str, parameters: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """Return all rows of a query. Raises StorageError."""
        try:
            return self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise StorageError(f"cannot read {self._path}: {error}") from error

    def recheck(self) -> bool:
        """Tell whether the file can be written, by writing; `fault` is set or cleared."""
        try:
            self.execute("PRAGMA user_version = 1")
            self.check_room()
        except StorageError:
            return False
        return True

    def look(self) -> str | None:
        """See whether the file is still the one by its name, and write all of it anew if not.

        Returns what was done, as a sentence, if something was. Where it could not be, that is a
        `fault` until it can, or until the file is back.
        """
        # Without a file it is tried with each write; one that is rewritten is looked at later.
        if not self._on_file or not self._rewriting.acquire(blocking=False):
            return None
        try:
            return self._look()
        finally:
            self._rewriting.release()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _look(self) -> str | None:
        lost = self._whereabouts.lost()
        if lost is None:
            self._lost = None
            return None
        try:
            aside = self._write_anew()
        except (sqlite3.Error, OSError) as error:
            self._lost = f"{lost}, and cannot be written anew: {error}"
            return None
        self._lost = self._write_fault = None
        there = "" if aside is None else f"; what was in its place is {aside} now"
        return f"{lost}: all of it is written anew, and nothing is lost{there}"

    def _write_anew(self) -> Path | None:
        """Put what the open file has where its name is; return where what was there was moved."""
        fresh = self._path.with_name(f"{self._path.name}.new")
        database_files.remove(fresh)
        aside = None
        try:
            _copy_out(self._connection, fresh, self._schema)
            if self._path.exists():
                aside = database_files.keep_aside(self._path)
            # There is one by the name at each moment, and a log is never beside one of another.
            database_files.remove_logs(self._path)
            fresh.rename(self._path)
        except BaseException:
            database_files.remove(fresh)
            if aside is not None:
                aside.unlink()
            raise
        # Closed before there is a new log: it removes the log by its name, whosever it is.
        self._connection.close()
        self._on_file = False
        database_files.sync_names(self._path.parent)
        self._connection = _connect(self._path, self._schema, timeout_s=_REOPEN_TIMEOUT_S)
        self._on_file = True
        _set_aside(self._connection, self._spare_bytes)
        self._whereabouts = _whereabouts(self._path)
        return aside

    def _rewrite(self, path: Path) -> StorageError | None:
        with self._rewriting:  # SQLite lets none of two wait for the other
            fault = _rewrite(path)
            self._whereabouts.may_shrink()
            return fault

    def _synced_again(self, _fault: StorageError | None) -> None:
        self._is_syncing_again = False

    def _open_again(self) -> None:
        # Nothing was written since the copy in memory was made: it can simply be dropped.
        try:
            connection = _connect(self._path, self._schema, timeout_s=_REOPEN_TIMEOUT_S)
        except (sqlite3.Error, OSError) as error:
            self._write_fault = f"cannot use {self._path}: {error}"
            raise StorageError(self._write_fault) from error
        self._connection.close()
        self._connection = connection
        self._on_file = True
        self._lost = None
        self._whereabouts = _whereabouts(self._path)


class Documents:
    """Small JSON documents by name, in a `Database` of the state directory.

    `stopgap` keeps over a restart, not over a reboot, what that does not take.
    """

    SCHEMA = "CREATE TABLE IF NOT EXISTS documents (name TEXT PRIMARY KEY, body BLOB NOT NULL)"

    def __init__(self, database: Database, *, stopgap: Stopgap | None = None) -> None:
        self._database = database
        self._stopgap = stopgap

    @property
    def fault(self) -> str | None:
        """Why nothing can be recorded, or None."""
        return self._database.fault

    def get(self, name: str) -> bytes | None:
        """Return the document, or None. Raises StorageError."""
        if self._stopgap is not None and (body := self._stopgap.get(name)) is not None:
            return body
        rows = self._database.rows("SELECT body FROM documents WHERE name = ?", (name,))
        return bytes(rows[0][0]) if rows else None  # type: ignore[call-overload]

    def is_owed(self, name: str) -> bool:
        """Whether the document is in the stopgap alone, and to be put again."""
        return self._stopgap is not None and self._stopgap.get(name) is not None

    def put(self, name: str, body: bytes) -> None:
        """Replace the document and commit. Raises StorageError: then it is in the stopgap alone."""
        try:
            self._database.execute(
                "INSERT INTO documents VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET body = excluded.body",
                (name, body),
            )
        except StorageError:
            if self._stopgap is not None:
                self._stopgap.put(name, body)
            raise
        if self._stopgap is not None:
            self._stopgap.drop(name)


def read_document(path: Path, name: str) -> bytes | None:
    """Return a document as `Documents` left it in a file whose owner is gone, or None.

    Raises StorageError.
    """
    for found, body in read_rows(path, "SELECT name, body FROM documents"):
        if found == name and isinstance(body, bytes):
            return body
    return None


def read_rows(path: Path, query: str) -> list[tuple[object, ...]]:
    """Return all rows of a query over what a file holds whose owner is gone. Raises StorageError.

    A copy is read: the file, its log and who may write them stay as they are.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="superezio-") as folder:
            copy = database_files.copy_files(path, Path(folder))
            with closing(sqlite3.connect(copy, timeout=_OPEN_TIMEOUT_S)) as connection:
                return connection.execute(query).fetchall()
    except (sqlite3.Error, OSError) as error:
        raise StorageError(f"cannot read {path}: {error}") from error


def _connect(path: Path, schema: str, *, timeout_s: float) -> sqlite3.Connection:
    database_files.make_private(path)
    connection = sqlite3.connect(path, isolation_level=None, timeout=timeout_s)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        ok = connection.execute("PRAGMA quick_check").fetchone()[0]
        if ok != "ok":
            raise sqlite3.DatabaseError(ok)
        connection.executescript(schema)
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    except BaseException:
        connection.close()
        raise
    return connection


def _sync(path: Path) -> StorageError | None:
    path, _ = database_files.logs(path)
    try:
        log = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(log)
        finally:
            os.close(log)
    except OSError as error:
        return StorageError(f"cannot have {path} written to the disk: {error}")
    return None


def _rewrite(path: Path) -> StorageError | None:
    """Have all of the log in the main file, and that on the disk; then the log begins anew."""
    try:
        connection = sqlite3.connect(path, timeout=_OPEN_TIMEOUT_S, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous=FULL")
            is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return StorageError(f"cannot have {path} written to the disk: {error}")
    if is_busy:
        return StorageError(f"cannot have {path} written to the disk: its log is in use")
    return _sync(path)


def _set_aside(connection: sqlite3.Connection, spare_bytes: int) -> None:
    """Grow the file and its log by pages that are free again at once."""
    if spare_bytes <= 0:
        return
    free_pages = connection.execute("PRAGMA freelist_count").fetchone()[0]
    page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    if free_pages * page_bytes >= spare_bytes / 2:
        return
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS spare (room BLOB)")
        connection.execute("INSERT INTO spare VALUES (zeroblob(?))", (spare_bytes,))
        connection.execute("DELETE FROM spare")
        connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    except sqlite3.Error:
        return  # no room to spare; the first write that fails will say so


def _copy_in_memory(path: Path, schema: str) -> sqlite3.Connection:
    """Return a database in memory with what `path` and its log hold, as far as they can be read.

    SQLite cannot read a log in a directory that it cannot write; it can read a copy of both.
    """
    memory = sqlite3.connect(":memory:", isolation_level=None)
    try:
        with tempfile.TemporaryDirectory(prefix="superezio-") as folder:
            copy = database_files.copy_files(path, Path(folder))
            source = _connect(copy, schema, timeout_s=_OPEN_TIMEOUT_S)
            try:
                source.backup(memory)
            finally:
                source.close()
    except (sqlite3.Error, OSError):
        memory.close()
        memory = sqlite3.connect(":memory:", isolation_level=None)
    memory.executescript(schema)
    return memory


def _whereabouts(path: Path) -> Whereabouts:
    log, index = database_files.logs(path)
    return Whereabouts((path, index), to_read=(log,))


def _copy_out(connection: sqlite3.Connection, path: Path, schema: str) -> None:
    """Write all that a connection has into a new file, and leave nothing of it in a log.

    Raises sqlite3.Error where it is damaged, or where there is no room for it.
    """
    with closing(_connect(path, schema, timeout_s=_REOPEN_TIMEOUT_S)) as copy:
        connection.backup(copy)
        ok = copy.execute("PRAGMA quick_check").fetchone()[0]
        if ok != "ok":
            raise sqlite3.DatabaseError(f"what it held is damaged: {ok}")
        # To close it would do the same, and say nothing where the disk has no room for the file.
        is_busy, *_ = copy.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            raise sqlite3.OperationalError("its log is in use")
