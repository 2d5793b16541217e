"""What is reserved on which GPU, and what is left: net of foreign use and the driver's reserve."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from msgspec import Struct

from supereziod.gpu.hardware import Snapshot
from supereziod.leases.account import GpuAccount
from supereziod.leases.capacity import MAX_VRAM_BYTES, Capacity, Model
from supereziod.leases.notices import LedgerNotice, NoticeKind
from supereziod.leases.presence import Presence

__all__ = ["Claim", "Ledger", "LedgerNotice", "NoticeKind"]


class Claim(Struct, frozen=True, kw_only=True):
    """A granted lease: bytes by GPU UUID, and the holder they count for.

    `exclusive` keeps every other lease off its GPUs. `sizes_itself` does until it has grown,
    counted from `granted_ns` (of this ledger's clock), but for where it has `grown_on` before.
    `model` draws its like to its GPUs.
    """

    lease: str
    holder: str
    reserved: dict[str, int]
    exclusive: bool = False
    sizes_itself: bool = False
    granted_ns: int | None = None
    model: Model | None = None
    uid: int | None = None
    grown_on: tuple[str, ...] = ()


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
        self._reserve_bytes = reserve_bytes
        self._reserve_by_gpu = dict(reserve_by_gpu or {})
        self._return_timeout_ns = round(return_timeout_s * 1e9)
        self._growing_timeout_ns = round(growing_timeout_s * 1e9)
        self._clock = clock
        self._born_ns = clock()
        self._accounts: dict[str, GpuAccount] = {}
        self._claims: dict[str, Claim] = {}
        self._unreadable: set[str] = set()

    def claim(self, claim: Claim) -> None:
        """Record a grant. Raises ValueError for a lease that is there, or a size out of range."""
        self._record(claim, restored=False)

    def restore(self, claim: Claim) -> None:
        """Record a grant of an earlier run: what its processes use already is not growth."""
        self._record(claim, restored=True)

    def rebind(self, lease: str, holder: str) -> None:
        """Let the lease count for another holder.

        The processes of a holder that is left without a lease on a GPU go along. Raises KeyError
        for a lease that is not there.
        """
        claim = self._claims[lease]
        for uuid in claim.reserved:
            self._accounts[uuid].rebind(lease, holder)

    def presence(
        self, holder: str | None, pids: Collection[int], *, may_move: bool = False
    ) -> Presence:
        """Return where a future holder is already: `pids` that are nobody's, and `holder`'s own."""
        found = {uuid: each.own_bytes(holder, pids) for uuid, each in self._accounts.items()}
        return Presence(
            foreign_bytes={uuid: foreign for uuid, (foreign, _) in found.items() if foreign},
            beyond_bytes={uuid: beyond for uuid, (_, beyond) in found.items() if beyond},
            used=tuple(
                sorted(
                    (
                        uuid
                        for uuid, account in self._accounts.items()
                        if account.is_used_without_lease(holder, pids)
                    ),
                    key=lambda uuid: -sum(found[uuid]),
                )
            ),
            may_move=may_move,
        )

    def adopt(self, holder: str, pids: Collection[int]) -> None:
        """Let processes that were nobody's in the last passes count for the holder at once.

        What they use has counted as foreign; it would count twice until the next pass otherwise.
        """
        if pids:
            for account in self._accounts.values():
                account.adopt(holder, pids)

    def ready(self, lease: str) -> None:
        """Take it that the lease has grown: what it uses now is what it will use."""
        for uuid in self._claims[lease].reserved:
            self._accounts[uuid].ready(lease)

    def raise_reserve(self, lease: str, uuid: str, reserved_bytes: int) -> None:
        """Let the lease reserve more on one of its GPUs: what its holder is seen to use there."""
        self._accounts[uuid].raise_reserve(lease, reserved_bytes)

    def release(self, lease: str) -> None:
        """End a claim. Its VRAM stays spoken for until a later pass shows it free. Idempotent."""
        claim = self._claims.pop(lease, None)
        if claim is None:
            return
        now_ns = self._clock()
        for uuid in claim.reserved:
            self._accounts[uuid].release(lease, now_ns)

    def disown(self, holder: str) -> None:
        """Count what a holder without any lease uses as foreign, before the next pass does."""
        for account in self._accounts.values():
            account.disown(holder)

    def part(self, holder: str, pids: Collection[int]) -> None:
        """Count as foreign what a holder has lost with a lease, before the next pass does."""
        for account in self._accounts.values():
            account.part(holder, pids)

    def split(self, holder: str, new: str, leases: Collection[str], pids: Collection[int]) -> None:
        """Let some of a holder's leases, and these processes, count for a new one.

        What both use is told apart at once: together they are spoken for as much as before, or
        more. Raises KeyError for a lease that is not there.
        """
        for account in self._accounts.values():
            account.part(holder, pids, to=new)
        for lease in leases:
            for uuid in self._claims[lease].reserved:
                self._accounts[uuid].rebind(lease, new, with_processes=False)

    def observe(
        self, snapshot: Snapshot, holder_of: Callable[[int], str | None]
    ) -> list[LedgerNotice]:
        """Take in the passes that are new, and say what they show. Cheap when none is."""
        now_ns = self._clock()
        self._forget_all_but(snapshot)
        self._unreadable = {view.uuid for view in snapshot.gpus if view.status != "ok"}
        notices: list[LedgerNotice] = []
        for view in snapshot.gpus:
            notices += self._account(view.uuid).observe(view, holder_of, now_ns)
        return notices

    def capacities(self, snapshot: Snapshot) -> list[Capacity]:
        """Return every GPU's capacity, by the last pass observed; without one it is `settling`."""
        return [self._account(view.uuid).capacity(view) for view in snapshot.gpus]

    def actual(self, holder: str, uuid: str) -> int | None:
        """Return what the holder's processes use on the GPU; None before a pass can show it."""
        account = self._accounts.get(uuid)
        return account.actual_bytes(holder) if account is not None else None

    def is_estimated(self, holder: str, uuid: str) -> bool:
        """Tell whether `actual` is an estimate, as the driver does not give it by process."""
        account = self._accounts.get(uuid)
        return account is not None and account.is_hidden(holder)

    def is_growing(self, lease: str) -> bool:
        """Tell whether the lease still grows on any of its GPUs, so that nothing else starts."""
        claim = self._claims.get(lease)
        if claim is None:
            return False
        return any(self._accounts[uuid].is_growing(lease) for uuid in claim.reserved)

    @property
    def awaits_pass(self) -> bool:
        """Whether a new pass would change something: a return, growth, or a grant not yet seen.

        A GPU that does not answer is not waited for: when it does again is told.
        """
        return any(
            account.awaits_pass
            for uuid, account in self._accounts.items()
            if uuid not in self._unreadable
        )

    def overcommitted(self) -> list[LedgerNotice]:
        """Return the notices of the GPUs that are overcommitted now."""
        standing = (account.overcommit for account in self._accounts.values())
        return [notice for notice in standing if notice is not None]

    def _record(self, claim: Claim, *, restored: bool) -> None:
        if claim.lease in self._claims:
            raise ValueError(f"cannot claim {claim.lease} twice")
        if not claim.reserved or not all(
            0 < size <= MAX_VRAM_BYTES for size in claim.reserved.values()
        ):
            raise ValueError(f"cannot claim {claim.reserved} for {claim.lease}: size out of range")
        self._claims[claim.lease] = claim
        now_ns = self._clock()
        for uuid, size in claim.reserved.items():
            self._account(uuid).claim(
                claim.lease,
                claim.holder,
                size,
                exclusive=claim.exclusive,
                sizes_itself=claim.sizes_itself and uuid not in claim.grown_on,
                restored=restored,
                now_ns=now_ns if claim.granted_ns is None else claim.granted_ns,
                model=claim.model,
                uid=claim.uid,
            )

    def _forget_all_but(self, snapshot: Snapshot) -> None:
        """Drop the accounts of MIG instances that are gone: no pass will settle them any more."""
        if len(self._accounts) <= len(snapshot.gpus):
            return
        there = {view.uuid for view in snapshot.gpus}
        there.update(uuid for claim in self._claims.values() for uuid in claim.reserved)
        self._accounts = {u: account for u, account in self._accounts.items() if u in there}

    def _account(self, uuid: str) -> GpuAccount:
        account = self._accounts.get(uuid)
        if account is None:
            account = self._accounts[uuid] = GpuAccount(
                uuid=uuid,
                reserve_bytes=self._reserve_by_gpu.get(uuid, self._reserve_bytes),
                born_ns=self._born_ns,
                return_timeout_ns=self._return_timeout_ns,
                growing_timeout_ns=self._growing_timeout_ns,
            )
        return account
