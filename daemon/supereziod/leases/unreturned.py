"""VRAM of released leases that the driver goes on showing as used: known until it is back."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from supereziod.leases.notices import LedgerNotice


class _Missing(Struct, frozen=True):
    message: str
    #: At or below this much foreign VRAM on the GPU, three quarters of what was missing are back.
    back_at_bytes: int


class UnreturnedVram:
    """The alarms that still stand. Once its time is over, such VRAM counts as foreign use."""

    def __init__(self) -> None:
        self._missing: dict[str, _Missing] = {}

    def note(self, notice: LedgerNotice, *, foreign_bytes: int) -> None:
        """Take in an `unreturned` notice, with the foreign VRAM that includes it."""
        back_at = foreign_bytes - notice.amount_bytes * 3 // 4
        self._missing[notice.uuid] = _Missing(notice.message, back_at)

    def messages(self, foreign_bytes: Mapping[str, int]) -> dict[str, str]:
        """Return what is missing, by GPU, given the foreign VRAM on each now."""
        self._missing = {
            uuid: missing
            for uuid, missing in self._missing.items()
            if foreign_bytes.get(uuid, missing.back_at_bytes + 1) > missing.back_at_bytes
        }
        return {uuid: missing.message for uuid, missing in self._missing.items()}
