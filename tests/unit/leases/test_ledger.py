"""The ledger: what is free is net of everything, and nothing is free before a pass shows it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gpu_views import GIB, FakeClock, a_pass, a_snapshot, a_view
from supereziod.gpu.hardware import Block, GpuSample, GpuView, ProcessUse, Snapshot
from supereziod.leases.capacity import Capacity
from supereziod.leases.ledger import Claim, Ledger, LedgerNotice

G = "GPU-1"


class Desk:
    """One 12 GiB GPU, its ledger, and whose the processes are."""

    def __init__(
        self, *, reserve: int = 0, driver_reserved: int | None = 0, total: int = 12
    ) -> None:
        self.clock = FakeClock()
        self.total = total * GIB
        self.driver_reserved = driver_reserved
        self.ledger = Ledger(reserve_bytes=reserve, clock=self.clock)
        self.owners: dict[int, str] = {}
        self.snapshot: Snapshot = a_snapshot(a_view(G, last_pass=None, total=self.total))

    def claim(self, lease: str, gib: float, *, holder: str | None = None) -> None:
        self.ledger.claim(
            Claim(lease=lease, holder=holder or lease, reserved={G: round(gib * GIB)})
        )

    def view(self, used: float, processes: dict[int, float | None], *, age_s: float = 0) -> GpuView:
        taken_ns = self.clock.now_ns - round(age_s * 1e9)
        return a_view(
            G,
            last_pass=a_pass(
                G,
                taken_ns=taken_ns,
                total=self.total,
                used=round(used * GIB),
                processes={
                    pid: None if gib is None else round(gib * GIB) for pid, gib in processes.items()
                },
                driver_reserved=self.driver_reserved,
            ),
        )

    def see(
        self, used: float, processes: dict[int, float | None] | None = None, *, age_s: float = 0
    ) -> list[LedgerNotice]:
        """Let a moment pass, and show a pass taken then (or `age_s` before)."""
        self.clock.advance(0.001)
        self.snapshot = a_snapshot(self.view(used, processes or {}, age_s=age_s))
        return self.ledger.observe(self.snapshot, self.owners.get)

    @property
    def capacity(self) -> Capacity:
        return self.ledger.capacities(self.snapshot)[0]

    @property
    def free(self) -> float:
        return self.capacity.free_bytes / GIB

    @property
    def foreign(self) -> float:
        return self.capacity.foreign_bytes / GIB


def kinds(notices: list[LedgerNotice]) -> list[tuple[str, str | None]]:
    return [(notice.kind, notice.lease) for notice in notices]


# --- what is free -----------------------------------------------------------------------------


def test_a_gpu_without_a_pass_is_settling_and_has_nothing_free() -> None:
    desk = Desk()
    capacity = desk.capacity
    assert capacity.block is not None
    assert (capacity.block.code, capacity.free_bytes) == ("settling", 0)
    assert capacity.largest_bytes == 12 * GIB
    assert desk.see(1) == []
    assert desk.capacity.block is None


def test_free_is_net_of_the_drivers_and_the_configured_reserve() -> None:
    desk = Desk(reserve=GIB // 2, driver_reserved=GIB // 4)
    desk.see(0)
    assert desk.free == 11.25
    assert desk.capacity.largest_bytes == 11.25 * GIB


def test_a_reserve_can_be_set_for_one_gpu() -> None:
    clock = FakeClock()
    ledger = Ledger(reserve_bytes=GIB, reserve_by_gpu={"GPU-2": 2 * GIB}, clock=clock)
    views = [
        a_view(
            uuid,
            last_pass=a_pass(uuid, taken_ns=clock(), total=12 * GIB, used=0, processes={}),
        )
        for uuid in ("GPU-1", "GPU-2")
    ]
    snapshot = a_snapshot(*views)
    ledger.observe(snapshot, lambda _pid: None)
    assert [one.free_bytes // GIB for one in ledger.capacities(snapshot)] == [11, 10]


def test_where_the_driver_counts_its_reserve_as_used_it_counts_once() -> None:
    desk = Desk(driver_reserved=None)
    desk.see(0.3)
    assert desk.free == pytest.approx(11.7)
    assert desk.foreign == pytest.approx(0.3)


def test_foreign_use_is_what_no_holder_accounts_for() -> None:
    desk = Desk()
    desk.owners[10] = "h"
    desk.claim("a", 4, holder="h")
    desk.see(7, {10: 3, 11: 2})
    assert desk.foreign == 4
    assert desk.free == 12 - 4 - 4


def test_processes_that_claim_more_than_is_used_make_no_negative_foreign_use() -> None:
    desk = Desk()
    desk.owners[10] = "h"
    desk.claim("a", 4, holder="h")
    desk.see(5, {10: 6})
    assert (desk.foreign, desk.free) == (0, 6)


def test_a_grant_counts_before_any_pass_shows_it() -> None:
    desk = Desk()
    desk.see(0)
    desk.claim("a", 8)
    assert desk.free == 4
    desk.see(0)
    assert desk.free == 4


def test_use_beyond_what_is_reserved_counts_as_used() -> None:
    desk = Desk()
    desk.owners[10] = "h"
    desk.claim("a", 4, holder="h")
    desk.see(5, {10: 5})
    assert desk.free == 7
    assert desk.capacity.reserved_bytes == 5 * GIB


def test_the_larger_of_reserved_and_actual_is_by_holder_not_by_lease() -> None:
    desk = Desk()
    desk.owners.update({10: "h", 11: "h"})
    desk.claim("a", 2, holder="h")
    desk.claim("b", 4, holder="h")
    desk.see(6, {10: 5, 11: 1})
    assert desk.free == 6
    assert desk.capacity.leases == 2
    assert desk.capacity.reserved_bytes == 6 * GIB


def test_two_holders_are_not_set_off_against_each_other() -> None:
    desk = Desk()
    desk.owners.update({10: "g", 11: "h"})
    desk.claim("a", 2, holder="g")
    desk.claim("b", 4, holder="h")
    desk.see(6, {10: 5, 11: 1})
    assert desk.free == 12 - 5 - 4


def test_a_holder_at_work_on_a_gpu_where_it_has_no_lease_is_not_foreign() -> None:
    desk = Desk()
    desk.owners[10] = "h"
    desk.see(3, {10: 3})
    assert (desk.foreign, desk.free) == (0, 9)
    assert desk.ledger.actual("h", G) == 3 * GIB
    desk.see(0)
    assert desk.ledger.actual("h", G) is None


def test_a_process_that_two_lists_name_counts_once() -> None:
    desk = Desk()
    desk.owners[10] = "h"
    desk.claim("a", 2, holder="h")
    desk.clock.advance(1)
    view = desk.view(4, {10: 3})
    assert view.last_pass is not None
    twice = (
        ProcessUse(pid=10, type="C", vram_bytes=3 * GIB),
        ProcessUse(pid=10, type="G", vram_bytes=2 * GIB),
        ProcessUse(pid=10, type="M", vram_bytes=None),
    )
    desk.snapshot = a_snapshot(a_view(G, last_pass=_with(view, processes=twice), total=12 * GIB))
    desk.ledger.observe(desk.snapshot, desk.owners.get)
    assert desk.ledger.actual("h", G) == 3 * GIB
    assert desk.foreign == 1


def _with(view: GpuView, *, processes: tuple[ProcessUse, ...] | None) -> GpuSample:
    assert view.last_pass is not None
    return replace(view.last_pass, processes=processes)


# --- passes -----------------------------------------------------------------------------------


def test_a_pass_from_before_the_ledger_counts_for_nothing() -> None:
    desk = Desk()
    desk.see(0, age_s=1)
    assert desk.capacity.block is not None
    assert desk.capacity.block.code == "settling"


def test_a_pass_is_taken_in_once_and_an_older_one_not_at_all() -> None:
    desk = Desk()
    desk.clock.advance(10)
    desk.see(2)
    desk.see(9, age_s=5)
    assert desk.foreign == 2


def test_a_sample_without_processes_is_no_pass() -> None:
    desk = Desk()
    desk.see(2)
    desk.clock.advance(1)
    view = a_view(G, last_pass=_with(desk.view(9, {}), processes=None), total=12 * GIB)
    desk.ledger.observe(a_snapshot(view), desk.owners.get)
    assert desk.foreign == 2


def test_a_driver_without_memory_figures_admits_nothing() -> None:
    desk = Desk()
    desk.see(2)
    desk.clock.advance(1)
    sample = a_pass(G, taken_ns=desk.clock(), total=None, used=None, processes={})
    desk.snapshot = a_snapshot(a_view(G, last_pass=sample, total=None))
    assert desk.ledger.observe(desk.snapshot, desk.owners.get) == []
    assert desk.capacity.block is not None
    assert desk.capacity.block.code == "memory_unknown"
    assert (desk.capacity.largest_bytes, desk.capacity.free_bytes) == (0, 0)


def test_a_gpus_own_block_is_passed_on() -> None:
    desk = Desk()
    hot = Block(code="hot", message="92 C")
    desk.snapshot = a_snapshot(a_view(G, last_pass=None, total=12 * GIB, block=hot))
    assert desk.capacity.block == hot


def test_the_figures_that_rank_gpus_are_of_the_newest_sample() -> None:
    desk = Desk()
    desk.see(2)
    assert desk.capacity.utilization_core_percent == 0
    assert desk.capacity.margin_c == 30


# --- claims -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -1, 1 << 63])
def test_a_size_out_of_range_is_not_recorded(size: int) -> None:
    desk = Desk()
    with pytest.raises(ValueError, match="out of range"):
        desk.ledger.claim(Claim(lease="a", holder="h", reserved={G: size}))
    with pytest.raises(ValueError, match="out of range"):
        desk.ledger.claim(Claim(lease="a", holder="h", reserved={}))
    assert desk.capacity.leases == 0


def test_a_lease_is_claimed_once() -> None:
    desk = Desk()
    desk.claim("a", 1)
    with pytest.raises(ValueError, match="twice"):
        desk.claim("a", 1)


def test_an_exclusive_claim_marks_its_gpu_until_it_is_released() -> None:
    desk = Desk()
    desk.see(0)
    desk.ledger.claim(Claim(lease="a", holder="h", reserved={G: GIB}, exclusive=True))
    assert desk.capacity.exclusive
    desk.ledger.release("a")
    assert not desk.capacity.exclusive


def test_actual_use_is_unknown_until_a_pass_is_taken_after_the_grant() -> None:
    desk = Desk()
    desk.see(0)
    desk.clock.advance(1)
    desk.claim("a", 4, holder="h")
    assert desk.ledger.actual("h", G) is None
    assert desk.ledger.awaits_pass
    desk.see(0, age_s=0.5)
    assert desk.ledger.actual("h", G) is None
    desk.see(0)
    assert desk.ledger.actual("h", G) == 0
    assert not desk.ledger.awaits_pass
    assert desk.ledger.actual("h", "GPU-other") is None
    assert not desk.ledger.is_estimated("h", "GPU-other")


def test_a_lease_that_joins_another_holder_is_summed_with_it() -> None:
    desk = Desk()
    desk.owners.update({10: "g", 11: "h"})
    desk.claim("a", 2, holder="g")
    desk.claim("b", 6, holder="h")
    desk.see(6, {10: 5, 11: 1})
    assert desk.free == 12 - 5 - 6
    desk.ledger.rebind("a", "h")
    desk.ledger.rebind("a", "h")
    assert desk.free == 12 - 8
    assert desk.ledger.actual("h", G) == 6 * GIB


def test_the_processes_of_a_holder_that_keeps_a_lease_stay_with_it() -> None:
    desk = Desk()
    desk.owners[10] = "g"
    desk.claim("a", 2, holder="g")
    desk.claim("b", 1, holder="g")
    desk.see(5, {10: 5})
    desk.ledger.rebind("a", "h")
    assert desk.free == 12 - 5 - 2
    assert desk.ledger.actual("g", G) == 5 * GIB
    with pytest.raises(KeyError):
        desk.ledger.rebind("gone", "h")


# --- releases ---------------------------------------------------------------------------------


def released(*, used: float = 8) -> Desk:
    """Return a desk where a lease of 8 GiB that used so much has just lost its process."""
    desk = Desk()
    desk.owners[10] = "h"
    desk.claim("a", 8, holder="h")
    desk.see(used, {10: used} if used else {})
    desk.clock.advance(1)
    desk.owners.clear()
    desk.ledger.release("a")
    return desk


def test_a_release_frees_nothing_until_a_pass_shows_it() -> None:
    desk = released()
    assert (desk.free, desk.foreign) == (4, 0)
    assert desk.capacity.returning_bytes == 8 * GIB
    assert desk.capacity.leases == 0
    assert desk.ledger.awaits_pass
    assert kinds(desk.see(0)) == [("returned", "a")]
    assert desk.free == 12
    assert not desk.ledger.awaits_pass


def test_a_pass_taken_before_the_release_proves_nothing() -> None:
    desk = released()
    desk.clock.advance(1)
    assert desk.see(0, age_s=1.5) == []
    assert desk.free == 4
    assert kinds(desk.see(0)) == [("returned", "a")]


def test_a_pass_taken_at_the_instant_of_the_release_proves_nothing() -> None:
    desk = released()
    assert desk.see(0, age_s=0.001) == []
    assert desk.free == 4


def test_three_quarters_back_is_back() -> None:
    desk = released()
    assert desk.see(2.001) == []
    assert desk.free == 4
    assert kinds(desk.see(2)) == [("returned", "a")]
    assert (desk.free, desk.foreign) == (10, 2)


def test_what_is_not_back_after_its_time_is_told_and_stays_foreign() -> None:
    desk = released()
    desk.clock.advance(4.9)
    assert desk.see(8) == []
    desk.clock.advance(0.1)
    (notice,) = desk.see(8)
    assert (notice.kind, notice.lease, notice.amount_bytes) == ("unreturned", "a", 8 * GIB)
    assert notice.message == (
        "GPU 0 (NVIDIA GeForce RTX 3060): 8.0 GiB of released lease a are still in use"
    )
    assert (desk.free, desk.foreign) == (4, 8)
    desk.see(0)
    assert desk.free == 12


def test_without_a_pass_time_alone_frees_nothing() -> None:
    desk = released()
    desk.clock.advance(60)
    assert desk.ledger.observe(desk.snapshot, desk.owners.get) == []
    assert desk.free == 4


def test_a_lease_that_was_never_used_is_back_with_the_next_pass() -> None:
    desk = released(used=0)
    assert desk.free == 4
    assert kinds(desk.see(0)) == [("returned", "a")]
    assert desk.free == 12


def test_a_process_that_lives_on_after_its_lease_keeps_the_vram() -> None:
    desk = released()
    desk.see(8, {10: 8})
    assert (desk.free, desk.foreign) == (4, 0)
    desk.clock.advance(5)
    assert kinds(desk.see(8, {10: 8})) == [("unreturned", "a")]
    assert (desk.free, desk.foreign) == (4, 8)


def test_a_foreign_process_that_appears_does_not_hide_the_return() -> None:
    desk = released()
    assert kinds(desk.see(5, {99: 5})) == [("returned", "a")]
    assert (desk.free, desk.foreign) == (7, 5)


def test_the_use_of_another_holder_that_loads_does_not_hide_the_return() -> None:
    desk = released()
    desk.owners[20] = "k"
    desk.claim("b", 3, holder="k")
    assert kinds(desk.see(3, {20: 3})) == [("returned", "a")]
    assert desk.free == 9


def test_of_two_releases_the_one_whose_process_still_lives_is_the_one_not_back() -> None:
    desk = Desk()
    desk.owners.update({10: "g", 20: "h"})
    desk.claim("a", 4, holder="g")
    desk.claim("b", 6, holder="h")
    desk.see(10, {10: 4, 20: 6})
    desk.owners.clear()
    desk.ledger.release("a")
    desk.ledger.release("b")
    assert desk.free == 2
    assert kinds(desk.see(4, {10: 4})) == [("returned", "b")]
    assert desk.free == 8


def test_of_two_releases_the_earlier_is_taken_to_be_back_first() -> None:
    desk = Desk()
    desk.owners.update({10: "g", 20: "h"})
    desk.claim("a", 4, holder="g")
    desk.claim("b", 4, holder="h")
    desk.see(8, {10: 4, 20: 4})
    desk.owners.clear()
    desk.ledger.release("a")
    desk.ledger.release("b")
    assert kinds(desk.see(4)) == [("returned", "a")]
    assert kinds(desk.see(0)) == [("returned", "b")]


def test_one_lease_of_two_released_keeps_the_holders_use_counted() -> None:
    desk = Desk()
    desk.owners[10] = "h"
    desk.claim("a", 6, holder="h")
    desk.claim("b", 2, holder="h")
    desk.see(5, {10: 5})
    desk.ledger.release("a")
    assert desk.free == 4
    assert kinds(desk.see(5, {10: 5})) == [("returned", "a")]
    assert desk.free == 12 - 5


def test_a_holder_that_leases_again_is_accounted_for_by_the_next_pass() -> None:
    desk = released()
    desk.owners[10] = "h"
    desk.claim("b", 4, holder="h")
    assert desk.free == 0
    assert kinds(desk.see(8, {10: 8})) == [("returned", "a")]
    assert (desk.free, desk.foreign) == (4, 0)


def test_a_release_is_idempotent() -> None:
    desk = released()
    desk.ledger.release("a")
    desk.ledger.release("never was")
    assert desk.free == 4


def test_a_release_before_any_pass_settles_with_the_first() -> None:
    desk = Desk()
    desk.claim("a", 8)
    desk.clock.advance(1)
    desk.ledger.release("a")
    assert kinds(desk.see(3)) == [("returned", "a")]
    assert (desk.free, desk.foreign) == (9, 3)


# --- overcommitment ---------------------------------------------------------------------------


def test_foreign_use_that_takes_what_is_reserved_is_told_with_the_pids_that_grew() -> None:
    desk = Desk()
    desk.claim("a", 8)
    desk.see(3, {5: 2, 6: 1})
    (notice,) = desk.see(7, {5: 3, 6: 1, 7: 3})
    assert (notice.kind, notice.amount_bytes, notice.pids) == ("overcommitted", 3 * GIB, (7, 5))
    assert notice.message.endswith("3.0 GiB more are spoken for than there are; grown: pid 7, 5")
    assert desk.ledger.overcommitted() == [notice]
    assert desk.see(8, {5: 4, 6: 1, 7: 3}) == []
    assert desk.ledger.overcommitted()[0].amount_bytes == 4 * GIB
    assert kinds(desk.see(4, {5: 3, 6: 1})) == [("overcommit_over", None)]
    assert desk.ledger.overcommitted() == []


def test_exactly_full_is_not_overcommitted() -> None:
    desk = Desk()
    desk.claim("a", 8)
    assert desk.see(4, {5: 4}) == []
    assert desk.free == 0


def test_a_holder_that_outgrows_its_lease_is_named() -> None:
    desk = Desk()
    desk.owners.update({10: "g", 20: "h"})
    desk.claim("a", 4, holder="g")
    desk.claim("b", 8, holder="h")
    desk.see(6, {10: 4, 20: 2})
    (notice,) = desk.see(8, {10: 6, 20: 2})
    assert (notice.kind, notice.pids) == ("overcommitted", (10,))


def test_processes_of_unknown_use_are_named_when_they_are_new() -> None:
    desk = Desk()
    desk.claim("a", 8)
    desk.see(3, {5: None})
    (notice,) = desk.see(6, {5: None, 6: None})
    assert notice.pids == (6,)


def test_what_no_process_shows_is_told_without_pids() -> None:
    desk = Desk()
    desk.claim("a", 8)
    (notice,) = desk.see(6)
    assert notice.pids == ()
    assert notice.message.endswith("are spoken for than there are")


# --- where the driver does not tell use by process --------------------------------------------


def hidden(*, reserved: float = 8) -> Desk:
    """Return a desk on such a GPU, with a display on it, and a lease just granted."""
    desk = Desk()
    desk.see(1, {1: None})
    desk.owners[10] = "h"
    desk.claim("a", reserved, holder="h")
    return desk


def test_unknown_use_is_estimated_by_what_has_grown_since_the_grant() -> None:
    desk = hidden()
    assert (desk.free, desk.capacity.growing) == (3, True)
    assert desk.ledger.is_growing("a")
    desk.see(6, {1: None, 10: None})
    assert desk.ledger.actual("h", G) == 5 * GIB
    assert desk.ledger.is_estimated("h", G)
    assert (desk.foreign, desk.free) == (1, 3)


def test_an_estimate_never_exceeds_what_is_reserved_nor_falls_below_nothing() -> None:
    desk = hidden()
    desk.see(11, {1: None, 10: None})
    assert desk.ledger.actual("h", G) == 8 * GIB
    assert (desk.foreign, desk.free) == (3, 1)
    desk.see(0.5, {1: None, 10: None})
    assert desk.ledger.actual("h", G) == 0


def test_unknown_use_is_not_nothing() -> None:
    desk = Desk()
    desk.owners[10] = "h"
    desk.see(0)
    desk.claim("a", 8, holder="h")
    desk.see(8, {10: None})
    assert desk.ledger.actual("h", G) == 8 * GIB
    assert (desk.foreign, desk.free) == (0, 4)


def test_a_lease_has_grown_when_three_passes_hardly_differ() -> None:
    desk = hidden()
    for used in (1.3, 5, 6, 6.05):
        assert desk.see(used, {1: None, 10: None}) == []
        assert desk.capacity.growing
    assert kinds(desk.see(6.08, {1: None, 10: None})) == [("grown", "a")]
    assert not desk.capacity.growing
    assert not desk.ledger.is_growing("a")


def test_a_lease_that_has_not_begun_to_grow_is_not_stable() -> None:
    desk = hidden()
    for _ in range(5):
        assert desk.see(1.39, {1: None, 10: None}) == []
    assert desk.capacity.growing


def test_a_change_of_two_percent_is_not_stable() -> None:
    desk = hidden(reserved=10)
    for used in (7.125, 7.25, 7.25):
        assert desk.see(used, {1: None, 10: None}) == []
    assert kinds(desk.see(7.25, {1: None, 10: None})) == [("grown", "a")]


def test_an_estimate_stands_once_the_lease_has_grown() -> None:
    desk = hidden()
    for _ in range(3):
        desk.see(6, {1: None, 10: None})
    desk.see(9, {1: None, 10: None})
    assert desk.ledger.actual("h", G) == 5 * GIB
    assert desk.foreign == 4


def test_growing_ends_after_five_minutes_at_the_latest() -> None:
    desk = hidden()
    desk.see(2, {1: None, 10: None})
    desk.clock.advance(299)
    assert desk.see(4, {1: None, 10: None}) == []
    desk.clock.advance(1)
    assert kinds(desk.see(6, {1: None, 10: None})) == [("grown", "a")]
    assert desk.ledger.actual("h", G) == 5 * GIB


def test_a_lease_that_starts_no_process_holds_the_next_up_for_five_minutes() -> None:
    desk = hidden()
    desk.clock.advance(299)
    assert desk.see(1, {1: None}) == []
    desk.clock.advance(1)
    assert kinds(desk.see(1, {1: None})) == [("grown", "a")]
    desk.see(4, {1: None, 10: None})
    assert desk.ledger.actual("h", G) == 3 * GIB


def test_two_leases_granted_before_it_was_known_are_estimated_together() -> None:
    desk = Desk()
    desk.owners.update({10: "g", 20: "h"})
    desk.see(1)
    desk.claim("a", 4, holder="g")
    desk.claim("b", 4, holder="h")
    desk.see(7, {10: None, 20: None})
    assert desk.ledger.actual("g", G) == 4 * GIB
    assert desk.ledger.actual("h", G) == 2 * GIB
    assert (desk.foreign, desk.free) == (1, 3)
    for _ in range(3):
        desk.see(7.5, {10: None, 20: None})
    assert not desk.capacity.growing
    assert desk.ledger.actual("h", G) == 2.5 * GIB


def test_the_next_lease_counts_from_where_the_first_has_grown_to() -> None:
    desk = hidden(reserved=4)
    for _ in range(3):
        desk.see(5, {1: None, 10: None})
    desk.owners[20] = "k"
    desk.claim("b", 5, holder="k")
    desk.see(8, {1: None, 10: None, 20: None})
    assert desk.ledger.actual("k", G) == 3 * GIB
    assert desk.foreign == 1


def test_a_grown_lease_that_is_released_is_back_when_its_estimate_is() -> None:
    desk = hidden()
    for _ in range(3):
        desk.see(7, {1: None, 10: None})
    desk.clock.advance(1)
    desk.ledger.release("a")
    assert desk.free == 3
    assert desk.see(7, {1: None}) == []
    assert (desk.free, desk.foreign) == (3, 1)
    assert kinds(desk.see(1, {1: None})) == [("returned", "a")]
    assert (desk.free, desk.foreign) == (11, 1)


def test_what_a_lost_process_has_taken_since_is_not_missed_of_another_lease() -> None:
    """One lease is released while its process goes on and takes more, another one after it."""
    desk = Desk()
    desk.owners.update({10: "h", 11: "k"})
    desk.claim("a", 3, holder="h")
    desk.claim("b", 3, holder="k")
    desk.see(4, {10: 2, 11: 2})
    del desk.owners[10]
    desk.ledger.release("a")
    desk.clock.advance(4)
    desk.see(5, {10: 3, 11: 2})
    del desk.owners[11]
    desk.ledger.release("b")
    desk.clock.advance(1.5)
    assert kinds(desk.see(4, {10: 3})) == [("unreturned", "a")], "1 GiB of b is not back yet"
    assert kinds(desk.see(3, {10: 3})) == [("returned", "b")]
    assert (desk.free, desk.foreign) == (9, 3)


def test_what_an_estimate_is_too_high_by_is_not_missed_after_the_release() -> None:
    """Half of its processes had ended: that half cannot come back a second time."""
    desk = Desk()
    desk.owners.update({10: "h", 11: "h"})
    desk.claim("a", 8, holder="h")
    for _ in range(4):
        desk.clock.advance(1)
        desk.see(6, {10: None, 11: None})
    desk.clock.advance(1)
    desk.see(3, {10: None})
    assert desk.ledger.actual("h", G) == 6 * GIB, "an estimate stands once the lease has grown"
    desk.owners.clear()
    desk.ledger.release("a")
    assert kinds(desk.see(0)) == [("returned", "a")]


def test_a_lease_released_while_another_grows_does_not_shrink_its_estimate() -> None:
    desk = hidden(reserved=4)
    for _ in range(3):
        desk.see(5, {1: None, 10: None})
    desk.owners[20] = "k"
    desk.claim("b", 5, holder="k")
    desk.clock.advance(1)
    desk.ledger.release("a")
    desk.owners.pop(10)
    desk.see(1, {1: None, 20: None})
    desk.see(4, {1: None, 20: None})
    assert desk.ledger.actual("k", G) == 3 * GIB
    assert desk.foreign == 1


def test_one_of_two_growing_leases_released_leaves_the_other_its_own_growth() -> None:
    desk = Desk()
    desk.owners.update({10: "g", 20: "h"})
    desk.see(1)
    desk.claim("a", 4, holder="g")
    desk.claim("b", 4, holder="h")
    desk.see(7, {10: None, 20: None})
    desk.clock.advance(1)
    desk.ledger.release("a")
    desk.owners.pop(10)
    assert kinds(desk.see(3, {20: None})) == [("returned", "a")]
    assert desk.ledger.actual("h", G) == 2 * GIB


def test_an_estimate_goes_with_the_processes_it_was_made_for() -> None:
    desk = hidden()
    for _ in range(3):
        desk.see(7, {1: None, 10: None})
    desk.see(1, {1: None})
    assert desk.ledger.actual("h", G) == 0
    desk.see(4, {1: None, 10: None})
    assert desk.ledger.actual("h", G) == 3 * GIB
    assert desk.foreign == 1


def test_figures_that_appear_end_the_growing() -> None:
    desk = hidden()
    assert kinds(desk.see(3, {1: 1, 10: 2})) == [("grown", "a")]
    assert desk.ledger.actual("h", G) == 2 * GIB
    assert not desk.ledger.is_estimated("h", G)


def test_known_use_of_others_is_no_growth() -> None:
    desk = hidden()
    desk.see(9, {1: None, 5: 6, 10: None})
    assert desk.ledger.actual("h", G) == 2 * GIB
    assert desk.foreign == 7


# --- after a restart --------------------------------------------------------------------------


def test_a_restored_lease_stands_and_its_gpu_settles_with_the_first_pass() -> None:
    desk = Desk()
    desk.owners[10] = "h"
    desk.ledger.restore(Claim(lease="a", holder="h", reserved={G: 8 * GIB}))
    assert desk.capacity.block is not None
    assert desk.capacity.reserved_bytes == 8 * GIB
    desk.see(6, {10: 6})
    assert (desk.free, desk.foreign) == (4, 0)
    assert not any(one.block for one in desk.ledger.capacities(desk.snapshot))


def test_the_unknown_use_of_restored_leases_is_what_is_used_when_they_are_seen_again() -> None:
    desk = Desk()
    desk.owners.update({10: "g", 20: "h"})
    desk.ledger.restore(Claim(lease="a", holder="g", reserved={G: 4 * GIB}))
    desk.ledger.restore(Claim(lease="b", holder="h", reserved={G: 4 * GIB}))
    desk.see(7, {10: None, 20: None})
    assert desk.ledger.actual("g", G) == 4 * GIB
    assert desk.ledger.actual("h", G) == 3 * GIB
    assert (desk.foreign, desk.free, desk.capacity.growing) == (0, 4, False)
