"""The tests of lifetimes see each of these faults: a kept list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mutants import Mutant, Mutants, selected

pytestmark = pytest.mark.slow

TESTS = [Path(__file__).with_name("test_lifetimes.py")]

BOOK = "supereziod.leases.book"
GROWTH = "supereziod.leases.growth"
HOLDERS = "supereziod.leases.holders"
LEDGER = "supereziod.leases.ledger"
MANAGER = "supereziod.leases.manager"
STORE = "supereziod.leases.store"

CONTROL = Mutant("control", BOOK, "_MAX_PROCESSES: Final = 64", "_MAX_PROCESSES = 64")
MUTANTS = (
    CONTROL,
    Mutant(
        "ends a ttl lease right after a restart",
        BOOK,
        "max(lease.record.expires_ns, grace_ns)",
        "lease.record.expires_ns",
    ),
    Mutant(
        "cuts a long ttl at a restart",
        BOOK,
        "max(lease.record.expires_ns, grace_ns)",
        "grace_ns",
    ),
    Mutant(
        "gives no grace after a restart",
        BOOK,
        "                self._ends.set(lease.id, grace_ns)\n",
        "                pass\n",
    ),
    Mutant(
        "does not commit a renewal",
        BOOK,
        "        self._record(record, "
        '"cannot record the renewal, so the lease ends as it would have")\n',
        "",
    ),
    Mutant(
        "counts a renewal from the old end",
        BOOK,
        "ends_ns = self._clock() + ttl_ms * _NS_PER_MS",
        "ends_ns = (self.ends_ns(lease) or 0) + ttl_ms * _NS_PER_MS",
    ),
    Mutant(
        "forgets the ttl that a renewal set",
        BOOK,
        "structs.replace(lease.record, ttl_ms=ttl_ms, expires_ns=ends_ns)",
        "structs.replace(lease.record, expires_ns=ends_ns)",
    ),
    Mutant(
        "lets the grace run on after a resume",
        BOOK,
        "        self._ends.drop(lease.id)\n",
        "",
    ),
    Mutant(
        "ends a ttl lease with its process",
        BOOK,
        '            if lease.record.params.mode == "process":\n',
        "            if True:\n",
    ),
    Mutant("ends a lease with its first process", HOLDERS, "if not any(other", "if not all(other"),
    Mutant(
        "does not void at a reboot",
        STORE,
        "            if boot != self._boot_id:\n",
        "            if False:\n",
    ),
    Mutant(
        "says at a reboot that released leases are lost",
        STORE,
        "            if owner_uid is not None:\n",
        "            if owner_uid is not None and boot == self._boot_id:\n",
    ),
    Mutant(
        "keeps on disk what it has forgotten",
        STORE,
        "            del self.released[oldest]\n            self.forget(oldest)\n",
        "            del self.released[oldest]\n",
    ),
    Mutant(
        "forgets at a restart what was released",
        STORE,
        "                    self.released[str(lease)] = owner_uid\n",
        "                    pass\n",
    ),
    Mutant(
        "remembers released leases without bound",
        STORE,
        "if len(self.released) > _RELEASED_REMEMBERED:",
        "if False:",
    ),
    Mutant(
        "tells anybody that a lease was released",
        MANAGER,
        "if uid is not None and caller.may_act_for(uid):",
        "if uid is not None:",
    ),
    Mutant(
        "lets nobody in when a lease says ready",
        MANAGER,
        "        self._book.mark_ready(lease)\n        self._pump()\n",
        "        self._book.mark_ready(lease)\n",
    ),
    Mutant(
        "takes quick passes for a stable use",
        GROWTH,
        "SPACING_NS: Final = 900_000_000",
        "SPACING_NS = 0",
    ),
    Mutant(
        "gives five more minutes at a restart",
        LEDGER,
        "now_ns if claim.granted_ns is None else claim.granted_ns",
        "now_ns",
    ),
    Mutant("forgets at a restart who was ready", BOOK, " and not record.ready", ""),
)


@pytest.fixture(scope="module")
def mutants(request: pytest.FixtureRequest) -> Iterator[Mutants]:
    with Mutants(selected(request, MUTANTS), tests=TESTS) as running:
        yield running


@pytest.mark.parametrize("mutant", MUTANTS[:1], ids=str)
def test_the_suite_passes_where_there_is_no_fault(mutants: Mutants, mutant: Mutant) -> None:
    mutants.assert_passes(mutant)


@pytest.mark.parametrize("mutant", MUTANTS[1:], ids=str)
def test_the_suite_kills_one_that(mutants: Mutants, mutant: Mutant) -> None:
    mutants.assert_killed(mutant)
