"""VRAM of released leases that the driver goes on showing as used: known until it is back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from supereziod.leases.notices import LedgerNotice


class UnreturnedVram:
    """The alarms that still stand, one for each released lease on each of its GPUs.

    Once its time is over, such VRAM counts as foreign use.
    """

    def __init__(self) -> None:
        self._on_gpu: dict[str, _Alarms] = {}

    def note(self, notices: Sequence[LedgerNotice], foreign_bytes: Mapping[str, int]) -> None:
        """Take in the `unreturned` notices of one pass, with the foreign VRAM that includes them.

        All of a pass at once: what is foreign besides is what none of them accounts for.
        """
        for uuid in dict.fromkeys(notice.uuid for notice in notices):
            new = [notice for notice in notices if notice.uuid == uuid]
            amount = sum(notice.amount_bytes for notice in new)
            if uuid not in self._on_gpu:
                self._on_gpu[uuid] = _Alarms(foreign_bytes.get(uuid, amount) - amount)
            self._on_gpu[uuid].standing.extend(new)

    def messages(self, foreign_bytes: Mapping[str, int]) -> dict[str, str]:
        """Return what is missing, by GPU, given the foreign VRAM on each now."""
        for uuid, alarms in list(self._on_gpu.items()):
            if uuid in foreign_bytes:
                alarms.end_returned(foreign_bytes[uuid])
            if not alarms.standing:
                del self._on_gpu[uuid]
        return {
            uuid: "; ".join(notice.message for notice in alarms.standing)
            for uuid, alarms in self._on_gpu.items()
        }


class _Alarms:
    """The alarms of one GPU, and how much was foreign there besides."""

    def __init__(self, besides_bytes: int) -> None:
        self._besides_bytes = besides_bytes
        self.standing: list[LedgerNotice] = []

    def end_returned(self, foreign_bytes: int) -> None:
        """End the alarms of which three quarters are back, by what is missing in all.

        Nobody can tell whose VRAM came back: the largest that explains it did.
        """
        missing = foreign_bytes - self._besides_bytes
        expected = sum(notice.amount_bytes for notice in self.standing)
        for notice in sorted(self.standing, key=lambda each: -each.amount_bytes):
            if missing <= expected - notice.amount_bytes * 3 // 4:
                self.standing.remove(notice)
                expected -= notice.amount_bytes
