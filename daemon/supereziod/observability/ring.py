"""The ring file: made, taken up again after whatever end, and written to.

It is a file that is mapped into memory, so that what was written outlives the process, however that
ends. Where no file can be had, the ring is memory alone, and says why.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from msgspec import structs

from superezio.flight.head import (
    MAX_ERAS,
    MAX_METHODS,
    Era,
    Head,
    UnreadableRingError,
    lanes_of,
    read_head,
    write_head,
)
from superezio.flight.layout import (
    MAX_PAYLOAD_BYTES,
    UNIT_BYTES,
    newest,
    units_of,
    write_full,
    write_named,
)
from superezio.flight.reading import Lanes, RingReader
from supereziod.observability.plain_lane import MethodMarks, PlainLane
from supereziod.whereabouts import Whereabouts

_MODE: Final = 0o600
#: The wall clock was set, or the host slept, when it is off by more than this.
_ERA_NS: Final = 50_000_000


class Ring:
    """Two lanes of records, and the head that says what is in them. Loop-owned.

    `fault` says why it is in memory alone; `moved_aside` names the file that could not be read.
    """

    def __init__(
        self,
        memory: mmap.mmap,
        *,
        size: int,
        boot_id: str,
        fault: str | None = None,
        moved_aside: Path | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        wall_clock: Callable[[], int] = time.time_ns,
        whereabouts: Whereabouts | None = None,
    ) -> None:
        self.fault = fault
        self._whereabouts = whereabouts
        self.moved_aside = moved_aside
        self._memory = memory
        self._buffer = memoryview(memory)
        self._boot_id = boot_id
        self._clock = clock
        self._wall_clock = wall_clock
        try:
            self._head, self._generation = read_head(self._buffer)
        except UnreadableRingError:
            plain, full = lanes_of(size)
            self._head, self._generation = Head(plain_bytes=plain, full_bytes=full), 0
        self.lanes = Lanes(self._buffer, self._head)
        self._full_place = newest(self.lanes.full)[1] or len(self.lanes.full)
        self.plain = PlainLane(self.lanes.plain)
        self._full_bytes = len(self.lanes.full)
        eras = self._head.eras
        #: How many times the ring was taken up, this time included.
        self.life = eras[-1].life + 1 if eras else 1
        self._plain_begin = self.plain.place
        self._full_written = 0
        self._add_era()

    @property
    def written(self) -> int:
        """How many records were written since it was taken up."""
        return (self.plain.place - self._plain_begin) // UNIT_BYTES + self._full_written

    @property
    def full_end(self) -> int:
        """The place of the lane of full records where the next one goes."""
        return self._full_place

    @property
    def names(self) -> Sequence[str]:
        """The names that have a number, for good."""
        return self._head.methods

    @property
    def size_bytes(self) -> int:
        """The bytes of all of it."""
        return self._head.size

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        size: int,
        boot_id: str,
        clock: Callable[[], int] = time.monotonic_ns,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> Self:
        """Take up the ring of `path`, or make it; `size` is about what it takes.

        A file that is no ring, or one of another version or size, is moved aside.
        """
        plain, full = lanes_of(size)
        size = Head(plain_bytes=plain, full_bytes=full).size
        moved_aside: Path | None = None
        fault: str | None = None
        try:
            moved_aside = _move_aside_unless_ring(path, size)
            memory = _mapped(path, size)
        except OSError as error:
            fault = f"cannot use {path}: {error.strerror or error}"
            memory = mmap.mmap(-1, size)
        return cls(
            memory, size=size, boot_id=boot_id, fault=fault, moved_aside=moved_aside, clock=clock,
            wall_clock=wall_clock, whereabouts=Whereabouts([path]) if fault is None else None,
        )  # fmt: skip

    @classmethod
    def in_memory(cls, *, size: int = 0, clock: Callable[[], int] = time.monotonic_ns) -> Self:
        """Return a ring that no file keeps."""
        plain, full = lanes_of(size)
        size = Head(plain_bytes=plain, full_bytes=full).size
        return cls(mmap.mmap(-1, size), size=size, boot_id="", clock=clock)

    def look(self) -> None:
        """See whether the file is still the one by its name: a `fault` where it is not."""
        if self._whereabouts is not None:
            self.fault = self._whereabouts.lost()

    def close(self) -> None:
        """Let go of the file. Nothing is written any more, and it can be read as it is."""
        self.plain.release()
        self.lanes.plain.release()
        self.lanes.full.release()
        self._buffer.release()
        self._memory.close()

    def marks_of(self, method: str | None) -> MethodMarks:
        """Return how records of a method begin; its name gets a number, for good."""
        name = method or ""
        methods = self._head.methods
        if name not in methods:
            if len(methods) >= MAX_METHODS:
                raise ValueError("there are more methods than a ring can name")
            self._write_head(structs.replace(self._head, methods=[*methods, name]))
        return MethodMarks(self._head.methods.index(name))

    def write_named(
        self, marks: MethodMarks, who: bytes, number: int, received_ns: int, name: str,
        about: str = "",
    ) -> None:  # fmt: skip
        """Record one request that was answered at once, under an id of the caller's own."""
        at = self._room(2 * UNIT_BYTES)
        place = self._full_place
        write_named(self.lanes.full, at, marks.named, place, who, number, received_ns, name, about)
        self._full_place = place + 2 * UNIT_BYTES
        self._full_written += 1

    def write_full(self, payload: bytes) -> bool:
        """Record what a payload of `records` tells; False where it is too long."""
        if len(payload) > MAX_PAYLOAD_BYTES:
            return False
        self._watch_wall_clock()
        size = units_of(payload)
        at = self._room(size)
        write_full(self.lanes.full, at, self._full_place, payload)
        self._full_place += size
        self._full_written += 1
        return True

    def reader(self) -> RingReader:
        """Return what reads this ring while it is written."""
        return RingReader(
            self.lanes,
            head=lambda: self._head,
            ends=lambda: (self.plain.place, self._full_place),
        )

    def _room(self, size: int) -> int:
        """Return where in the full lane so many bytes are to go: records do not wrap."""
        at = self._full_place % self._full_bytes
        if at + size > self._full_bytes:
            self._full_place += self._full_bytes - at
            return 0
        return at

    def _watch_wall_clock(self) -> None:
        wall_ns = self._wall_clock() - self._clock()
        if abs(wall_ns - self._wall_ns) > _ERA_NS:
            self._add_era()

    def _add_era(self) -> None:
        self._wall_ns = self._wall_clock() - self._clock()
        era = Era(
            boot_id=self._boot_id,
            life=self.life,
            pid=os.getpid(),
            wall_ns=self._wall_ns,
            plain_place=self.plain.place,
            full_place=self._full_place,
        )
        eras = [*self._head.eras, era][-MAX_ERAS:]
        self._write_head(structs.replace(self._head, eras=eras))

    def _write_head(self, head: Head) -> None:
        self._head = head
        self._generation += 1
        write_head(self._buffer, head, self._generation)


def _move_aside_unless_ring(path: Path, size: int) -> Path | None:
    """Rename a file that is no ring of this size; return its new name."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        if _is_ring(descriptor, size):
            return None
    finally:
        os.close(descriptor)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    target = path.with_name(f"{path.name}.aside-{stamp}")
    path.rename(target)
    return target


def _is_ring(descriptor: int, size: int) -> bool:
    if os.fstat(descriptor).st_size != size:
        return False
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as memory, memoryview(memory) as view:
        try:
            read_head(view)
        except UnreadableRingError:
            return False
    return True


def _mapped(path: Path, size: int) -> mmap.mmap:
    """Map the file, which is made where it is missing.

    It has all its blocks: a disk that is full later must not kill the daemon in the middle of a
    store.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, _MODE)
    try:
        os.fchmod(descriptor, _MODE)
        fresh = os.fstat(descriptor).st_size == 0
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError:
            if fresh:
                with suppress(OSError):
                    path.unlink()
            raise
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
