"""What the ledger tells of: releases that came back or did not, growth, and overcommitment."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from superezio.quantities import format_size
from supereziod.gpu.hardware import GpuView

NoticeKind = Literal[
    "returned", "unreturned", "overcommitted", "overcommit_over", "grown", "overrun"
]


class LedgerNotice(Struct, frozen=True, kw_only=True):
    """Something a pass showed.

    returned / unreturned: VRAM of the released `lease` is back on `uuid`, or is not after the
    time for it (`amount_bytes`: what is still used). overcommitted: more is spoken for than there
    is, by `amount_bytes`; `pids` grew since it last was not. overcommit_over: it fits again.
    grown: the use of `lease` is known or stable, and other leases may start on the GPU.
    overrun: the holder of `lease`, its newest there, uses `amount_bytes` and has reserved
    `reserved_bytes`; it has reserved what it uses once this lease has `lease_bytes`. Told at each
    pass as long as that is so, with `again` after the first.
    """

    kind: NoticeKind
    uuid: str
    message: str
    lease: str | None = None
    amount_bytes: int = 0
    pids: tuple[int, ...] = ()
    reserved_bytes: int = 0
    lease_bytes: int = 0
    again: bool = False


class Overcommit:
    """Whether more is spoken for on one GPU than there is, and whose growth made it so."""

    def __init__(self) -> None:
        self._calm_uses: dict[int, int | None] = {}
        self.standing: LedgerNotice | None = None

    def weigh(
        self, view: GpuView, uses: dict[int, int | None], free_bytes: int
    ) -> LedgerNotice | None:
        """Take in a pass; return what changed with it, if anything."""
        was = self.standing
        if free_bytes >= 0:
            self._calm_uses = uses
            self.standing = None
            return None if was is None else notice("overcommit_over", view)
        pids = self._grown_pids(uses) if was is None else was.pids
        self.standing = notice("overcommitted", view, amount_bytes=-free_bytes, pids=pids)
        return self.standing if was is None else None

    def _grown_pids(self, uses: dict[int, int | None]) -> tuple[int, ...]:
        """Return the pids that use more than when all still fitted, most grown first."""
        grown: list[tuple[int, int]] = []
        for pid, used in uses.items():
            if used is None:
                if pid not in self._calm_uses:
                    grown.append((0, pid))
                continue
            growth = used - (self._calm_uses.get(pid) or 0)
            if growth > 0:
                grown.append((-growth, pid))
        return tuple(pid for _, pid in sorted(grown))


def notice(
    kind: NoticeKind,
    view: GpuView,
    *,
    lease: str | None = None,
    amount_bytes: int = 0,
    pids: tuple[int, ...] = (),
) -> LedgerNotice:
    """Return the notice with its sentence."""
    amount = format_size(amount_bytes)
    if kind == "returned":
        message = f"the VRAM of lease {lease} is free again"
    elif kind == "unreturned":
        message = f"{amount} of released lease {lease} are still in use"
    elif kind == "overcommitted":
        message = f"{amount} more are spoken for than there are"
        if pids:
            message += f"; grown: pid {', '.join(map(str, pids))}"
    elif kind == "overcommit_over":
        message = "what is spoken for fits again"
    else:
        message = f"lease {lease} has grown, and the next may start"
    return LedgerNotice(
        kind=kind,
        uuid=view.uuid,
        message=f"{view.identity.label}: {message}",
        lease=lease,
        amount_bytes=amount_bytes,
        pids=pids,
    )


def overrun_notice(
    view: GpuView,
    *,
    lease: str,
    lease_bytes: int,
    actual_bytes: int,
    reserved_bytes: int,
    again: bool,
) -> LedgerNotice:
    """Return the notice of an overrun with its sentence."""
    used, reserved = format_size(actual_bytes), format_size(reserved_bytes)
    return LedgerNotice(
        kind="overrun",
        uuid=view.uuid,
        message=f"{view.identity.label}: the holder of lease {lease}"
        f" uses {used}, and has reserved {reserved}",
        lease=lease,
        amount_bytes=actual_bytes,
        reserved_bytes=reserved_bytes,
        lease_bytes=lease_bytes,
        again=again,
    )
