"""A SQLite file that survives `kill -9`, and that may be corrupt, full or read-only.

Commits are durable against the death of the process, not against a power cut: WAL with
synchronous=NORMAL. One connection, used on the event loop's thread alone.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Self


class StorageError(Exception):
    """The file cannot be written; what was not committed is not recorded."""


class Database:
    """An opened database. `moved_aside` names the corrupt file it replaced, if there was one.

    Where the file cannot be used at all (read-only directory, disk full), `open` still returns a
    database, in memory, whose `fault` says why: reads work, `execute` raises StorageError.
    """

    def __init__(
        self, connection: sqlite3.Connection, *, fault: str | None, moved_aside: Path | None
    ) -> None:
        self._connection = connection
        self.fault = fault
        self.moved_aside = moved_aside

    @classmethod
    def open(cls, path: Path, *, schema: str) -> Self:
        """Open `path`, create `schema` (idempotent statements) in it, and check it."""
        moved_aside: Path | None = None
        try:
            try:
                connection = _connect(path, schema)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                moved_aside = _move_aside(path)
                connection = _connect(path, schema)
        except (sqlite3.Error, OSError) as error:
            memory = sqlite3.connect(":memory:", isolation_level=None)
            memory.executescript(schema)
            return cls(memory, fault=f"cannot use {path}: {error}", moved_aside=moved_aside)
        return cls(connection, fault=None, moved_aside=moved_aside)

    def execute(self, statement: str, parameters: tuple[object, ...] = ()) -> None:
        """Run and commit one statement. Raises StorageError; then nothing was recorded."""
        if self.fault is not None and self._in_memory():
            raise StorageError(self.fault)
        try:
            self._connection.execute(statement, parameters)
        except sqlite3.Error as error:
            self.fault = f"cannot write: {error}"
            raise StorageError(self.fault) from error
        self.fault = None

    def rows(self, query: str, parameters: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """Return all rows of a query. Raises StorageError."""
        try:
            return self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise StorageError(f"cannot read: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _in_memory(self) -> bool:
        return not self._connection.execute("PRAGMA database_list").fetchone()[2]


class Documents:
    """Small JSON documents by name, in a `Database` of the state directory."""

    SCHEMA = "CREATE TABLE IF NOT EXISTS documents (name TEXT PRIMARY KEY, body BLOB NOT NULL)"

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def fault(self) -> str | None:
        """Why nothing can be recorded, or None."""
        return self._database.fault

    def get(self, name: str) -> bytes | None:
        """Return the document, or None."""
        rows = self._database.rows("SELECT body FROM documents WHERE name = ?", (name,))
        return bytes(rows[0][0]) if rows else None  # type: ignore[call-overload]

    def put(self, name: str, body: bytes) -> None:
        """Replace the document and commit. Raises StorageError."""
        self._database.execute(
            "INSERT INTO documents VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET body = excluded.body",
            (name, body),
        )


def _connect(path: Path, schema: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=1.0)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        ok = connection.execute("PRAGMA quick_check").fetchone()[0]
        if ok != "ok":
            raise sqlite3.DatabaseError(ok)
        connection.executescript(schema)
    except BaseException:
        connection.close()
        raise
    return connection


def _move_aside(path: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    target = path.with_name(f"{path.name}.corrupt-{stamp}")
    path.rename(target)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return target
