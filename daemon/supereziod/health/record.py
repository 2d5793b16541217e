"""Why a watchdog ping was withheld, kept where the next start finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import structlog
from msgspec import Struct

from supereziod.stopgap import left_in
from supereziod.storage import Documents, StorageError, read_document

_NAME = "watchdog"


class Withholding(Struct, frozen=True, kw_only=True):
    """Why pings are withheld. `overheat` is the only kind that may ever stop a model.

    `stuck`: the daemon does not answer itself. `unhealthy`: any other unhealthy verdict.
    """

    kind: Literal["overheat", "stuck", "unhealthy"]
    message: str
    time: str
    boot_id: str
    gpu: str | None = None
    temperature_c: int | None = None

    @property
    def of_earlier_run(self) -> str:
        """What a later run says of it: what was so then need not be so now."""
        return f"the watchdog ended an earlier run, which had said at {self.time}: {self.message}"


class StoredReasons(Struct, frozen=True, kw_only=True):
    """`current` stands while pings are withheld; `last` is how an earlier run ended."""

    current: Withholding | None = None
    last: Withholding | None = None


class WatchdogRecord:
    """The stored reason. What stands when a run ends without resuming is its successor's `last`.

    Moving it there at the start means that a later death for another reason, a stuck loop say,
    is not taken for overheating. `ended_last_run`: `last` is how the run before this one ended, and
    not one that a run before has told of already.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._log = structlog.get_logger()
        found = self._read()
        self.last = found.current or found.last
        self.ended_last_run = found.current is not None
        self.stored = True
        self.current: Withholding | None = None
        if found.current is not None or documents.is_owed(_NAME):
            self._write()

    def withhold(self, reason: Withholding) -> bool:
        """Store why pings are withheld from now on; return whether it is on disk."""
        if self.current != reason or not self.stored:
            self.current = reason
            self._write()
        return self.stored

    def resume(self) -> None:
        """Store that pings go out again."""
        self.current = None
        self._write()

    def clear_last(self) -> None:
        """Forget how the earlier run ended."""
        self.last = None
        self._write()

    def _read(self) -> StoredReasons:
        try:
            return _decode(self._documents.get(_NAME))
        except (StorageError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._log.warning("watchdog.record_unreadable", error=str(error))
            return StoredReasons()

    def _write(self) -> None:
        document = StoredReasons(current=self.current, last=self.last)
        try:
            self._documents.put(_NAME, msgspec.json.encode(document))
        except StorageError as error:
            if self.stored:
                self._log.error("watchdog.record_not_stored", error=str(error))
            self.stored = False
        else:
            self.stored = True


def read_reasons(path: Path, *, runtime_dir: Path | None = None) -> StoredReasons:
    """Return what the daemon stored in the database at `path`, as long as none runs.

    What that did not take is in `runtime_dir`. Raises StorageError.
    """
    left = None if runtime_dir is None else left_in(runtime_dir, _NAME)
    try:
        return _decode(read_document(path, _NAME) if left is None else left)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageError(f"what {path} says of the watchdog is damaged: {error}") from error


def _decode(body: bytes | None) -> StoredReasons:
    return StoredReasons() if body is None else msgspec.json.decode(body, type=StoredReasons)
