"""The model of those who wait sees each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
TESTS = [HERE / "test_waiting_model.py", HERE / "test_asked_again.py", HERE / "test_manager.py"]

ACQUIRING = "supereziod.leases.acquiring"
BOOK = "supereziod.leases.book"
MANAGER = "supereziod.leases.manager"
WAITERS = "supereziod.leases.waiters"

MUTANTS = (
    Mutant(
        "gives a retry a place of its own",
        WAITERS,
        "return self._by_key.get((uid, key))",
        "return None",
    ),
    Mutant(
        "gives a retry a lease of its own",
        BOOK,
        "lease_id = self._by_key.get((uid, key))",
        "lease_id = None",
    ),
    Mutant(
        "ends a wait with the first of its connections",
        WAITERS,
        "return bool(gone) and not pending.listeners",
        "return bool(gone)",
    ),
    Mutant(
        "ends no wait with its last connection",
        WAITERS,
        "return bool(gone) and not pending.listeners",
        "return False",
    ),
    Mutant(
        "ends a wait with the first that stops asking",
        WAITERS,
        "        if not pending.listeners:\n            self._abandon(pending)",
        "        if True:\n            self._abandon(pending)",
    ),
    Mutant(
        "keeps the place of whoever stopped asking",
        WAITERS,
        "        if not pending.listeners:\n            self._abandon(pending)",
        "        if False:\n            self._abandon(pending)",
    ),
    Mutant(
        "answers the newest of those who ask for one",
        WAITERS,
        "        for future in pending.listeners:\n            if not future.done():\n"
        "                future.set_result(lease)",
        "        for future in list(pending.listeners)[-1:]:\n            if not future.done():\n"
        "                future.set_result(lease)",
    ),
    Mutant(
        "says that it took out what was not there",
        MANAGER,
        "return Done(done=False)",
        "return Done(done=True)",
    ),
    Mutant(
        "hears a retry from the next turn on only",
        ACQUIRING,
        "            return self._room.answer(known, caller)\n",
        "            return self._room.listen(known, caller)\n",
    ),
    Mutant(
        "keeps the place of a retry that never began",
        WAITERS,
        "            if task.cancelled():  # before it began, perhaps\n",
        "            if False:\n",
    ),
    Mutant(
        "throws out who waits where its lease cannot be recorded",
        ACQUIRING,
        "            except StateNotWritableError:\n                return\n",
        "",
    ),
)

mutants, test_passes, test_the_suite_kills_one_that = kept_list(MUTANTS, tests=TESTS)
