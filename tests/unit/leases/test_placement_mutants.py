"""The tests of placement, queue and ledger see each of these faults: a kept list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mutants import Mutant, Mutants, selected

pytestmark = pytest.mark.slow

#: What the model of the ledger has no part in.
HERE = Path(__file__).parent
TESTS = [HERE / f"test_{name}.py" for name in ("placement", "queue", "ledger")]

ACCOUNT = "supereziod.leases.account"
SHARES = "supereziod.leases.shares"
PLACEMENT = "supereziod.leases.placement"
QUEUE = "supereziod.leases.queue"

CONTROL = Mutant(
    "control: changes nothing", PLACEMENT, "_NO_MARGIN: Final = -1000", "_NO_MARGIN = -1000"
)
MUTANTS = (
    CONTROL,
    Mutant(
        "counts the lists of compute and graphics twice",
        SHARES,
        "return max(one, other)",
        "return one + other",
    ),
    Mutant(
        "trusts a pass from before the start",
        ACCOUNT,
        "self._seen_ns = born_ns - 1",
        "self._seen_ns = -1",
    ),
    Mutant(
        "lets foreign use be negative",
        ACCOUNT,
        "return max(0, taken.used_bytes - actual - residual)",
        "return taken.used_bytes - actual - residual",
    ),
    Mutant(
        "breaks ties on the index",
        PLACEMENT,
        "return place, capacity.warm, rank(capacity), capacity.uuid",
        "return place, capacity.warm, rank(capacity), str(capacity.index)",
    ),
    Mutant(
        "takes a warm GPU like any other",
        PLACEMENT,
        "return place, capacity.warm, rank(capacity), capacity.uuid",
        "return place, False, rank(capacity), capacity.uuid",
    ),
    Mutant(
        "best_fit takes the emptiest",
        PLACEMENT,
        "    return (capacity.free_bytes,)",
        "    return (-capacity.free_bytes,)",
    ),
    Mutant(
        "takes an unknown utilisation for idle",
        PLACEMENT,
        "_NO_UTILIZATION: Final = 101",
        "_NO_UTILIZATION: Final = 0",
    ),
    Mutant(
        "takes a block that passes for never",
        PLACEMENT,
        "and (capacity.block is None or capacity.block.code not in LASTING_BLOCKS)",
        "and capacity.block is None",
    ),
    Mutant(
        "grants on an avoided GPU",
        PLACEMENT,
        "    if capacity.uuid in request.avoid:\n",
        "    if False:\n",
    ),
    Mutant(
        "lets a small lease pass the head",
        QUEUE,
        "            _keep(held, waiting, capacities)\n        return None",
        "        return None",
    ),
    Mutant(
        "passes over without bound",
        QUEUE,
        "or self._passed[before.id] >= self._max_passed",
        "",
    ),
    Mutant(
        "serves the last comer first",
        QUEUE,
        "if before.priority >= priority or",
        "if before.priority > priority or",
    ),
    Mutant(
        "lets others onto the GPU of an exclusive lease",
        PLACEMENT,
        "    if capacity.exclusive:\n",
        "    if False:\n",
    ),
)


@pytest.fixture(scope="module")
def mutants(request: pytest.FixtureRequest) -> Iterator[Mutants]:
    environment = {"SUPEREZIO_MODEL_EXAMPLES": "150"}
    with Mutants(selected(request, MUTANTS), tests=TESTS, environment=environment) as running:
        yield running


@pytest.mark.parametrize("mutant", MUTANTS[:1], ids=str)
def test_the_suite_passes_where_there_is_no_fault(mutants: Mutants, mutant: Mutant) -> None:
    mutants.assert_passes(mutant)


@pytest.mark.parametrize("mutant", MUTANTS[1:], ids=str)
def test_the_suite_kills_a_decision_that(mutants: Mutants, mutant: Mutant) -> None:
    mutants.assert_killed(mutant)
