"""What of a limiter outlives a restart, so that none gives anybody a fresh burst.

A snapshot that was the last thing a process did says all. Within one boot the monotonic clock
goes on, and so does a debt then: it is paid back while the process is down, no sooner and no later.

In every other case something is not known: what was granted between the last snapshot and a sudden
end, or how long ago another boot was (its clock is gone, and the wall clock may have jumped). Any
budget may have been spent to the last unit then, those too that were full in the snapshot. So each
rate is as though it was empty when the process started, and grows at its own pace from there; a
debt beyond the burst stays, and a block goes on with what was left of it.

Slots are not kept: who held one held it over a connection to the process that is gone. Money of a
day or month is written down before it is granted (see `spend_cap`).
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from superezio.resilience.budget import Budget
from superezio.resilience.limits import Dimension, Scope


class BudgetState(Struct, frozen=True, kw_only=True):
    """What one scope owes: the theoretical arrival times, and until when the far side blocks.

    A block of what takes of one dimension stands under its name, that of everything apart.
    """

    scope: Scope
    tats_ns: dict[Dimension, int]
    blocks_ns: dict[Dimension, int]
    blocked_until_ns: int = 0


class Snapshot(Struct, frozen=True, kw_only=True):
    """What all scopes owe at `taken_ns` of the monotonic clock of that boot.

    `final`: nothing was granted after it. Rates that are not in it were full, or are as though
    they were empty at `empty_at_ns`, where that is set.
    """

    boot_id: str
    taken_ns: int
    final: bool
    currency: str
    budgets: list[BudgetState]
    empty_at_ns: int | None = None


class Restart:
    """What the budgets of a process owe that begins at `now_ns`, after another one.

    `snapshot` is the last that was saved: None where it is lost, but there may have been one.
    """

    def __init__(self, snapshot: Snapshot | None, *, now_ns: int, boot_id: str) -> None:
        self.currency = snapshot.currency if snapshot else None
        self.empty_at_ns: int | None = now_ns
        self._states: dict[Scope, BudgetState] = {}
        self._is_exact = False
        if snapshot is None:
            return
        # A clock that is behind the snapshot's is another boot's, whatever the id says.
        same_boot = boot_id == snapshot.boot_id and snapshot.taken_ns <= now_ns
        self._is_exact = same_boot and snapshot.final
        if self._is_exact:
            self.empty_at_ns = snapshot.empty_at_ns
        for state in snapshot.budgets:
            self._states[state.scope] = (
                state if same_boot else _of_this_boot(state, now_ns - snapshot.taken_ns)
            )

    def apply(self, budget: Budget, now_ns: int) -> None:
        """Let a new budget owe what it owes."""
        state = self._states.pop(budget.scope, None)
        tats_ns = state.tats_ns if state else {}
        for dimension, rate in budget.rates().items():
            if self.empty_at_ns is not None and not (self._is_exact and dimension in tats_ns):
                rate.lower(self.empty_at_ns, 0)
            rate.tat_ns = max(rate.tat_ns, tats_ns.get(dimension, 0))
        if state is not None:
            budget.block(now_ns, state.blocked_until_ns - now_ns)
            for dimension, until_ns in state.blocks_ns.items():
                budget.block(now_ns, until_ns - now_ns, dimension)

    def not_applied(self) -> list[BudgetState]:
        """Return what scopes owe that were not asked for yet."""
        return list(self._states.values())


def state_of(budget: Budget) -> BudgetState:
    """Return what is to be kept of `budget`."""
    blocks = budget.blocks()
    return BudgetState(
        scope=budget.scope,
        tats_ns={dimension: rate.tat_ns for dimension, rate in budget.rates().items()},
        blocks_ns={dimension: until for dimension, until in blocks.items() if dimension},
        blocked_until_ns=blocks.get(None, 0),
    )


def _of_this_boot(state: BudgetState, later_ns: int) -> BudgetState:
    """Return `state` by this boot's clock, as if no time had passed between the two.

    A debt beyond the burst stays so as it was, and a block has still to run what it had to run.
    """
    return replace(
        state,
        tats_ns={dimension: tat + later_ns for dimension, tat in state.tats_ns.items()},
        blocks_ns={dimension: until + later_ns for dimension, until in state.blocks_ns.items()},
        blocked_until_ns=state.blocked_until_ns + later_ns,
    )
