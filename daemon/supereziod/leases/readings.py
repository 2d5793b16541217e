"""What a decision goes by: readings of the GPUs that are fresh, and nothing older."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from msgspec import structs

from supereziod.gpu.hardware import Block, Snapshot
from supereziod.leases.capacity import Capacity
from supereziod.leases.descent import Attribution
from supereziod.leases.ledger import Ledger, LedgerNotice

#: How long a decision waits for GPUs that are slow to answer, while others may serve.
_PATIENCE_S: Final = 0.025
_MAX_TRIES: Final = 3
_SETTLING: Final = Block(code="settling", message="it has not been read in the last second")


class Monitor(Protocol):
    """What the leases ask of the GPU monitor."""

    def snapshot(self) -> Snapshot:
        """Return all GPUs as they are known now."""

    async def fresh_pass(
        self, *, max_age_s: float, patience_s: float, for_all: bool = False
    ) -> Snapshot:
        """Have every GPU read that was not within `max_age_s`; give up after `patience_s`.

        One that lags behind the others is waited for only if `for_all`.
        """

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after every change, until the returned function is called."""

    def set_busy(self, busy: bool) -> None:  # noqa: FBT001 - the monitor's signature
        """Say whether leases are changing, so that processes are read more often."""


class Readings:
    """The GPUs' capacities by fresh passes. One that was not read lately is `settling`.

    Passes from before this object was made do not count, nor do those from before `resumed_ns()`,
    when the host last woke: nothing is granted on a GPU before it has been read since.
    """

    def __init__(
        self,
        *,
        monitor: Monitor,
        ledger: Ledger,
        clock: Callable[[], int],
        max_age_s: float = 1.0,
        probe_deadline_s: float = 2.0,
        resumed_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        self._monitor = monitor
        self._ledger = ledger
        self._clock = clock
        self._max_age_s = max_age_s
        self._probe_deadline_s = probe_deadline_s
        self._resumed_ns = resumed_ns
        self._started_ns = clock()
        self._released_ns = 0
        self._seen: dict[str, int] = {}

    def snapshot(self) -> Snapshot:
        """Return all GPUs as they are known now."""
        return self._monitor.snapshot()

    def has_new_pass(self) -> bool:
        """Tell whether a GPU was read with its processes since the last `observe`."""
        return self._passes() != self._seen

    def observe(self, holder_of: Attribution) -> list[LedgerNotice]:
        """Take new passes into the ledger, and return what they show."""
        self._seen = self._passes()
        return self._ledger.observe(self.snapshot(), holder_of)

    def note_release(self) -> None:
        """Remember that VRAM was given up now: an older reading cannot show it free."""
        self._released_ns = self._clock()

    def capacities(self) -> list[Capacity]:
        """Return what every GPU admits; nothing, on one that was not read lately."""
        snapshot = self.snapshot()
        oldest_ns = self._oldest_ns()
        # Of what was taken in: a pass whose processes could not be looked at has shown nothing.
        return [
            capacity
            if capacity.block is not None or self._seen.get(capacity.uuid, 0) >= oldest_ns
            else structs.replace(capacity, block=_SETTLING)
            for capacity in self._ledger.capacities(snapshot)
        ]

    @property
    def complete(self) -> bool:
        """Whether every GPU of the host is known, so that what never fits is known too."""
        return self.snapshot().ready

    def late(self, capacities: list[Capacity]) -> bool:
        """Tell whether a GPU that might serve has yet to be read."""
        return not self.snapshot().ready or any(
            capacity.block is not None and capacity.block.code == _SETTLING.code
            for capacity in capacities
        )

    async def settle(self, admits: Callable[[], bool]) -> None:
        """Have the GPUs read until `admits`, or until that can change nothing.

        A GPU that is slow to answer holds up nobody whom another serves; where none does, it is
        waited for as long as the probe gives it. The others may have to be read again by then.
        """
        await self._refresh(_PATIENCE_S)
        give_up_ns = self._clock() + round(self._probe_deadline_s * 1e9)
        for _ in range(_MAX_TRIES):
            left_s = (give_up_ns - self._clock()) / 1e9
            if left_s <= 0:
                break
            if admits() or not (self.late(self.capacities()) or self.returning()):
                return
            await self._refresh(left_s, for_all=True)
        await self._refresh(_PATIENCE_S)

    async def refresh(self) -> None:
        """Have the GPUs read now, for those who wait."""
        await self._refresh(self._probe_deadline_s)

    async def _refresh(self, patience_s: float, *, for_all: bool = False) -> None:
        since_s = (self._clock() - max(self._released_ns, self._resumed_ns())) / 1e9
        await self._monitor.fresh_pass(
            max_age_s=min(self._max_age_s, since_s),
            patience_s=patience_s,
            for_all=for_all,
        )

    def returning(self) -> bool:
        """Tell whether VRAM was given up on a GPU that has not been read since."""
        snapshot = self.snapshot()
        unread = {
            gpu.uuid
            for gpu in snapshot.gpus
            if gpu.last_pass is not None and gpu.last_pass.taken_ns <= self._released_ns
        }
        return any(
            capacity.uuid in unread and capacity.block is None and capacity.returning_bytes > 0
            for capacity in self._ledger.capacities(snapshot)
        )

    def awaits_return(self) -> bool:
        """Tell whether VRAM that was given up is still spoken for."""
        return any(
            capacity.returning_bytes > 0 for capacity in self._ledger.capacities(self.snapshot())
        )

    def _passes(self) -> dict[str, int]:
        return {
            gpu.uuid: gpu.last_pass.taken_ns
            for gpu in self.snapshot().gpus
            if gpu.last_pass is not None
        }

    def _oldest_ns(self) -> int:
        oldest_ns = self._clock() - round(self._max_age_s * 1e9)
        return max(self._started_ns, self._resumed_ns(), oldest_ns)
