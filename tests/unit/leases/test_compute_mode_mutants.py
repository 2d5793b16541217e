"""The model of compute modes sees each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

TESTS = [Path(__file__).parent / "test_compute_mode_model.py"]

ACCOUNT = "supereziod.leases.account"
ADMISSION = "supereziod.gpu.admission"
ADOPTION = "supereziod.leases.adoption"
PRESENCE = "supereziod.leases.presence"
REFUSALS = "supereziod.leases.refusals"

MUTANTS = (
    Mutant(
        "lets a lease onto a GPU that another has not loaded on yet",
        REFUSALS,
        "    if capacity.leases:\n        who",
        "    if False:\n        who",
    ),
    Mutant(
        "gives a GPU on before it was given back",
        REFUSALS,
        "    elif capacity.returning_bytes:\n",
        "    elif False:\n",
    ),
    Mutant(
        "lets a lease onto a GPU that a process has",
        REFUSALS,
        "    elif capacity.processes:\n",
        "    elif False:\n",
    ),
    Mutant(
        "takes an unreadable process list for an empty one",
        REFUSALS,
        "    elif capacity.processes is None:\n",
        "    elif False:\n",
    ),
    Mutant(
        "leases for no process what it has",
        ADOPTION,
        "processes=0 if uuid in presence.used else capacity.processes,",
        "processes=capacity.processes,",
    ),
    Mutant(
        "leases for anybody what a process has",
        ACCOUNT,
        "return any(pid in owners and owners[pid] is None for pid in pids)",
        "return None in owners.values()",
    ),
    Mutant(
        "forgets that a process had a lease before",
        ACCOUNT,
        "            if self._pass is not None:\n"
        "                self._pass.owners.update(dict.fromkeys(pids))\n",
        "",
    ),
    Mutant(
        "lets a server move",
        PRESENCE,
        "return () if self.may_move else self.used",
        "return ()",
    ),
    Mutant(
        "leases a GPU in mode PROHIBITED",
        ADMISSION,
        'if details is not None and details.compute_mode == "prohibited":',
        "if False:",
    ),
    Mutant(
        "leases no GPU in mode EXCLUSIVE_PROCESS",
        ADMISSION,
        'if details is not None and details.compute_mode == "prohibited":',
        'if details is not None and details.compute_mode != "default":',
    ),
)

mutants, test_passes, test_the_model_notices_a_daemon_that = kept_list(MUTANTS, tests=TESTS)
