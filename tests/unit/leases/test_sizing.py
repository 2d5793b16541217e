"""SEMANTICS 4: a lease that sizes itself has grown by its own use, not by its holder's other."""

from __future__ import annotations

from collections.abc import Mapping

from gpu_views import GIB, FakeClock, a_pass, a_snapshot, a_view
from supereziod.leases.ledger import Claim, Ledger

G, H = "GPU-1", "holder-1"


class Desk:
    """One GPU of 24 GiB that is read once a second."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ledger = Ledger(reserve_bytes=0, clock=self.clock)
        self.owners: dict[int, str] = {}

    def claim(
        self,
        lease: str,
        *,
        gib: float = 8,
        holder: str = H,
        sizes_itself: bool = True,
        restored: bool = False,
    ) -> None:
        claim = Claim(
            lease=lease,
            holder=holder,
            reserved={G: round(gib * GIB)},
            sizes_itself=sizes_itself,
        )
        (self.ledger.restore if restored else self.ledger.claim)(claim)

    def see(self, *passes: Mapping[int, float]) -> None:
        """Take passes in which processes use so many GiB."""
        for uses in passes:
            self.clock.advance(1)
            sample = a_pass(
                G,
                taken_ns=self.clock(),
                total=24 * GIB,
                used=round(sum(uses.values()) * GIB),
                processes={pid: round(gib * GIB) for pid, gib in uses.items()},
            )
            snapshot = a_snapshot(a_view(G, last_pass=sample, total=24 * GIB))
            self.ledger.observe(snapshot, self.owners.get)

    @property
    def growing(self) -> bool:
        return self.ledger.is_growing("b")


def launcher() -> Desk:
    """Return a desk where a process uses 4 GiB for a lease of its own."""
    desk = Desk()
    desk.owners[1] = H
    desk.claim("a", gib=4, sizes_itself=False)
    desk.see({1: 4})
    return desk


def test_what_its_holder_used_before_is_no_growth() -> None:
    desk = launcher()
    desk.claim("b")
    desk.see(*[{1: 4}] * 9)
    assert desk.growing, "nothing is loaded"
    desk.see({1: 6}, {1: 9}, {1: 11.9}, {1: 12})
    assert desk.growing
    desk.see({1: 12})
    assert not desk.growing


def test_the_first_five_percent_are_of_what_has_come() -> None:
    desk = launcher()
    desk.claim("b")
    desk.see(*[{1: 4.3}] * 9)
    assert desk.growing, "a context is not a model"
    desk.see(*[{1: 4.5}] * 3)
    assert not desk.growing


def test_it_changes_by_less_than_two_percent_of_what_has_come() -> None:
    desk = launcher()
    desk.claim("b")
    desk.see({1: 5}, {1: 5.05}, {1: 5.1}, {1: 5.15})
    assert desk.growing, "little of all that is used, and much of what has come"


def test_what_its_holder_gives_back_meanwhile_does_not_hide_its_growth() -> None:
    desk = launcher()
    desk.claim("b")
    desk.see({1: 1}, *[{1: 4}] * 3)
    assert not desk.growing


def test_what_a_restored_lease_uses_is_its_own() -> None:
    desk = Desk()
    desk.owners[1] = H
    desk.claim("b", restored=True)
    desk.see(*[{1: 4}] * 3)
    assert not desk.growing


def test_what_a_server_used_that_is_leased_now_is_its_leases() -> None:
    desk = Desk()
    desk.see({1: 4})
    desk.owners[1] = H
    desk.claim("b")
    desk.ledger.adopt(H, {1})
    desk.see(*[{1: 4}] * 3)
    assert not desk.growing


def test_what_comes_with_another_lease_is_no_growth() -> None:
    desk = launcher()
    desk.owners[2] = "holder-2"
    desk.claim("b", holder="holder-2")
    desk.see({1: 4, 2: 0})
    desk.ledger.rebind("b", H)  # it is linked to the launcher now
    desk.owners[2] = H
    desk.see(*[{1: 4, 2: 0}] * 9)
    assert desk.growing
    desk.see(*[{1: 4, 2: 3}] * 3)
    assert not desk.growing


def test_what_another_lease_brings_along_is_no_growth() -> None:
    desk = Desk()
    desk.owners = {1: "holder-2", 2: H}
    desk.claim("a", gib=4, sizes_itself=False, holder="holder-2")
    desk.see({1: 4})
    desk.claim("b")
    desk.see({1: 4, 2: 0})
    desk.ledger.rebind("a", H)
    desk.owners[1] = H
    desk.see(*[{1: 4, 2: 0}] * 9)
    assert desk.growing
    desk.see(*[{1: 4, 2: 3}] * 3)
    assert not desk.growing


def test_what_stays_behind_hides_no_growth() -> None:
    desk = launcher()
    desk.owners[2] = H
    desk.claim("b")
    desk.see({1: 4, 2: 1})
    desk.ledger.split(H, "holder-2", ["b"], [2])
    desk.owners[2] = "holder-2"
    desk.see({1: 4, 2: 3}, {1: 4, 2: 3})
    assert desk.growing
    desk.see({1: 4, 2: 3})
    assert not desk.growing


def test_what_its_holder_loses_hides_no_growth() -> None:
    desk = launcher()
    desk.owners[2] = H
    desk.claim("b")
    desk.see({1: 4, 2: 0})
    desk.ledger.part(H, [1])
    del desk.owners[1]
    desk.see(*[{1: 4, 2: 3}] * 3)
    assert not desk.growing


def test_a_lease_that_is_gone_does_not_grow() -> None:
    desk = Desk()
    desk.claim("b")
    assert desk.growing
    desk.ledger.release("b")
    assert not desk.growing
