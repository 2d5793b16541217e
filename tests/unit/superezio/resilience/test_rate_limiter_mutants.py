"""The tests of the rate limiter see each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
GCRA = "superezio.resilience.gcra"
BUDGET = "superezio.resilience.budget"
LIMITER = "superezio.resilience.rate_limiter"
WAITING = "superezio.resilience.waiting"
SNAPSHOT = "superezio.resilience.limiter_snapshot"
CAP = "superezio.resilience.spend_cap"


def judges(mutant: Mutant) -> tuple[Path, ...]:
    if mutant.module == CAP:
        return (HERE / "test_spend_cap.py",)
    if mutant.module == SNAPSHOT:
        return (HERE / "test_limiter_snapshot.py",)
    examples = HERE / "test_rate_limiter.py"
    if mutant in EXAMPLES:
        return (examples,)
    return (HERE / "test_rate_limiter_model.py", examples)


#: What the model leaves open, and examples hold.
EXAMPLES = (
    Mutant(
        "looks at all who wait with each settlement",
        LIMITER,
        "            if budget.claims and budget.is_short_of(cost, used):\n",
        "            if budget:\n",
    ),
    Mutant(
        "looks at nobody where a slot is free that one is short of",
        BUDGET,
        "(reserved[index] if index == CONCURRENCY else reserved[index] > used[index])",
        "reserved[index] > used[index]",
    ),
    Mutant(
        "looks at all when one leaves who was not the first",
        LIMITER,
        "        if is_first:\n",
        "        if waiter:\n",
    ),
    Mutant(
        "sweeps the same budgets again and again",
        LIMITER,
        "            budget = self._budgets.pop(scope)\n"
        "            if budget.is_idle(now_ns):\n"
        "                forgotten.append(scope)\n"
        "            else:\n"
        "                self._budgets[scope] = budget\n",
        "            if self._budgets[scope].is_idle(now_ns):\n"
        "                forgotten.append(scope)\n"
        "                del self._budgets[scope]\n",
    ),
    Mutant(
        "looks at one that is kept out again and again",
        BUDGET,
        "max(wait_ns, claim.until_ns - now_ns, 1)",
        "max(wait_ns, 1)",
    ),
    Mutant(
        "keeps nothing for one that needs two busy budgets",
        BUDGET,
        "elif wait_ns <= (rebuild_ns := meter.rebuild_ns(amount)):",
        "elif (rebuild_ns := 0) > wait_ns:",
    ),
    Mutant(
        "keeps everything for one that waits for its own limit",
        BUDGET,
        "elif wait_ns <= (rebuild_ns := meter.rebuild_ns(amount)):",
        "elif wait_ns < (rebuild_ns := 1 << 80):",
    ),
    Mutant(
        "forgets a budget that is in use",
        BUDGET,
        "            not self.users\n            and now_ns",
        "            now_ns",
    ),
    Mutant(
        "leaves a waiter that can never pass waiting",
        LIMITER,
        "            due.hopeless.append((waiter, error))\n            return True",
        "            return error is None",
    ),
    Mutant(
        "grants waiters more reservations than there may be",
        LIMITER,
        "if self._reservations >= self._max_reservations:\n            return False",
        "if self._reservations > self._max_reservations:\n            return False",
    ),
    Mutant(
        "refunds at another rate than it took",
        GCRA,
        "        self.set_rate(limit=limit, burst=burst)\n        self.final_ns = now_ns",
        "        self.set_rate(limit=limit, burst=burst)",
    ),
    Mutant(
        "takes what is reserved as the limit changes for older",
        LIMITER,
        "taken_ns = now_ns if now_ns > self._changed_ns else self._changed_ns + 1",
        "taken_ns = now_ns",
    ),
    Mutant(
        "does not tell two changes of an instant from each other",
        LIMITER,
        "self._changed_ns = max(now_ns, self._changed_ns + 1)",
        "self._changed_ns = now_ns",
    ),
    Mutant(
        "frees the slots of holders when the limit changes",
        BUDGET,
        "        self._slots.retry_ns = limit.slot_retry_ns\n        self._named",
        "        self._slots.in_use = 0\n        self._named",
    ),
)
MUTANTS = (
    Mutant(
        "cuts the emission interval short",
        GCRA,
        "return -(-cost * self._period_ns // self._limit)",
        "return cost * self._period_ns // self._limit",
    ),
    Mutant(
        "lets time that has passed add up beyond the burst",
        GCRA,
        "        self.tat_ns = max(self.tat_ns, now_ns) + self._interval(cost)",
        "        self.tat_ns = self.tat_ns + self._interval(cost)",
    ),
    Mutant(
        "does not push for more than was reserved",
        GCRA,
        "            self.tat_ns = max(self.tat_ns, now_ns) + delta_ns",
        "            self.tat_ns = max(self.tat_ns, now_ns)",
    ),
    Mutant(
        "refunds beyond now",
        GCRA,
        "self.tat_ns = max(self.tat_ns + delta_ns, now_ns)",
        "self.tat_ns = self.tat_ns + delta_ns - self.unit_ns",
    ),
    Mutant(
        "refunds nothing",
        GCRA,
        "self.tat_ns = max(self.tat_ns + delta_ns, now_ns)",
        "pass",
    ),
    Mutant(
        "refunds what a signal had counted",
        GCRA,
        "taken_ns > self.final_ns and self.tat_ns > now_ns",
        "self.tat_ns > now_ns",
    ),
    Mutant(
        "raises the budget at a signal",
        GCRA,
        "if tat_ns > self.tat_ns and tat_ns > now_ns:",
        "if tat_ns > now_ns:",
    ),
    Mutant(
        "leaves one more than the far side has",
        GCRA,
        "left_ns = max(remaining, 0) * self._period_ns",
        "left_ns = max(remaining + 1, 0) * self._period_ns",
    ),
    Mutant(
        "shortens a block",
        BUDGET,
        "if until_ns > max(now_ns, self._blocks.get(index, 0)):",
        "if until_ns > now_ns:",
    ),
    Mutant(
        "believes a Retry-After of a year",
        BUDGET,
        "min(retry_after_ns, self.limit.longest_block_ns)",
        "retry_after_ns",
    ),
    Mutant(
        "lets pass what is blocked",
        BUDGET,
        "            if now_ns < self.blocked_until_ns:\n                return False\n",
        "",
    ),
    Mutant(
        "forgets a block with a new limit",
        BUDGET,
        "if self.blocked_until_ns or self.limit.concurrency is not None:",
        "if self.limit.concurrency is not None:",
    ),
    Mutant(
        "keeps looking at a block that has ended",
        BUDGET,
        "            self._end_blocks()\n        if self.claims:",
        "        if self.claims:",
    ),
    Mutant(
        "waits for more than the burst",
        BUDGET,
        "if amount > meter.burst:\n                raise",
        "if amount > 100 * meter.burst:\n                raise",
    ),
    Mutant(
        "names the first shortage instead of the longest",
        BUDGET,
        "            if short_ns > wait_ns:",
        "            if short_ns > 0 >= wait_ns:",
    ),
    Mutant(
        "names the scope of the first shortage",
        LIMITER,
        "longest is None or shortage.retry_after_ns > longest.retry_after_ns",
        "longest is None",
    ),
    Mutant(
        "checks the first scope only",
        LIMITER,
        "        for budget in budgets:\n            if not budget.admits",
        "        for budget in budgets[:1]:\n            if not budget.admits",
    ),
    Mutant(
        "charges one scope before it checks the next",
        LIMITER,
        "            if not budget.admits(now_ns, cost):\n",
        "            budget.take(now_ns, Cost(0, cost.tokens and 1))\n"
        "            if not budget.admits(now_ns, cost):\n",
    ),
    Mutant(
        "settles twice",
        LIMITER,
        "        reservation.settled = True\n        held = self._open[reservation.holder]\n"
        "        del held[reservation]\n        if not held:\n"
        "            del self._open[reservation.holder]\n        self._reservations -= 1\n",
        "        held = self._open.get(reservation.holder, {})\n"
        "        held.pop(reservation, None)\n        self._reservations = sum(map(len, "
        "self._open.values()))\n",
    ),
    Mutant(
        "keeps the slot of a settled request",
        BUDGET,
        "        self.in_use -= reserved",
        "        self.in_use -= actual",
    ),
    Mutant(
        "keeps the slots of a holder that is gone",
        LIMITER,
        "for reservation in reservations:",
        "for reservation in reservations[1:]:",
    ),
    Mutant(
        "refunds a holder that is gone",
        LIMITER,
        "            self.settle(now_ns, reservation)\n        waiters",
        "            self.settle(now_ns, reservation, Cost(0))\n        waiters",
    ),
    Mutant(
        "lets a newcomer pass the waiters of its key",
        LIMITER,
        "if self._lines and (head := self._lines.head(key)) is not None:",
        "if self._lines and (head := self._lines.head(self)) is not None:",
    ),
    Mutant(
        "lets small ones pass a big one that is short",
        BUDGET,
        "                claim.closed = True",
        "                claim.closed = False",
    ),
    Mutant(
        "serves the last of a key first",
        WAITING,
        "return [next(iter(line.values())) for line in self._lines.values()]",
        "return [next(reversed(line.values())) for line in self._lines.values()]",
    ),
    Mutant(
        "looks at the keys in the order in which they came up",
        LIMITER,
        "heads = [(waiter.number, waiter) for waiter in self._lines.heads()]",
        "heads = [(-waiter.number, waiter) for waiter in self._lines.heads()]",
    ),
    Mutant(
        "grants one whose deadline has passed",
        "superezio.resilience.deadlines",
        "at_ns > now_ns:",
        "at_ns >= now_ns:",
    ),
    Mutant(
        "does not look again after a settle",
        LIMITER,
        "        if helps and self._lines:\n            self._look_again(now_ns)\n",
        "",
    ),
    Mutant(
        "does not look again after a cancel",
        LIMITER,
        "        if is_first:\n            self._look_again(now_ns)\n        return True",
        "        self._gone(waiter)\n        return True",
    ),
    Mutant(
        "looks again too late",
        LIMITER,
        "self._look_again(now_ns + look_ns)",
        "self._look_again(now_ns + 2 * look_ns)",
    ),
    Mutant(
        "gives a fresh burst after a sudden end",
        SNAPSHOT,
        "        self.empty_at_ns: int | None = now_ns",
        "        self.empty_at_ns: int | None = None",
    ),
    Mutant(
        "takes a snapshot that was not the last for exact",
        SNAPSHOT,
        "self._is_exact = same_boot and snapshot.final",
        "self._is_exact = same_boot",
    ),
    Mutant(
        "takes the clock of another boot for this one's",
        SNAPSHOT,
        "boot_id == snapshot.boot_id and snapshot.taken_ns <= now_ns",
        "snapshot.taken_ns <= now_ns",
    ),
    Mutant(
        "forgets the block of a dimension over a restart",
        SNAPSHOT,
        "            for dimension, until_ns in state.blocks_ns.items():",
        "            for dimension, until_ns in dict[Dimension, int]().items():",
    ),
    Mutant(
        "opens a window again when the clock goes back",
        CAP,
        "window.key >= key",
        "window.key == key",
    ),
    Mutant(
        "gives back to a window what was taken of another",
        CAP,
        "if delta > 0 or window.key == key:",
        "if delta:",
    ),
    Mutant(
        "lets a cap be passed by what it has left",
        CAP,
        "spent_micros + (micros or 1) > cap:",
        "spent_micros >= cap:",
    ),
    Mutant(
        "lets what names no cost pass a cap that is reached",
        CAP,
        "spent_micros + (micros or 1) > cap:",
        "spent_micros + micros > cap:",
    ),
)

mutants, test_passes, test_the_tests_notice_a_limiter_that = kept_list(
    (*EXAMPLES, *MUTANTS), tests=judges
)
