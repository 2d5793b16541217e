"""The soak sees each of these faults: a kept list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mutants import Mutant, Mutants, selected

pytestmark = pytest.mark.slow

TESTS = [Path(__file__).with_name("test_soak.py")]

ACCOUNT = "supereziod.leases.account"
BOOK = "supereziod.leases.book"
DESCENT = "supereziod.leases.descent"
DRAINING = "supereziod.leases.draining"
QUEUE = "supereziod.leases.queue"
READINGS = "supereziod.leases.readings"
REVOKING = "supereziod.leases.revoking"
STORE = "supereziod.leases.store"
WAITERS = "supereziod.leases.waiters"

MUTANTS = (
    Mutant(
        "forgets the reserve", ACCOUNT, " - self._reserve_bytes\n        return", "\n        return"
    ),
    Mutant(
        "lets a process be of nobody once its parent ended",
        DESCENT,
        "            if orphan in self._kin:\n",
        "            if False:\n",
    ),
    Mutant(
        "decides by any pass",
        READINGS,
        "round(self._max_age_s * 1e9)\n        return max(",
        "round(100 * self._max_age_s * 1e9)\n        return max(",
    ),
    Mutant(
        "lets the later go first",
        QUEUE,
        "before.priority >= priority",
        "before.priority > priority",
    ),
    Mutant(
        "never stops to pass over",
        QUEUE,
        " or self._passed[before.id] >= self._max_passed:",
        ":",
    ),
    Mutant(
        "keeps a lease without its process",
        BOOK,
        'over = [lease for lease in ended if lease.record.params.mode == "process"]',
        "over: list[LiveLease] = []",
    ),
    Mutant(
        "revives at a restart what had ended",
        BOOK,
        '        """End a lease that nobody holds any more without having released it."""\n'
        "        self._store.forget(lease.id)\n",
        "",
    ),
    Mutant(
        "does not void at a reboot",
        STORE,
        "            if boot != self._boot_id:\n",
        "            if False:\n",
    ),
    Mutant(
        "never ends a lease that was revoked",
        REVOKING,
        '        self._book.lose(lease, "revoked", '
        'f"it was revoked and did not end in time: {why}")\n',
        "",
    ),
    Mutant(
        "leaves a hot GPU's leases alone",
        DRAINING,
        "        for lease in sorted(left, key=_priority):\n",
        "        for lease in ():\n",
    ),
    Mutant(
        "leaves the descriptors of who gave up open",
        WAITERS,
        "            for handle in pending.handles:\n                handle.close()\n",
        "",
    ),
)


@pytest.fixture(scope="module")
def mutants(request: pytest.FixtureRequest) -> Iterator[Mutants]:
    with Mutants(selected(request, MUTANTS), tests=TESTS) as running:
        yield running


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_soak_kills_one_that(mutants: Mutants, mutant: Mutant) -> None:
    mutants.assert_killed(mutant)
