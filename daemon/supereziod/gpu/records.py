"""What is known of GPUs beyond the life of the daemon: who is cordoned, fit, or was hot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import structlog

from supereziod.gpu.fitness import FitnessRecord
from supereziod.storage import Documents, StorageError

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_T = TypeVar("_T")
#: What each document says.
_ABOUT: Final[Mapping[str, str]] = {
    "cordons": "which GPUs are cordoned",
    "fitness": "which GPUs are trusted",
    "hot": "which GPUs are hot",
}


class GpuRecords:
    """The documents `cordons`, `fitness` and `hot`, by UUID.

    What cannot be written is in memory, and owed, also by the next life of the daemon where the
    documents have a stopgap: `write_owed` is to be called now and then.
    `hot` has the boot in which a GPU was last HOT or CRITICAL, as long as it is.
    """

    def __init__(
        self,
        documents: Documents,
        *,
        boot_id: str | None = None,
        logger: Any = None,  # noqa: ANN401 - structlog's loggers are lazy proxies
    ) -> None:
        self._documents = documents
        self._log = logger if logger is not None else structlog.get_logger()
        self.boot_id = boot_id if boot_id is not None else _BOOT_ID.read_text().strip()
        #: Documents that are not written as they are, by name.
        self._owed: dict[str, dict[str, Any]] = {}
        self.cordons: dict[str, str] = self._load("cordons", dict[str, str])
        self.fitness: dict[str, FitnessRecord] = self._load("fitness", dict[str, FitnessRecord])
        self.hot: dict[str, str] = self._load("hot", dict[str, str])

    def was_hot(self, uuid: str) -> bool:
        """Whether the GPU was too hot for leases when the daemon of this boot last knew."""
        return self.hot.get(uuid) == self.boot_id

    def note_heat(self, uuid: str, *, is_hot: bool) -> None:
        """Write whether a GPU is too hot for leases, where that is news."""
        if is_hot == self.was_hot(uuid):
            return
        if is_hot:
            self.hot[uuid] = self.boot_id
        else:
            del self.hot[uuid]
        self._save("hot", self.hot)

    def save_cordons(self) -> bool:
        """Write who is cordoned; False if that cannot be."""
        return self._save("cordons", self.cordons)

    def save_fitness(self) -> bool:
        """Write who is fit; False if that cannot be."""
        return self._save("fitness", self.fitness)

    def has_written(self, name: str) -> bool:
        """Whether the state directory has the document as it is."""
        return name not in self._owed

    def write_owed(self) -> None:
        """Write what could not be written, if that can be now."""
        for name, content in list(self._owed.items()):
            self._save(name, content)

    def _load(self, name: str, type_: type[dict[str, _T]]) -> dict[str, _T]:
        try:
            body = self._documents.get(name)
            found = msgspec.json.decode(body, type=type_) if body is not None else {}
        except (StorageError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._log.warning("gpu.records_unreadable", document=name, error=str(error))
            return {}
        if self._documents.is_owed(name):
            self._owed[name] = found
        return found

    def _save(self, name: str, content: dict[str, _T]) -> bool:
        try:
            self._documents.put(name, msgspec.json.encode(content))
        except StorageError as error:
            if name not in self._owed:
                message = (
                    f"{_ABOUT[name]} cannot be written, and is forgotten with a reboot: {error}"
                )
                self._log.warning(
                    "gpu.records_not_written", message=message, document=name, error=str(error)
                )
            self._owed[name] = content
            return False
        self._owed.pop(name, None)
        return True
