"""The model of leases on MIG instances sees each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

TESTS = [Path(__file__).parent / "test_mig_model.py"]

ADMISSION = "supereziod.gpu.admission"
INSTANCES = "supereziod.gpu.instances"
LEDGER = "supereziod.leases.ledger"
REFUSALS = "supereziod.leases.refusals"

MUTANTS = (
    Mutant(
        "lets the whole GPU be leased while MIG is on",
        ADMISSION,
        '    if mig_mode == "enabled":\n',
        "    if False:\n",
    ),
    Mutant(
        "blocks instances because their GPU is cut up",
        ADMISSION,
        '_OF_THE_WHOLE: Final = frozenset({"mig_enabled", "no_permission"})',
        "_OF_THE_WHOLE: Final = frozenset()",
    ),
    Mutant(
        "calls an instance that may not be read unknown",
        ADMISSION,
        'code="no_permission" if forbidden else status',
        "code=status",
    ),
    Mutant(
        "calls an instance that was never read too small",
        REFUSALS,
        "    if capacity.block is not None and not capacity.largest_bytes:\n",
        "    if False:\n",
    ),
    Mutant(
        "puts a program on several instances",
        REFUSALS,
        "return capacity.mig_index is not None and (request.count > 1 or request.split)",
        "return False",
    ),
    Mutant(
        "puts parts of a split on instances",
        REFUSALS,
        "return capacity.mig_index is not None and (request.count > 1 or request.split)",
        "return capacity.mig_index is not None and request.count > 1",
    ),
    Mutant(
        "forgets an instance that vanished under a lease",
        INSTANCES,
        "if not self._tell.leases_on(track.uuid):",
        "if True:",
    ),
    Mutant(
        "does not notice that an instance vanished",
        INSTANCES,
        "            if track.uuid not in listed:\n",
        "            if False:\n",
    ),
    Mutant(
        "keeps one account of all instances",
        LEDGER,
        "        account = self._accounts.get(uuid)\n        if account",
        "        uuid = uuid[:4]\n        account = self._accounts.get(uuid)\n        if account",
    ),
)

mutants, test_passes, test_the_model_notices_a_daemon_that = kept_list(MUTANTS, tests=TESTS)
