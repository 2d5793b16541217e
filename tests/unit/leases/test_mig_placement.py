"""Leases on MIG instances: each by its own account, and one for a program at a time."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gpu_views import GIB, FakeClock, a_pass, a_snapshot, a_view
from probe_doubles import NO_DETAILS
from superezio.wire import AcquireParams
from supereziod.gpu.hardware import Block, GpuView, MigInstance
from supereziod.leases.capacity import Capacity, Request
from supereziod.leases.ledger import Claim, Ledger
from supereziod.leases.placement import candidates, place
from supereziod.leases.store import LeaseRecord
from supereziod.leases.views import environment_of

WHOLE_BLOCK = Block(code="mig_enabled", message="MIG is on")


def gpu(uuid: str, *, index: int = 0, mig_index: int | None = None, **fields: Any) -> Capacity:
    defaults: dict[str, Any] = {
        "name": "A100" if mig_index is None else "A100 MIG 1g.10gb",
        "largest_bytes": 10 * GIB,
        "free_bytes": 10 * GIB,
        "foreign_bytes": 0,
        "reserved_bytes": 0,
    }
    return Capacity(uuid=uuid, index=index, mig_index=mig_index, **(defaults | fields))


CUT_UP = [
    gpu("GPU-0", block=WHOLE_BLOCK, largest_bytes=80 * GIB),
    gpu("MIG-0", mig_index=0),
    gpu("MIG-1", mig_index=1),
]


def ask(gib: int, **fields: Any) -> Request:
    return Request(vram_bytes=gib * GIB, **fields)


# --- placement ----------------------------------------------------------------------------------


def test_a_lease_goes_to_an_instance_and_the_whole_gpu_is_refused() -> None:
    placement = place(ask(8), CUT_UP)
    assert (placement.decision, placement.chosen) == ("grant", ["MIG-0"])
    assert [reason.code for reason in placement.gpus] == ["mig_enabled", "chosen", "fits"]
    assert [reason.mig_index for reason in placement.gpus] == [None, 0, 1]
    assert placement.summary == "8.0 GiB on GPU 0:0 (A100 MIG 1g.10gb)"


def test_what_no_instance_can_hold_is_never_granted_though_the_card_could() -> None:
    placement = place(ask(20), CUT_UP)
    assert placement.decision == "never"
    assert "GPU 0: MIG is on; GPU 0:0, 0:1: holds 10.0 GiB at most" in placement.summary


def test_several_gpus_are_never_several_instances() -> None:
    """CUDA can use one MIG instance per process only."""
    placement = place(ask(1, count=2), CUT_UP)
    assert placement.decision == "never"
    assert [reason.code for reason in placement.gpus] == ["mig_enabled", "mig_single", "mig_single"]
    assert "one MIG instance" in placement.gpus[1].message
    assert candidates(ask(1, count=2), CUT_UP) == frozenset()


def test_an_instance_does_not_serve_beside_whole_gpus() -> None:
    hosts = [*CUT_UP, gpu("GPU-1", index=1)]
    assert place(ask(1, count=2), hosts).decision == "never"
    placement = place(ask(1, count=2), [*hosts, gpu("GPU-2", index=2)])
    assert placement.chosen == ["GPU-1", "GPU-2"]


def test_an_instance_takes_no_part_of_a_split() -> None:
    hosts = [*CUT_UP, gpu("GPU-1", index=1)]
    assert place(ask(8, split=True), hosts).chosen == ["GPU-1"]
    assert place(ask(8, split=True), CUT_UP).decision == "never"


def test_two_instances_that_are_full_make_a_request_wait() -> None:
    full = [replace(each, free_bytes=0) for each in CUT_UP]
    assert place(ask(8), full).decision == "wait"


@pytest.mark.parametrize("code", ["no_permission", "mig_shared"])
def test_what_only_a_person_changes_of_an_instance_means_never(code: str) -> None:
    closed = [gpu("MIG-0", mig_index=0, block=Block(code=code, message="it is so"))]
    assert place(ask(1), closed).decision == "never"


def test_an_instance_that_may_not_be_read_is_not_said_to_be_too_small() -> None:
    forbidden = Block(code="no_permission", message="it may not be read")
    unread = gpu("MIG-0", mig_index=0, block=forbidden, largest_bytes=0, free_bytes=0)
    (reason,) = place(ask(1), [unread]).gpus
    assert (reason.code, reason.message) == ("no_permission", "it may not be read")


def test_a_program_finds_its_instance_by_the_names_that_its_tools_take() -> None:
    """CUDA and the container toolkit take the UUID; CDI has it as the device's name."""
    record = LeaseRecord(
        id="lease-1",
        uid=0,
        params=AcquireParams(vram_bytes=GIB),
        gpus={"MIG-2f86": GIB},
        processes=(),
        placement=place(ask(1), CUT_UP),
        granted_at="",
        granted_ns=0,
        correlation_id=None,
        idempotency_key=None,
    )
    environment = environment_of(record)
    assert environment["CUDA_VISIBLE_DEVICES"] == "MIG-2f86"
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "MIG-2f86"
    assert environment["SUPEREZIO_CDI_DEVICES"] == "nvidia.com/gpu=MIG-2f86"


