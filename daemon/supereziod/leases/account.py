"""One GPU's account: who has what of its VRAM, judged by one pass at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from supereziod.gpu.hardware import Block, GpuView
from supereziod.leases.capacity import Capacity, Model, capability_of
from supereziod.leases.estimates import Estimates
from supereziod.leases.growth import Sizing
from supereziod.leases.notices import LedgerNotice, Overcommit, notice, overrun_notice
from supereziod.leases.returns import Return, Returns
from supereziod.leases.shares import Part, Pass, Share

_SETTLING = Block(code="settling", message="no pass has shown yet what is in use on it")
_BLIND = Block(code="memory_unknown", message="the driver gives no memory figures for it")


class GpuAccount:
    """The claims on one GPU and the newest pass that they are judged by.

    Between passes the figures of the last one stand: a new grant counts with what it reserved, a
    release frees nothing.
    """

    def __init__(
        self,
        *,
        uuid: str,
        reserve_bytes: int,
        born_ns: int,
        return_timeout_ns: int,
        growing_timeout_ns: int,
    ) -> None:
        self._uuid = uuid
        self._reserve_bytes = reserve_bytes
        self._seen_ns = born_ns - 1
        self._return_timeout_ns = return_timeout_ns
        self._growing_timeout_ns = growing_timeout_ns
        self._pass: Pass | None = None
        self._blind = False
        #: MIG is on: whatever is used here is used, and counted, on one of its instances.
        self._cut_up = False
        self._parts: dict[str, Part] = {}
        self._shares: dict[str, Share] = {}
        self._returns = Returns()
        self._estimates = Estimates(
            self._parts, self._shares, self._returns, growing_timeout_ns=growing_timeout_ns
        )
        self._overcommit = Overcommit()
        self._capacity: tuple[GpuView, Capacity] | None = None

    # --- claims ---------------------------------------------------------------------------------

    def claim(
        self,
        lease: str,
        holder: str,
        reserved_bytes: int,
        *,
        exclusive: bool,
        sizes_itself: bool,
        restored: bool,
        now_ns: int,
        model: Model | None = None,
        uid: int | None = None,
    ) -> None:
        """Reserve, as granted at `now_ns`. A `restored` lease may use already what a pass shows."""
        growth = self._estimates.begin(
            self._pass, reserved_bytes=reserved_bytes, restored=restored, now_ns=now_ns
        )
        share = self._share(holder, since_ns=now_ns)
        part = Part(
            lease=lease,
            holder=holder,
            reserved_bytes=reserved_bytes,
            exclusive=exclusive,
            growth=growth,
            sizing=Sizing(
                reserved_bytes=reserved_bytes,
                base_bytes=0 if restored else share.actual_bytes,
                started_ns=now_ns,
            )
            if sizes_itself
            else None,
            model=model,
            uid=uid,
        )
        self._parts[lease] = part
        share.add(part)
        self._capacity = None

    def rebind(self, lease: str, holder: str, *, with_processes: bool = True) -> None:
        """Let the lease count for another holder; with its last, that gets the processes, too."""
        part = self._parts[lease]
        if part.holder == holder:
            return
        old = self._shares[part.holder]
        new = self._share(holder, since_ns=old.since_ns)
        used_bytes = old.actual_bytes
        old.drop(part)
        new.add(part)
        if part.sizing is not None:
            part.sizing.base_bytes += new.actual_bytes - used_bytes
        new.shown = new.shown or old.shown
        if not old.parts and with_processes:
            new.shift(old.measured_bytes)
            new.hidden = new.hidden or old.hidden
            if self._pass is not None:
                for pid in self._pids_of(part.holder):
                    self._pass.owners[pid] = holder
            del self._shares[part.holder]
        else:
            self._drop_if_gone(part.holder)
        part.holder = holder
        self._capacity = None

    def adopt(self, holder: str, pids: Iterable[int]) -> None:
        """Let processes that were nobody's in the last pass be the holder's in it."""
        strangers = self._strangers(pids)
        if self._pass is not None:
            self._estimates.adopt(self._pass, holder, strangers)
        for pid in strangers:
            used = self._pass.uses[pid] if self._pass is not None else None
            if self._pass is None or used is None:
                continue  # the next pass says what can be told of it
            self._pass.owners[pid] = holder
            share = self._share(holder, since_ns=self._pass.taken_ns)
            share.measured_bytes += used
            share.shown = True
        self._capacity = None

    def raise_reserve(self, lease: str, reserved_bytes: int) -> None:
        """Let the lease reserve more than it was granted: what its holder uses."""
        part = self._parts[lease]
        self._shares[part.holder].raise_reserve(part, reserved_bytes)
        self._capacity = None

    def ready(self, lease: str) -> None:
        """Take it that the lease has grown."""
        part = self._parts[lease]
        part.sizing = None
        part.growth.has_grown = True
        self._capacity = None

    def release(self, lease: str, now_ns: int) -> None:
        """End the lease; what it took from others stays taken until a later pass shows it free."""
        part = self._parts[lease]
        self._estimates.leave(self._pass, part)
        del self._parts[lease]
        share = self._shares[part.holder]
        spoken, actual = share.spoken_bytes, share.actual_bytes
        pids: frozenset[int] = frozenset()
        share.drop(part)
        if share.parts:
            spoken -= share.spoken_bytes
            actual -= share.actual_bytes
        else:
            pids = self._pids_of(part.holder)
            del self._shares[part.holder]
            if self._pass is not None:
                self._pass.owners.update(dict.fromkeys(pids))
        self._returns.add(
            Return(
                lease=lease,
                held_bytes=spoken,
                expected_bytes=actual,
                residual_bytes=actual,
                found_bytes=actual,
                pids=pids,
                released_ns=now_ns,
            )
        )
        self._capacity = None

    def disown(self, holder: str) -> None:
        """Let the processes of a holder that has no lease any more be nobody's."""
        share = self._shares.get(holder)
        if share is not None and not share.parts:
            if self._pass is not None:
                self._pass.owners.update(dict.fromkeys(self._pids_of(holder)))
            del self._shares[holder]
            self._capacity = None

    def part(self, holder: str, pids: Iterable[int], *, to: str | None = None) -> None:
        """Let processes that the holder has lost be nobody's, or another holder's."""
        if self._pass is None:
            return
        for pid in self._pids_of(holder).intersection(pids):
            used = self._pass.uses[pid]
            self._pass.owners[pid] = to
            self._shares[holder].shift(-(used or 0))
            if to is not None:
                share = self._share(to, since_ns=self._shares[holder].since_ns)
                share.shift(used or 0)
                share.hidden = share.hidden or used is None
                share.shown = True
        self._drop_if_gone(holder)
        self._capacity = None

    # --- passes ---------------------------------------------------------------------------------

    def observe(
        self, view: GpuView, holder_of: Callable[[int], str | None], now_ns: int
    ) -> list[LedgerNotice]:
        """Take in the view's last pass, if it is new, and say what it shows."""
        sample = view.last_pass
        if sample is None or sample.processes is None or sample.taken_ns <= self._seen_ns:
            return []
        self._seen_ns = sample.taken_ns
        self._capacity = None
        self._cut_up = view.is_cut_up
        taken = Pass.of(view, holder_of)
        self._blind = taken is None
        if taken is None:
            return []
        self._pass = taken
        growing = [part for part in self._parts.values() if part.is_growing]
        self._attribute(taken)
        self._estimates.observe(taken, now_ns)
        self._follow_sizing(taken, now_ns)
        notices = [
            notice("grown", view, lease=part.lease) for part in growing if not part.is_growing
        ]
        notices += self._settle_returns(taken, view)
        notices += self._note_overruns(taken, view)
        free = self._free_bytes(taken, self._foreign_bytes(taken), self._spoken_bytes())
        if view.is_cut_up:
            free = 0  # its VRAM is spoken for on its MIG instances
        change = self._overcommit.weigh(view, taken.uses, free)
        return notices if change is None else [*notices, change]

    def _attribute(self, taken: Pass) -> None:
        """Give every holder what its processes use, and nothing to holders that have none."""
        for share in self._shares.values():
            share.measured_bytes = 0
            share.hidden = False
            share.shown = share.shown or taken.taken_ns > share.since_ns
        for pid, used in taken.uses.items():
            holder = taken.owners[pid]
            if holder is None:
                continue
            share = self._share(holder, since_ns=taken.taken_ns - 1)
            share.shown = share.shown or taken.taken_ns > share.since_ns
            share.hidden = share.hidden or used is None
            share.measured_bytes += used or 0
        present = set(taken.owners.values())
        for holder in [h for h, share in self._shares.items() if not share.parts]:
            if holder not in present:
                del self._shares[holder]

    def _follow_sizing(self, taken: Pass, now_ns: int) -> None:
        for part in self._parts.values():
            if part.sizing is not None:
                part.sizing.follow(self._shares[part.holder].actual_bytes, taken.taken_ns)
                if part.sizing.is_done(now_ns, timeout_ns=self._growing_timeout_ns):
                    part.sizing = None

    def _settle_returns(self, taken: Pass, view: GpuView) -> Iterator[LedgerNotice]:
        """Drop the releases whose VRAM a later pass shows free, or still used after its time."""
        settled = self._returns.settled(taken.taken_ns, timeout_ns=self._return_timeout_ns)
        for release in settled:
            self._estimates.settle(taken, release)
            yield notice(
                "returned" if release.is_back else "unreturned",
                view,
                lease=release.lease,
                amount_bytes=release.residual_bytes,
            )

    def _note_overruns(self, taken: Pass, view: GpuView) -> Iterator[LedgerNotice]:
        """Tell who uses more than is reserved: its newest lease here has to reserve that, too."""
        for holder, share in self._shares.items():
            if not share.overruns(taken.taken_ns):
                continue
            newest = [part for part in self._parts.values() if part.holder == holder][-1]
            yield overrun_notice(
                view,
                lease=newest.lease,
                lease_bytes=newest.reserved_bytes + share.measured_bytes - share.reserved_bytes,
                actual_bytes=share.measured_bytes,
                reserved_bytes=share.reserved_bytes,
                again=share.overrun.told,
            )
            share.overrun.told = True

    # --- figures --------------------------------------------------------------------------------

    def capacity(self, view: GpuView) -> Capacity:
        """Return what the GPU can admit, by the last pass."""
        if self._capacity is not None and self._capacity[0] is view:
            return self._capacity[1]
        capacity = self._weigh_capacity(view)
        self._capacity = view, capacity
        return capacity

    def _weigh_capacity(self, view: GpuView) -> Capacity:
        taken, sample = None if self._blind else self._pass, view.sample
        block = view.block
        if block is None and self._blind:
            block = _BLIND
        elif block is None and (taken is None or view.last_pass is None):
            block = _SETTLING
        spoken = self._spoken_bytes()
        foreign = free = 0
        total, driver = view.identity.vram_total_bytes or 0, 0
        if taken is not None:
            total, driver = taken.total_bytes, taken.driver_reserved_bytes
            foreign = self._foreign_bytes(taken)
            free = self._free_bytes(taken, foreign, spoken)
        parts = self._parts.values()
        return Capacity(
            uuid=self._uuid,
            index=view.identity.index,
            name=view.identity.name,
            largest_bytes=max(0, total - driver - self._reserve_bytes),
            free_bytes=free,
            foreign_bytes=foreign,
            reserved_bytes=sum(part.reserved_bytes for part in parts) if view.is_cut_up else spoken,
            returning_bytes=self._returns.spoken_bytes,
            utilization_core_percent=None if sample is None else sample.utilization_core_percent,
            margin_c=None if sample is None else sample.margin_c,
            leases=len(parts),
            exclusive=True in [part.exclusive for part in parts],
            growing=True in [part.is_growing for part in parts],
            warm=view.level == "warm",
            block=block,
            compute_mode=None if view.details is None else view.details.compute_mode,
            processes=_listed(view),
            capability=capability_of(view.identity.compute_capability),
            drives_display=None if view.details is None else view.details.drives_display,
            models=frozenset(part.model for part in parts if part.model is not None),
            mig_index=None if view.identity.mig is None else view.identity.mig.index,
            claims_bytes=tuple([part.reserved_bytes for part in parts]),
            one_at_a_time=self._estimates.opaque,
            claim_uids=tuple([part.uid for part in parts]),
        )

    def _foreign_bytes(self, taken: Pass) -> int:
        actual = sum([share.actual_bytes for share in self._shares.values()])
        return max(0, taken.used_bytes - actual - self._returns.residual_bytes)

    def _spoken_bytes(self) -> int:
        holders = sum([share.spoken_bytes for share in self._shares.values()])
        return holders + self._returns.spoken_bytes

    def _free_bytes(self, taken: Pass, foreign_bytes: int, spoken_bytes: int) -> int:
        admissible = taken.total_bytes - taken.driver_reserved_bytes - self._reserve_bytes
        return admissible - foreign_bytes - spoken_bytes

    @property
    def overcommit(self) -> LedgerNotice | None:
        """The notice that stands while more is spoken for than there is."""
        return self._overcommit.standing

    def own_bytes(self, holder: str | None, pids: Iterable[int]) -> tuple[int, int]:
        """Return what of a new lease is in use already: as foreign, and beyond its reserve."""
        if self._cut_up:
            return 0, 0
        share = self._shares.get(holder) if holder is not None else None
        beyond = share.spoken_bytes - share.reserved_bytes if share is not None else 0
        if self._pass is None or self._blind:
            return 0, beyond
        strangers = self._strangers(pids)
        used = sum(self._pass.uses[pid] or 0 for pid in strangers)
        used += self._estimates.untold_bytes(self._pass, strangers)
        return min(used, self._foreign_bytes(self._pass)), beyond

    def is_used_without_lease(self, holder: str | None, pids: Iterable[int]) -> bool:
        """Tell whether these processes, or the holder, are here without a lease."""
        if self._cut_up:
            return False
        share = self._shares.get(holder) if holder is not None else None
        if share is not None and not share.parts:
            return True
        owners = self._pass.owners if self._pass is not None else {}
        return any(pid in owners and owners[pid] is None for pid in pids)

    def actual_bytes(self, holder: str) -> int | None:
        """Return what the holder's processes use here; None before a pass can show it."""
        share = self._shares.get(holder)
        return share.actual_bytes if share is not None and share.shown else None

    def is_hidden(self, holder: str) -> bool:
        """Tell whether that figure has to be estimated."""
        share = self._shares.get(holder)
        return share is not None and share.hidden

    def is_growing(self, lease: str) -> bool:
        """Tell whether the lease is here, and still grows."""
        part = self._parts.get(lease)
        return part is not None and part.is_growing

    @property
    def awaits_pass(self) -> bool:
        """Whether a new pass would change what can be admitted or told."""
        return (
            bool(self._returns)
            or any(not share.shown for share in self._shares.values())
            or any(part.is_growing for part in self._parts.values())
        )

    # --- parts of the sums ----------------------------------------------------------------------

    def _share(self, holder: str, *, since_ns: int) -> Share:
        share = self._shares.get(holder)
        if share is None:
            share = self._shares[holder] = Share(parts={}, since_ns=since_ns)
        return share

    def _drop_if_gone(self, holder: str) -> None:
        """Forget a holder that has neither a lease nor a process here any more."""
        share = self._shares.get(holder)
        if share is not None and not share.parts and not self._pids_of(holder):
            del self._shares[holder]

    def _pids_of(self, holder: str) -> frozenset[int]:
        if self._pass is None:
            return frozenset()
        return frozenset(pid for pid, owner in self._pass.owners.items() if owner == holder)

    def _strangers(self, pids: Iterable[int]) -> list[int]:
        """Return those that are nobody's here. What is on its way back is counted as that."""
        if self._pass is None:
            return []
        owners = self._pass.owners
        mine = [pid for pid in pids if pid in owners and owners[pid] is None]
        return [pid for pid in mine if pid not in self._returns.pids]


def _listed(view: GpuView) -> int | None:
    """Return how many processes use the GPU; None where the driver does not list them."""
    sample = view.last_pass
    if sample is None or sample.processes is None or not sample.processes_listed:
        return None
    return len(sample.processes)
