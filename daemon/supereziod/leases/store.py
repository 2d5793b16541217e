"""Leases on disk: one row each, committed before anybody hears of the grant."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import msgspec
from msgspec import Struct

from superezio.wire import AcquireParams, Placement, RevokeAnswer, RevokeReason
from supereziod.leases.handles import HeldBy
from supereziod.leases.processes import Identity
from supereziod.storage import Database, StorageError, read_rows

_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS leases"
    " (id TEXT PRIMARY KEY, boot TEXT NOT NULL, body BLOB NOT NULL)"
)
#: What a disk has to have left for a grant; ends of leases can be recorded in it.
_SPARE_BYTES: Final = 256 * 1024
#: Of each user: nobody else's releases make one's own forgotten.
_RELEASED_REMEMBERED: Final = 1024


class RevokeOrder(Struct, frozen=True, kw_only=True):
    """That a lease is to end by `deadline_ns` (CLOCK_MONOTONIC), why, and what its holder said.

    `by_uid` is who asked for it; None where the daemon gave it by itself.
    """

    reason: RevokeReason
    message: str
    deadline_ns: int
    by_uid: int | None = None
    answer: RevokeAnswer | None = None
    answer_message: str | None = None


class LeaseRecord(Struct, frozen=True, kw_only=True):
    """What a grant is, for as long as the boot. Times are CLOCK_MONOTONIC.

    `expires_ns`: when a ttl lease ends that is not renewed within `ttl_ms`. `ready`: its holder
    has said that it has grown. `kin`: what its processes had started, as far as that was seen.
    `groups` are those whose quotas it counts for. `grown_on`: the GPUs on which it was seen to have
    sized itself.
    """

    id: str
    uid: int
    params: AcquireParams
    gpus: dict[str, int]
    processes: tuple[HeldBy, ...]
    placement: Placement
    granted_at: str
    granted_ns: int
    correlation_id: str | None
    idempotency_key: str | None
    ttl_ms: int | None = None
    expires_ns: int | None = None
    ready: bool = False
    orders: tuple[RevokeOrder, ...] = ()
    kin: tuple[Identity, ...] = ()
    groups: tuple[int, ...] = ()
    grown_on: tuple[str, ...] = ()


class Unreadable(Struct, frozen=True, kw_only=True):
    """A row that is no lease of this boot: why it was voided."""

    id: str
    reason: str


class LeaseStore:
    """The leases of one boot in a `Database`, and whose the released ones were (`released`).

    A deletion or a change that cannot be written is remembered and made up for: `put` first writes
    what is owed, so that no lease that ended is followed by one recorded as if it had not.
    """

    def __init__(self, database: Database, *, boot_id: str) -> None:
        self._database = database
        self._boot_id = boot_id
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(LeaseRecord)
        #: By lease: the record to write, or None where it is to be deleted.
        self._owed: dict[str, LeaseRecord | None] = {}
        self.released: dict[str, int] = {}
        self._released_by: dict[int, dict[str, None]] = {}

    @classmethod
    def open(cls, path: Path, *, boot_id: str) -> Self:
        """Open the leases at `path`; whatever is wrong with it is in `fault`, not raised."""
        database = Database.open(path, schema=_SCHEMA, spare_bytes=_SPARE_BYTES)
        return cls(database, boot_id=boot_id)

    @property
    def fault(self) -> str | None:
        """Why no grant can be recorded, or None."""
        return self._database.fault

    @property
    def moved_aside(self) -> Path | None:
        """The corrupt file that was replaced at the start, if there was one."""
        return self._database.moved_aside

    def load(self) -> tuple[list[LeaseRecord], list[Unreadable]]:
        """Return the leases of this boot, oldest first, and void the other rows."""
        records: list[LeaseRecord] = []
        voided: list[Unreadable] = []
        for lease, boot, body in self._database.rows("SELECT id, boot, body FROM leases"):
            owner_uid = int(body) if isinstance(body, bytes) and body.isdigit() else None
            if owner_uid is not None:
                if boot == self._boot_id:
                    self._note_released(str(lease), owner_uid)
                else:
                    self.forget(str(lease))
                continue
            if boot != self._boot_id:
                voided.append(Unreadable(id=str(lease), reason="the machine has been restarted"))
                continue
            try:
                records.append(self._decoder.decode(body))  # type: ignore[arg-type]
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                voided.append(Unreadable(id=str(lease), reason=f"its record is damaged: {error}"))
        for row in voided:
            self.forget(row.id)
        return sorted(records, key=lambda record: (record.granted_ns, record.id)), voided

    def put(self, record: LeaseRecord) -> None:
        """Commit the lease, new or changed. Raises StorageError; then nothing was recorded."""
        self._settle()
        self._database.check_room()
        self._write(record)

    def keep(self, record: LeaseRecord) -> None:
        """Commit what is so of a lease in any case: where that fails, it is made up for."""
        try:
            self._write(record)
        except StorageError:
            self._owed[record.id] = record
        else:
            self._owed.pop(record.id, None)

    def release(self, lease: str, *, uid: int) -> None:
        """Commit that the user's lease was released. Raises StorageError; then it stands.

        That it was is remembered, so that whoever did not hear of it may release it again; of the
        user's oldest it is forgotten.
        """
        self._database.execute(
            "UPDATE leases SET body = ? WHERE id = ?", (str(uid).encode("ascii"), lease)
        )
        self._owed.pop(lease, None)
        self._note_released(lease, uid)
        of_user = self._released_by[uid]
        if len(of_user) > _RELEASED_REMEMBERED:
            oldest = next(iter(of_user))
            del of_user[oldest], self.released[oldest]
            self.forget(oldest)

    def delete(self, lease: str) -> None:
        """Commit the end of a lease. Raises StorageError; then it is still recorded."""
        self._database.execute("DELETE FROM leases WHERE id = ?", (lease,))
        self._owed.pop(lease, None)

    def forget(self, lease: str) -> None:
        """End a lease that is over in any case: its deletion is made up for where it fails."""
        try:
            self.delete(lease)
        except StorageError:
            self._owed[lease] = None

    def recheck(self) -> bool:
        """Tell whether a grant could be recorded, by writing what is owed, or a mark."""
        try:
            self._settle()
        except StorageError:
            return False
        return self._database.recheck()

    def look(self) -> str | None:
        """See whether the file is still there, and write it anew if not: what was done, if so."""
        return self._database.look()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _note_released(self, lease: str, uid: int) -> None:
        self.released[lease] = uid
        self._released_by.setdefault(uid, {})[lease] = None

    def _settle(self) -> None:
        for lease, record in tuple(self._owed.items()):
            if record is None:
                self.delete(lease)
            else:
                self._write(record)
                del self._owed[lease]

    def _write(self, record: LeaseRecord) -> None:
        self._database.execute(
            "INSERT INTO leases VALUES (?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET boot = excluded.boot, body = excluded.body",
            (record.id, self._boot_id, self._encoder.encode(record)),
        )


def read_leases(path: Path, *, boot_id: str) -> list[LeaseRecord]:
    """Return the leases of this boot in the store at `path`, as long as no daemon runs.

    What cannot be understood is left out. Raises StorageError.
    """
    records: list[LeaseRecord] = []
    for boot, body in read_rows(path, "SELECT boot, body FROM leases"):
        if boot == boot_id and isinstance(body, bytes) and not body.isdigit():
            with suppress(msgspec.DecodeError, UnicodeDecodeError):
                records.append(msgspec.json.decode(body, type=LeaseRecord))
    return sorted(records, key=lambda record: (record.granted_ns, record.id))
