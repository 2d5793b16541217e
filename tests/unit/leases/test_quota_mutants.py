"""The model of quotas sees each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

TESTS = [Path(__file__).parent / "test_quota_model.py"]

ACQUIRING = "supereziod.leases.acquiring"
BOOK = "supereziod.leases.book"
CAPACITY = "supereziod.leases.capacity"
MANAGER = "supereziod.leases.manager"
QUEUE = "supereziod.leases.queue"
QUOTAS = "supereziod.leases.quotas"

MUTANTS = (
    Mutant(
        "grants a lease more than a quota has",
        QUOTAS,
        '("leases", quota.leases, used.leases, claimed.leases, 1),',
        '("leases", quota.leases, used.leases, claimed.leases, 0),',
    ),
    Mutant(
        "gives each member of a group the quota of all",
        QUOTAS,
        "uses.by_gid.get(gid, _NOTHING),",
        "uses.by_uid.get(uid, _NOTHING),",
    ),
    Mutant(
        "lets an admin's leases count for its groups",
        CAPACITY,
        "return frozenset() if self.exempt else self.groups",
        "return self.groups",
    ),
    Mutant(
        "lets one that came later have the quota of one that waits for room",
        QUOTAS,
        "        self._claims.add(subject, vram_bytes)\n",
        "        if over is not None:\n            self._claims.add(subject, vram_bytes)\n",
    ),
    Mutant(
        "lets wait what one of two quotas can never give",
        QUOTAS,
        "                    if over.is_lasting:\n                        return over\n",
        "",
    ),
    Mutant(
        "keeps GPUs for one that is over its quota",
        QUEUE,
        "            if not is_back and (to_the_end or",
        "            if (to_the_end or",
    ),
    Mutant(
        "keeps GPUs from a newcomer for one that is over its quota",
        ACQUIRING,
        "sizes_itself=ask.params.sizes_itself,\n            held_back=line.held_back,\n",
        "sizes_itself=ask.params.sizes_itself,\n            held_back=lambda _: False,\n",
    ),
    Mutant(
        "grants to a waiter that is over its quota",
        QUEUE,
        "            if is_held_back:\n                continue\n",
        "",
    ),
    Mutant(
        "lets nobody behind one that is over its quota be served",
        QUEUE,
        "            if is_held_back:\n                continue\n",
        "            if is_held_back:\n                return None\n",
    ),
    Mutant(
        "serves nobody when quotas change",
        MANAGER,
        "        self._acquirer.review_quotas()\n        self._pump()\n",
        "        self._acquirer.review_quotas()\n",
    ),
    Mutant(
        "lets wait on what other quotas can never give",
        MANAGER,
        "        self._acquirer.review_quotas()\n",
        "",
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
)

mutants, test_passes, test_the_model_notices_a_daemon_that = kept_list(
    MUTANTS, tests=TESTS, environment={"SUPEREZIO_QUOTA_EXAMPLES": "120"}
)
