"""The soak sees each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

TESTS = [Path(__file__).with_name("test_soak.py")]

ACCOUNT = "supereziod.leases.account"
ACQUIRING = "supereziod.leases.acquiring"
BOOK = "supereziod.leases.book"
DESCENT = "supereziod.leases.descent"
GROWTH = "supereziod.leases.growth"
DRAINING = "supereziod.leases.draining"
MANAGER = "supereziod.leases.manager"
PLACEMENT = "supereziod.leases.placement"
QUEUE = "supereziod.leases.queue"
QUOTAS = "supereziod.leases.quotas"
READINGS = "supereziod.leases.readings"
REFUSALS = "supereziod.leases.refusals"
REVOKING = "supereziod.leases.revoking"
SPLIT = "supereziod.leases.split"
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
        '        self._book.lose(lease, "revoked", words, **known)\n',
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
    Mutant(
        "goes on by the quotas of before",
        MANAGER,
        "        self._quotas.set_rules(rules)\n",
        "",
    ),
    Mutant(
        "forgets at a restart which groups a lease counts for",
        BOOK,
        "subject = Subject(uid=record.uid, groups=frozenset(record.groups))",
        "subject = Subject(uid=record.uid)",
    ),
    Mutant(
        "counts a lease that is over for its user's quota",
        QUOTAS,
        "        _take(self.by_uid, subject.uid, vram_bytes)\n",
        "",
    ),
    Mutant(
        "lets a small acquire take the quota that a large one waits for",
        QUOTAS,
        "        self._claims.add(subject, vram_bytes)\n",
        "        pass\n",
    ),
    Mutant(
        "loses bytes of a split",
        SPLIT,
        "        shares[place] += 1\n",
        "        pass\n",
    ),
    Mutant(
        "splits over more GPUs than it takes",
        PLACEMENT,
        "return split.fewest(free, request.vram_bytes) or min(",
        "return min(",
    ),
    Mutant(
        "has no eye for a model",
        PLACEMENT,
        "        apart = not _has_model(request, capacity)\n",
        "        apart = False\n",
    ),
    Mutant(
        "lets a second lease in where one process is let in",
        REFUSALS,
        '    if capacity.leases:\n        who = "a lease is on it"\n    elif',
        "    if",
    ),
    Mutant(
        "does not see who has a GPU that lets in one process",
        REFUSALS,
        "    elif capacity.processes:\n",
        "    elif False:\n",
    ),
    Mutant(
        "gives a program two MIG instances",
        REFUSALS,
        "    return capacity.mig_index is not None and (request.count > 1 or request.split)\n",
        "    return False\n",
    ),
    Mutant(
        "takes what its instances use for a card's own",
        MANAGER,
        "gpu.last_pass is None or gpu.is_cut_up}",
        "gpu.last_pass is None}",
    ),
    Mutant(
        "binds a server to the whole of a card that is cut up",
        ACCOUNT,
        "        self._cut_up = view.is_cut_up\n",
        "",
    ),
    Mutant(
        "leases for a server where it is not",
        ACQUIRING,
        "may_move=pid is None",
        "may_move=True",
    ),
    Mutant(
        "does not look who takes a lease over",
        MANAGER,
        "        self._let_hold(lease, caller)\n",
        "",
    ),
    Mutant(
        "takes two like passes for the end of growth",
        GROWTH,
        "STABLE_PASSES: Final = 3",
        "STABLE_PASSES: Final = 2",
    ),
    Mutant(
        "grants on a card that is too old",
        REFUSALS,
        "    if has < least:\n",
        "    if False:\n",
    ),
)

# The control is test_soak.py itself, which takes a minute.
mutants, _, test_the_soak_kills_one_that = kept_list(MUTANTS, tests=TESTS)
