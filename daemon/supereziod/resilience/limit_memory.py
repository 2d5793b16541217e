"""What all limits are to remember over a restart, as one document.

Each limit has a snapshot of its limiter (see `limiter_snapshot`); what is said of the process they
come from is said once.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from superezio.resilience.limiter_snapshot import BudgetState, Restart, Snapshot
from superezio.wire import LimitRates
from supereziod.resilience.sharing import Owned


class KeptLimit(Struct, frozen=True, kw_only=True):
    """What one limit owes; of a private one, its rates too."""

    owner: int | None
    name: str
    rates: LimitRates | None
    budgets: list[BudgetState]


class KeptLimits(Struct, frozen=True, kw_only=True):
    """What all limits of a process owe at `taken_ns` of its boot: see `Snapshot`."""

    boot_id: str
    taken_ns: int
    final: bool
    currency: str
    empty_at_ns: int | None
    limits: list[KeptLimit]


#: Why it is not known what was left.
Unknown = Literal["sudden_end", "another_boot", "lost"]


class Remembered:
    """What is known of the process before, until each limit has asked for its part.

    `is_lost`: there may have been something, and it cannot be read. Nothing is there then to begin
    with, for anybody. `unknown` says why this life of the daemon begins so, if it does.
    `ended_in_order`: no life has come after what `body` says, where that is final.
    """

    def __init__(
        self,
        body: bytes | None,
        *,
        is_lost: bool,
        now_ns: int,
        boot_id: str,
        currency: str,
        ended_in_order: bool = True,
    ) -> None:
        self.is_lost = is_lost
        self._ended_in_order = ended_in_order
        self._now_ns = now_ns
        self._boot_id = boot_id
        self._currency = currency
        self._restarts: dict[Owned, Restart] = {}
        self.rates: dict[Owned, LimitRates] = {}
        self.empty_at_ns: int | None = now_ns if is_lost else None
        self.unknown: Unknown | None = "lost" if is_lost else None
        if body is not None:
            self._read(body)

    def take(self, owned: Owned) -> Restart | None:
        """Return what a limit has to begin with: None where it has all."""
        self.rates.pop(owned, None)
        restart = self._restarts.pop(owned, None)
        if restart is None and self.empty_at_ns is not None:
            restart = self._restart([], taken_ns=self._now_ns, final=True)
        return restart

    def not_taken(self) -> list[tuple[Owned, LimitRates | None, list[BudgetState]]]:
        """Return limits that nobody has asked for yet, their rates, and what they owed."""
        return [
            (owned, self.rates.get(owned), restart.not_applied())
            for owned, restart in self._restarts.items()
        ]

    def _read(self, body: bytes) -> None:
        try:
            kept = msgspec.json.decode(body, type=KeptLimits)
            if kept.currency != self._currency:
                raise ValueError(f"it counts money in {kept.currency}")
        except (ValueError, msgspec.MsgspecError):
            self.is_lost = True
            self.empty_at_ns = self._now_ns
            self.unknown = "lost"
            return
        same_boot = kept.boot_id == self._boot_id and kept.taken_ns <= self._now_ns
        final = kept.final and self._ended_in_order
        if not (same_boot and final):
            self.empty_at_ns = self._now_ns
            self.unknown = self.unknown or ("sudden_end" if same_boot else "another_boot")
        elif not self.is_lost:
            self.empty_at_ns = kept.empty_at_ns
        for each in kept.limits:
            owned = Owned(each.owner, each.name)
            snapshot = self._snapshot(each.budgets, taken_ns=kept.taken_ns, final=final)
            snapshot = replace(snapshot, boot_id=kept.boot_id, empty_at_ns=kept.empty_at_ns)
            self._restarts[owned] = Restart(snapshot, now_ns=self._now_ns, boot_id=self._boot_id)
            if each.rates is not None:
                self.rates[owned] = each.rates

    def _restart(self, budgets: list[BudgetState], *, taken_ns: int, final: bool) -> Restart:
        snapshot = self._snapshot(budgets, taken_ns=taken_ns, final=final)
        return Restart(snapshot, now_ns=self._now_ns, boot_id=self._boot_id)

    def _snapshot(self, budgets: list[BudgetState], *, taken_ns: int, final: bool) -> Snapshot:
        return Snapshot(
            boot_id=self._boot_id,
            taken_ns=taken_ns,
            final=final,
            currency=self._currency,
            budgets=budgets,
            empty_at_ns=self.empty_at_ns,
        )


def is_owed(state: BudgetState, now_ns: int) -> bool:
    """Whether something is, of a scope that may be asked for again."""
    if state.scope.kind == "session":
        return False
    until_ns = max((*state.tats_ns.values(), *state.blocks_ns.values(), state.blocked_until_ns))
    return until_ns > now_ns
