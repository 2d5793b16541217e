"""The model of placement, by itself, sees each of these faults: what the rules forbid, it notices.

A test that was written with a fault in mind finds that fault. The model knows none of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

TESTS = [Path(__file__).parent / "test_placement_model.py"]
PLACEMENT = "supereziod.leases.placement"
REFUSALS = "supereziod.leases.refusals"
SPLIT = "supereziod.leases.split"

MUTANTS = (
    Mutant(
        "admits a byte more than is free",
        REFUSALS,
        "if refusal is None and need > capacity.free_bytes:",
        "if refusal is None and need > capacity.free_bytes + 1:",
    ),
    Mutant(
        "lets others onto the GPU of an exclusive lease",
        REFUSALS,
        "    if capacity.exclusive:\n",
        "    if False:\n",
    ),
    Mutant(
        "lets a lease onto a GPU where another is growing",
        REFUSALS,
        "    if capacity.growing and not capacity.exclusive:\n",
        "    if False:\n",
    ),
    Mutant(
        "lets a lease onto an EXCLUSIVE_PROCESS GPU that another has not loaded on yet",
        REFUSALS,
        "    if capacity.leases:\n        who",
        "    if False:\n        who",
    ),
    Mutant(
        "takes an unreadable process list for an empty one",
        REFUSALS,
        "    elif capacity.processes is None:\n",
        "    elif False:\n",
    ),
    Mutant(
        "takes an unknown display for none",
        REFUSALS,
        "if request.no_display and capacity.drives_display is not False:",
        "if request.no_display and capacity.drives_display:",
    ),
    Mutant("asks for more than the capability", REFUSALS, "if has < least:", "if has <= least:"),
    Mutant(
        "lets a constraint that no GPU meets wait",
        REFUSALS,
        "return capacity.block is not None and unfit[0] in _UNKNOWN",
        "return True",
    ),
    Mutant(
        "takes an unknown margin for a cool one",
        PLACEMENT,
        "_NO_MARGIN: Final = -1000",
        "_NO_MARGIN: Final = 1000",
    ),
    Mutant(
        "does not draw a model to its like",
        PLACEMENT,
        "apart = not _has_model(request, capacity)",
        "apart = False",
    ),
    Mutant(
        "draws to the model of another user",
        PLACEMENT,
        "return request.model is not None and request.model in capacity.models",
        "return request.model is not None and request.model[1] in {n for _, n in capacity.models}",
    ),
    Mutant(
        "breaks ties on the index",
        PLACEMENT,
        "return place, apart, capacity.warm, rank(capacity), capacity.uuid",
        "return place, apart, capacity.warm, rank(capacity), str(capacity.index)",
    ),
    Mutant(
        "splits over one GPU too many",
        SPLIT,
        "            return parts\n",
        "            return min(parts + 1, len(sizes))\n",
    ),
    Mutant(
        "loses the bytes that do not come out even",
        SPLIT,
        "for place in by_fraction[:uneven]:",
        "for place in by_fraction[:0]:",
    ),
    Mutant(
        "gives a GPU a part that serves nobody",
        SPLIT,
        "return max(1, min(LEAST_PART_BYTES, need // (2 * parts)))",
        "return 1",
    ),
    Mutant(
        "keeps no GPU for a split that waits",
        PLACEMENT,
        "capacity.uuid for capacity, takes in zip(able, takes_part, strict=True) if takes",
        "capacity.uuid for capacity, takes in zip(able, takes_part, strict=True) if not takes",
    ),
    Mutant(
        "asks a split to fit one GPU before it is looked at",
        PLACEMENT,
        "    if request.split:\n        roomy",
        "    if False:\n        roomy",
    ),
)

mutants, test_passes, test_the_model_notices_a_decision_that = kept_list(
    MUTANTS, tests=TESTS, environment={"SUPEREZIO_PLACEMENT_EXAMPLES": "600"}
)
