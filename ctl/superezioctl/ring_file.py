"""The ring of a daemon, read without it."""

from __future__ import annotations

import errno
import mmap
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from superezio.errors import SuperezioError
from superezio.flight.finding import Finding
from superezio.flight.head import UnreadableRingError
from superezio.flight.reading import RingReader
from superezio.flight.telling import list_of, trace_of
from superezio.paths import STATE_DIR_VARIABLE, default_state_dir
from superezio.wire import TraceFindParams

#: What the daemon calls it.
RING = "flight.ring"
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class RingFileError(SuperezioError):
    """The file cannot be read as a ring."""

    kind = "ring_unreadable"
    code = -32093


def default_path() -> str:
    """Return the ring of the daemon that is meant where nobody says."""
    return f"{default_state_dir()}/{RING}"


def trace(path: str, id_: str) -> bytes:
    """Return what trace.get tells of an id. Raises RingFileError."""
    if not _ID.fullmatch(id_):
        raise RingFileError("an id has 1 to 64 letters, digits or any of . _ : -")
    with _reader(path) as reader:
        found = [entry for entry in reader.of_id(id_, lambda _uid: True) if entry is not None]
    return msgspec.json.encode(trace_of(id_, found))


def find(path: str, params: dict[str, Any]) -> bytes:
    """Return what trace.find tells. Raises RingFileError."""
    looked_for = msgspec.convert(params, TraceFindParams)
    with _reader(path, may_be_id=True) as reader:
        finding = Finding(reader, looked_for, now_ns=time.time_ns())
        for _ in finding.run():
            pass
    return msgspec.json.encode(list_of(finding.found))


@contextmanager
def _reader(path: str, *, may_be_id: bool = False) -> Iterator[RingReader]:
    """Read a file. `may_be_id`: somebody who asks for an id may have written it in its place."""
    try:
        content = _content(Path(path))
    except PermissionError as error:
        raise RingFileError(
            f"cannot read {path}: it is the daemon's own, and tells of all users. Use sudo, or"
            " ask the daemon, without --ring"
        ) from error
    except FileNotFoundError as error:
        raise RingFileError(
            f"there is no {path}: the daemon keeps {RING} in its state directory, which"
            f" --ring FILE or ${STATE_DIR_VARIABLE} names"
            + (_how_to_ask_for(path) if may_be_id and _ID.fullmatch(path) else "")
        ) from error
    except IsADirectoryError as error:
        raise RingFileError(f"{path} is a directory: give the file in it, {RING}") from error
    except OSError as error:
        raise RingFileError(f"cannot read {path}: {error.strerror}") from error
    try:
        yield RingReader.of(memoryview(content))
    except UnreadableRingError as error:
        raise RingFileError(f"cannot read {path}: {error}") from error


def _how_to_ask_for(id_: str) -> str:
    return (
        f". --ring is for a file to read instead of asking the daemon: for the id {id_} give it"
        f" before --ring (`superezioctl trace {id_} --ring`), or alone to ask the daemon"
    )


def _content(path: Path) -> bytes:
    """Return the file as it is now: a daemon may go on writing to it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if found.st_size == 0:
            return b""
        with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as memory:
            return memory[:]
    finally:
        os.close(descriptor)
