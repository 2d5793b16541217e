"""The tests of placement and ledger see each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

#: What the model of the ledger has no part in.
HERE = Path(__file__).parent
TESTS = [
    HERE / f"test_{name}.py"
    for name in ("placement", "constraints", "split", "queue", "compute_mode", "quotas", "ledger")
]

ACQUIRING = "supereziod.leases.acquiring"
ACCOUNT = "supereziod.leases.account"
SHARES = "supereziod.leases.shares"
PLACEMENT = "supereziod.leases.placement"
REFUSALS = "supereziod.leases.refusals"
SPLIT = "supereziod.leases.split"
QUOTAS = "supereziod.leases.quotas"
BOOK = "supereziod.leases.book"
QUEUE = "supereziod.leases.queue"

MUTANTS = (
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
        "return max(0, taken.used_bytes - actual - self._returns.residual_bytes)",
        "return taken.used_bytes - actual - self._returns.residual_bytes",
    ),
    Mutant(
        "breaks ties on the index",
        PLACEMENT,
        "return place, apart, capacity.warm, rank(capacity), capacity.uuid",
        "return place, apart, capacity.warm, rank(capacity), str(capacity.index)",
    ),
    Mutant(
        "takes a warm GPU like any other",
        PLACEMENT,
        "return place, apart, capacity.warm, rank(capacity), capacity.uuid",
        "return place, apart, False, rank(capacity), capacity.uuid",
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
        REFUSALS,
        "if capacity.block is not None and capacity.block.code in LASTING_BLOCKS:",
        "if capacity.block is not None:",
    ),
    Mutant(
        "grants on an avoided GPU",
        REFUSALS,
        '    if capacity.uuid in request.avoid:\n        return "avoided"',
        '    if False:\n        return "avoided"',
    ),
    Mutant(
        "lets others onto the GPU of an exclusive lease",
        REFUSALS,
        "    if capacity.exclusive:\n",
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
        "gives an EXCLUSIVE_PROCESS GPU away while a release is on its way",
        REFUSALS,
        "    elif capacity.returning_bytes:\n",
        "    elif False:\n",
    ),
    Mutant(
        "takes an unknown compute capability for a new one",
        REFUSALS,
        '    if has is None:\n        return "capability_unknown"',
        '    if False:\n        return "capability_unknown"',
    ),
    Mutant("asks for more than the capability", REFUSALS, "if has < least:", "if has <= least:"),
    Mutant(
        "takes an unknown display for none",
        REFUSALS,
        "if request.no_display and capacity.drives_display is not False:",
        "if request.no_display and capacity.drives_display:",
    ),
    Mutant(
        "lets a constraint that no GPU meets wait",
        REFUSALS,
        "return capacity.block is not None and unfit[0] in _UNKNOWN",
        "return True",
    ),
    Mutant(
        "calls never what is not known yet",
        REFUSALS,
        "return capacity.block is not None and unfit[0] in _UNKNOWN",
        "return False",
    ),
    Mutant(
        "takes an unknown margin for a cool one",
        PLACEMENT,
        "_NO_MARGIN: Final = -1000",
        "_NO_MARGIN: Final = 1000",
    ),
    Mutant(
        "ranks the hottest first",
        PLACEMENT,
        "return (-_margin_c(capacity), *_most_room(capacity))",
        "return (_margin_c(capacity), *_most_room(capacity))",
    ),
    Mutant(
        "does not draw a model to its like",
        PLACEMENT,
        "apart = not _has_model(request, capacity)",
        "apart = False",
    ),
    Mutant(
        "puts the model before what is preferred",
        PLACEMENT,
        "return place, apart, capacity.warm, rank(capacity), capacity.uuid",
        "return int(apart), bool(place), capacity.warm, rank(capacity), capacity.uuid",
    ),
    Mutant(
        "draws to the model of another user",
        PLACEMENT,
        "return request.model is not None and request.model in capacity.models",
        "return request.model is not None and request.model[1] in {n for _, n in capacity.models}",
    ),
    Mutant(
        "splits over one GPU too many",
        SPLIT,
        "            return parts\n",
        "            return min(parts + 1, len(sizes))\n",
    ),
    Mutant(
        "splits in equal parts",
        SPLIT,
        "shares = [rest * size // room if room else 0 for size in beyond]",
        "shares = [rest // len(beyond) for size in beyond]",
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
        "splits over the first GPUs whether they hold it or not",
        SPLIT,
        "held + size + sum(nlargest(missing, later)) >= need",
        "True",
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
    Mutant(
        "gives llama.cpp proportions in another order",
        SPLIT,
        'return ",".join(str(part // common) for part in parts)',
        'return ",".join(str(part // common) for part in sorted(parts))',
    ),
    Mutant(
        "grants a quota full and one more",
        QUOTAS,
        "has + waits + needs > limit:",
        "has + waits + needs > limit + needs:",
    ),
    Mutant(
        "gives each member of a group the quota of all",
        QUOTAS,
        "uses.by_gid.get(gid, _NOTHING),",
        "uses.by_uid.get(uid, _NOTHING),",
    ),
    Mutant(
        "holds a user with its own quota to the default",
        QUOTAS,
        "own = rules.by_uid.get(uid, rules.default)",
        "own = rules.default",
    ),
    Mutant(
        "holds an admin to a quota",
        QUOTAS,
        "if subject.exempt or not self.in_force:\n            return None\n        first: ",
        "if not self.in_force:\n            return None\n        first: ",
    ),
    Mutant(
        "forgets at a restart for which groups a lease counts",
        BOOK,
        "subject = Subject(uid=record.uid, groups=frozenset(record.groups))",
        "subject = Subject(uid=record.uid)",
    ),
    Mutant(
        "counts a lease that is over",
        BOOK,
        "            self._quotas.remove(record.id)\n",
        "",
    ),
    Mutant(
        "keeps GPUs for one that is over its quota",
        QUEUE,
        "            if not is_back and (to_the_end or",
        "            if (to_the_end or",
    ),
    Mutant(
        "grants to a waiter that is over its quota",
        QUEUE,
        "            if is_held_back:\n                continue\n",
        "",
    ),
    Mutant(
        "lets small ones take the quota that a large one ahead waits for",
        QUOTAS,
        "        self._claims.add(subject, vram_bytes)\n",
        "",
    ),
    Mutant(
        "lets a higher priority have without bound what a quota leaves",
        QUOTAS,
        "queue.ahead(priority=priority):",
        "[one for one in queue if one.priority >= priority]:",
    ),
    Mutant(
        "lets a higher priority be granted without bound what a quota leaves",
        ACQUIRING,
        "        return withhold(placement, line.breach(ask.caller",
        "        line = self._quotas.line()\n"
        "        return withhold(placement, line.breach(ask.caller",
    ),
    Mutant(
        "lets wait what a quota can never give",
        QUOTAS,
        "lasting=over.is_lasting,",
        "lasting=False,",
    ),
)

mutants, test_passes, test_the_suite_kills_a_decision_that = kept_list(
    MUTANTS, tests=TESTS, environment={"SUPEREZIO_MODEL_EXAMPLES": "150"}
)
