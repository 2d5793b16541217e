"""The tests of MIG instances see each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

UNIT = Path(__file__).parents[1]
TESTS = [
    UNIT / "gpu" / "test_instances.py",
    UNIT / "gpu" / "test_admission.py",
    UNIT / "gpu" / "test_worker.py",
    UNIT / "leases" / "test_mig_placement.py",
    UNIT / "rpc" / "test_gpu_names.py",
    UNIT / "health" / "test_checks.py",
    UNIT / "gpu" / "test_instances_model.py",
]

ADMISSION = "supereziod.gpu.admission"
INSTANCES = "supereziod.gpu.instances"
WORKER = "supereziod.gpu.worker"
PLACEMENT = "supereziod.leases.placement"
REFUSALS = "supereziod.leases.refusals"
LEDGER = "supereziod.leases.ledger"
ACCOUNT = "supereziod.leases.account"
NAMES = "supereziod.rpc.gpu_names"
CHECKS = "supereziod.health.checks"

MUTANTS = (
    Mutant(
        "lets a hot GPU's instances admit",
        ADMISSION,
        "if gpu_block is not None and gpu_block.code not in _OF_THE_WHOLE:",
        "if False:",
    ),
    Mutant(
        "blocks instances because their GPU is cut up",
        ADMISSION,
        '_OF_THE_WHOLE: Final = frozenset({"mig_enabled", "no_permission"})',
        "_OF_THE_WHOLE: Final = frozenset()",
    ),
    Mutant(
        "lets the whole GPU be leased while MIG is on",
        ADMISSION,
        '    if mig_mode == "enabled":\n',
        "    if False:\n",
    ),
    Mutant(
        "keeps the figures of an instance that may not be read",
        INSTANCES,
        "            self.sample = self.last_pass = None\n        elif",
        "            pass\n        elif",
    ),
    Mutant(
        "takes a fast sample for a pass",
        INSTANCES,
        "            if reading.sample.processes is not None:\n",
        "            if True:\n",
    ),
    Mutant(
        "calls an instance that may not be read unknown",
        ADMISSION,
        'code="no_permission" if forbidden else status',
        "code=status",
    ),
    Mutant(
        "forgets an instance that vanished under a lease",
        INSTANCES,
        "if not self._tell.leases_on(track.uuid):",
        "if True:",
    ),
    Mutant(
        "keeps an instance that vanished for ever",
        INSTANCES,
        "if not self._tell.leases_on(track.uuid):",
        "if False:",
    ),
    Mutant(
        "does not notice that an instance vanished",
        INSTANCES,
        "            if track.uuid not in listed:\n",
        "            if False:\n",
    ),
    Mutant(
        "leases two compute instances that share one memory",
        ADMISSION,
        "    if shares_memory:\n",
        "    if False:\n",
    ),
    Mutant(
        "loses the cordon of an instance that comes back",
        INSTANCES,
        "track.cordon_reason = self._records.cordons.get(reading.uuid)",
        "track.cordon_reason = None",
    ),
    Mutant(
        "tells of a hot GPU without the leases on its instances",
        "supereziod.gpu.announcements",
        "for uuid in (track.uuid, *instances)",
        "for uuid in (track.uuid,)",
    ),
    Mutant(
        "asks every GPU for instances",
        WORKER,
        'if self._mig_mode == "enabled":',
        'if self._mig_mode != "disabled":',
    ),
    Mutant(
        "puts a program on several instances",
        REFUSALS,
        "    if _is_one_of_several(request, capacity):\n",
        "    if False:\n",
    ),
    Mutant(
        "waits for several instances for ever",
        REFUSALS,
        " or _is_one_of_several(request, capacity):\n",
        ":\n",
    ),
    Mutant(
        "waits for a permission as if it came by itself",
        REFUSALS,
        '"mig_shared", "no_permission"}',
        '"mig_shared"}',
    ),
    Mutant(
        "calls a GPU overcommitted by what is on its instances",
        ACCOUNT,
        "        if view.is_cut_up:\n",
        "        if False:\n",
    ),
    Mutant(
        "waits for ever for what an instance that is gone had",
        LEDGER,
        "        self._forget_all_but(snapshot)\n",
        "",
    ),
    Mutant(
        "drops the claim on an instance that is gone",
        LEDGER,
        "there.update(uuid for claim in self._claims.values() for uuid in claim.reserved)",
        "pass",
    ),
    Mutant(
        "takes an index for an instance as well",
        NAMES,
        "found = [gpu for gpu in snapshot.gpus if gpu.identity.place == place]",
        "found = [g for g in snapshot.gpus if str(g.identity.index) == place][::-1]",
    ),
    Mutant(
        "avoids a GPU and not its instances",
        NAMES,
        "found += [p.uuid for p in parts if p.identity.mig and p.identity.mig.parent == uuid]",
        "pass",
    ),
    Mutant(
        "tells of one hot GPU for each of its instances",
        CHECKS,
        "_findings([gpu for gpu in snapshot.gpus if gpu.identity.mig is None], describe)",
        "_findings(snapshot.gpus, describe)",
    ),
)

mutants, test_passes, test_the_suite_kills_a_daemon_that = kept_list(MUTANTS, tests=TESTS)