# --- the ledger ---------------------------------------------------------------------------------


class Desk:
    """A GPU of 20 GiB that MIG has cut into two instances, and its ledger."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ledger = Ledger(reserve_bytes=GIB, clock=self.clock)

    def view(self, uuid: str, index: int | None, used: int, *pids: int) -> GpuView:
        total = 20 * GIB if index is None else 10 * GIB
        taken = a_pass(
            uuid,
            taken_ns=self.clock.now_ns,
            total=total,
            used=used * GIB,
            processes=dict.fromkeys(pids, used * GIB // max(1, len(pids))),
        )
        view = a_view(uuid, last_pass=taken, block=WHOLE_BLOCK if index is None else None)
        mig = None
        if index is not None:
            mig = MigInstance(
                parent="GPU-0",
                index=index,
                gpu_instance=index + 1,
                compute_instance=0,
                profile="1g.10gb",
            )
        return replace(
            view,
            identity=replace(view.identity, mig=mig),
            details=replace(NO_DETAILS, mig_mode="enabled") if index is None else None,
        )

    def see(self, *used: int, whole: int | None = None) -> dict[str, Capacity]:
        """Show a pass in which instance n uses so many GiB, by the process with pid n + 1."""
        self.clock.advance(1)
        in_all = sum(used) if whole is None else whole
        views = [self.view("GPU-0", None, in_all, *(n + 1 for n, gib in enumerate(used) if gib))]
        views += [
            self.view(f"MIG-{n}", n, gib, *([n + 1] if gib else [])) for n, gib in enumerate(used)
        ]
        snapshot = a_snapshot(*views)
        self.notices = self.ledger.observe(snapshot, {1: "holder"}.get)
        return {each.uuid: each for each in self.ledger.capacities(snapshot)}


def test_each_instance_has_an_account_of_its_own() -> None:
    desk = Desk()
    desk.ledger.claim(Claim(lease="a", holder="holder", reserved={"MIG-0": 6 * GIB}))
    capacities = desk.see(4, 3)
    first, second = capacities["MIG-0"], capacities["MIG-1"]
    assert (first.reserved_bytes, first.foreign_bytes) == (6 * GIB, 0)
    assert first.free_bytes == 3 * GIB
    assert (second.reserved_bytes, second.foreign_bytes) == (0, 3 * GIB)
    assert (first.mig_index, second.mig_index) == (0, 1)
    assert capacities["GPU-0"].leases == 0


def test_what_leases_use_on_instances_is_not_counted_for_the_whole_gpu_again() -> None:
    """The driver lists their processes there too."""
    desk = Desk()
    desk.ledger.claim(Claim(lease="a", holder="holder", reserved={"MIG-0": 6 * GIB}))
    capacities = desk.see(4, 0)
    assert capacities["GPU-0"].reserved_bytes == 0
    assert sum(each.reserved_bytes for each in capacities.values()) == 6 * GIB


def test_a_gpu_that_is_cut_up_is_not_overcommitted_by_what_its_instances_hold() -> None:
    desk = Desk()
    desk.see(9, 9, whole=20)
    assert [notice.uuid for notice in desk.notices] == []
    assert desk.ledger.overcommitted() == []


def test_what_was_released_on_an_instance_that_is_gone_is_waited_for_no_longer() -> None:
    desk = Desk()
    desk.see(0, 0)
    desk.ledger.claim(Claim(lease="a", holder="holder", reserved={"MIG-1": 6 * GIB}))
    desk.see(0)
    assert desk.ledger.awaits_pass
    desk.ledger.release("a")
    desk.see(0)
    assert not desk.ledger.awaits_pass


def test_a_claim_on_an_instance_that_is_gone_stands() -> None:
    desk = Desk()
    desk.see(0, 0)
    desk.ledger.claim(Claim(lease="a", holder="holder", reserved={"MIG-1": 6 * GIB}))
    desk.see(0)
    assert desk.see(0, 0)["MIG-1"].reserved_bytes == 6 * GIB


def test_a_program_that_runs_on_an_instance_may_lease_more_of_it() -> None:
    """It is listed on the whole GPU too, and works there without a lease as little as with one."""
    desk = Desk()
    desk.ledger.claim(Claim(lease="a", holder="holder", reserved={"MIG-0": 4 * GIB}))
    capacities = desk.see(4, 0)
    presence = desk.ledger.presence("holder", [])
    placement = place(ask(2, presence=presence), list(capacities.values()))
    assert (placement.decision, placement.chosen) == ("grant", ["MIG-0"]), placement.summary


def test_a_server_that_runs_on_an_instance_is_leased_for_there() -> None:
    desk = Desk()
    capacities = desk.see(0, 3)
    presence = desk.ledger.presence(None, [2])
    assert presence.used == ("MIG-1",)
    assert presence.foreign_bytes == {"MIG-1": 3 * GIB}
    assert place(ask(5, presence=presence), list(capacities.values())).chosen == ["MIG-1"]
