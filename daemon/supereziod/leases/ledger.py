"""What is reserved on which GPU, and what is left: net of foreign use and the driver's reserve."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct

from supereziod.gpu.hardware import Snapshot
from supereziod.leases.placement import Capacity

NoticeKind = Literal["returned", "unreturned", "overcommitted", "overcommit_over", "grown"]


class Claim(Struct, frozen=True, kw_only=True):
    """A granted lease: bytes by GPU UUID, and the holder they count for.

    `exclusive` keeps every other lease off its GPUs.
    """

    lease: str
    holder: str
    reserved: dict[str, int]
    exclusive: bool = False


class LedgerNotice(Struct, frozen=True, kw_only=True):
    """Something a pass showed.

    returned / unreturned: VRAM of the released `lease` is back on `uuid`, or is not after the
    time for it (`amount_bytes`: what is still used). overcommitted: more is spoken for than there
    is, by `amount_bytes`; `pids` grew since it last was not. overcommit_over: it fits again.
    grown: the estimated use of `lease` is stable, and other leases may start on the GPU.
    """

    kind: NoticeKind
    uuid: str
    message: str
    lease: str | None = None
    amount_bytes: int = 0
    pids: tuple[int, ...] = ()


class Ledger:
    """Claims, and the newest pass of every GPU they are judged by. Owned by the event loop.

    `reserve_bytes` is kept free on every GPU (`reserve_by_gpu` by UUID where it differs). Passes
    taken before this ledger existed count for nothing.
    """

    def __init__(
        self,
        *,
        reserve_bytes: int,
        reserve_by_gpu: Mapping[str, int] | None = None,
        return_timeout_s: float = 5.0,
        growing_timeout_s: float = 300.0,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        raise NotImplementedError

    def claim(self, claim: Claim) -> None:
        """Record a grant. Raises ValueError for a lease that is there, or a size below one."""
        raise NotImplementedError

    def restore(self, claim: Claim) -> None:
        """Record a grant of an earlier run: what its processes use already is not growth."""
        raise NotImplementedError

    def rebind(self, lease: str, holder: str) -> None:
        """Let the lease count for another holder. The processes of a holder left without a lease go along."""
        raise NotImplementedError

    def release(self, lease: str) -> None:
        """End a claim. Its VRAM stays spoken for until a later pass shows it free. Idempotent."""
        raise NotImplementedError

    def observe(
        self, snapshot: Snapshot, holder_of: Callable[[int], str | None]
    ) -> list[LedgerNotice]:
        """Take in the passes that are new, and say what they show. Cheap when none is."""
        raise NotImplementedError

    def capacities(self, snapshot: Snapshot) -> list[Capacity]:
        """Return every GPU's capacity, by the last pass observed; without one it is `settling`."""
        raise NotImplementedError

    def actual(self, holder: str, uuid: str) -> int | None:
        """Return what the holder's processes use on the GPU; None before a pass can show it."""
        raise NotImplementedError

    def is_estimated(self, holder: str, uuid: str) -> bool:
        """Tell whether `actual` is an estimate, as the driver does not give it by process."""
        raise NotImplementedError

    def is_growing(self, lease: str) -> bool:
        """Tell whether the lease's use is being estimated by growth on any of its GPUs."""
        raise NotImplementedError

    @property
    def awaits_pass(self) -> bool:
        """Whether a new pass would change something: a return, growth, or a grant not yet seen."""
        raise NotImplementedError

    def overcommitted(self) -> list[LedgerNotice]:
        """Return the notices of the GPUs that are overcommitted now."""
        raise NotImplementedError
