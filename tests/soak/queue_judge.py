"""Whether the queue keeps its order and its bounds, and leaves nobody waiting for what is free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from soak.daemon_run import MAX_PASSED, QUEUE, QUEUE_PER_UID
from soak.quota_judge import QuotaJudge
from soak.serving import Serving
from soak.truth import SECOND_NS, Asked, Held, Truth
from superezio.wire import Waiter

#: A timer that is due works within this.
_LATE_NS = SECOND_NS // 10
#: How long a waiter may be left with all it needs free.
_LEFT_WAITING_NS = 8 * SECOND_NS


class _Waits:
    """A waiter: since when, and who was let past it."""

    def __init__(self, asked: Asked, queued_ns: int) -> None:
        self.asked = asked
        self.queued_ns = queued_ns
        self.passed: set[str] = set()


class QueueJudge:
    """Follows who waits since when, and who is served before whom."""

    def __init__(
        self, truth: Truth, *, serving: Serving, quotas: QuotaJudge, counts: Counter[str]
    ) -> None:
        self._truth = truth
        self._serving = serving
        self._quotas = quotas
        self._counts = counts
        self._waiting: dict[str, _Waits] = {}
        self._servable_since: dict[str, int] = {}

    def clear(self) -> None:
        """Nobody waits any more."""
        self._waiting.clear()
        self._servable_since.clear()

    def queued(self, asked: Asked) -> None:
        """One waits from now on."""
        self._waiting[asked.name] = _Waits(asked, self._truth.host.clock.now_ns)

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits."""
        return not self._waiting

    @property
    def waiting(self) -> list[Asked]:
        """Those who wait, as far as is known."""
        return [waits.asked for waits in self._waiting.values()]

    def served(self, held: Held, queue: Callable[[], list[Waiter]]) -> None:
        """Count whom this grant was made before, though they came first."""
        asked, gpus = held.asked, set(held.gpus)
        own = self._waiting.pop(asked.name, None)
        self._check_quota_line(held, own, queue)
        for waits in self._waiting.values():
            if own is not None and own.queued_ns < waits.queued_ns:
                continue
            able = self._serving.kept_for(waits.asked, past=asked) & gpus
            if not able or self._serving.is_somewhere(waits.asked):
                continue
            line = [str(waiter.name) for waiter in queue()]
            if waits.asked.name not in line:
                continue  # it has just given up
            back = self._quotas.held_back(
                [self._waiting[name].asked for name in line if name in self._waiting],
                without=held,
            )
            if waits.asked.name in back:
                self._counts["let past one over its quota"] += 1
                continue
            if not any(self._delays(waits.asked, held, uuid) for uuid in able):
                self._counts["let past"] += 1
                continue
            assert asked.priority > waits.asked.priority, (
                f"{asked.name} was served at the cost of {waits.asked.name}"
            )
            self._let_past(waits, asked)

    def _check_quota_line(
        self, held: Held, own: _Waits | None, queue: Callable[[], list[Waiter]]
    ) -> None:
        """What those ahead wait for of a quota is not given to one behind them."""
        ahead = {
            name
            for name, waits in self._waiting.items()
            if (own is None or waits.queued_ns < own.queued_ns)
            and waits.asked.priority >= held.asked.priority
        }
        if ahead and self._quotas.in_force:
            line = [str(waiter.name) for waiter in queue()]
            self._quotas.check_turn(held, [self._waiting[n].asked for n in line if n in ahead])

    def _delays(self, first: Asked, newcomer: Held, uuid: str) -> bool:
        """Tell whether the first could get room on the GPU later for it, whatever ends first."""
        found, reading = (
            self._serving.free_and_claims(uuid, without=newcomer),
            self._truth.reading(uuid),
        )
        if found is None or reading is None:
            return False
        free, claims, loose = found
        size, need, params = newcomer.reserved[uuid], first.params.vram_bytes, newcomer.asked.params
        if "exclusive" in (first.params.policy, params.policy):
            return True
        if params.sizes_itself or first.params.split:
            return True
        if reading.compute_mode == "exclusive_process":
            return True
        sums = {0}
        for claim in claims:
            sums |= {each + claim for each in sums}
        # Of the rest, any part may come free.
        return any(free + each < need + size and free + each + loose >= need for each in sums)

    def _let_past(self, waits: _Waits, newcomer: Asked) -> None:
        waits.passed.add(newcomer.name)
        assert len(waits.passed) <= MAX_PASSED, f"{waits.asked.name} was passed over too often"

    def check(self, queue: list[Waiter]) -> None:
        names = [str(waiter.name) for waiter in queue]
        for name in set(self._waiting) - set(names):
            del self._waiting[name]
        assert set(names) == set(self._waiting), "the queue has one that was never told of"
        assert len(queue) <= QUEUE
        uids = Counter(waiter.uid for waiter in queue)
        assert not uids or max(uids.values()) <= QUEUE_PER_UID
        order = [self._waiting[name] for name in names]
        for position, waits in enumerate(order):
            asked = waits.asked
            assert asked.in_flight, f"{asked.name} waits, and nobody listens"
            late_ns = (
                self._truth.host.clock.now_ns - waits.queued_ns - asked.params.wait_ms * 1_000_000
            )
            assert late_ns <= _LATE_NS, f"{asked.name} waits longer than it asked for"
            for ahead in order[:position]:
                if ahead.queued_ns > waits.queued_ns:
                    assert ahead.asked.priority > asked.priority, (
                        f"{ahead.asked.name} stands before {asked.name}, which came first"
                    )
                    self._let_past(waits, ahead.asked)

    def check_left_waiting(self, queue: list[Waiter], *, able: bool) -> None:
        """The first in the queue gets what it needs, soon after it is free.

        `able`: nothing else keeps the daemon from granting.
        """
        now = self._truth.host.clock.now_ns
        line = [self._waiting[str(waiter.name)].asked for waiter in queue]
        back = self._quotas.held_back(line) if line else set()
        head = next((asked for asked in line if asked.name not in back), None)
        if head is None or not able or not self._serving.could_serve(head, exact=False):
            self._servable_since.clear()
            return
        since = self._servable_since.setdefault(head.name, now)
        assert now - since <= _LEFT_WAITING_NS, f"{head.name} is left waiting for what is free"
