"""The tests of the seal, and of who may bring about how many events, see each of these faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
SEALING = "supereziod.resilience.sealing"
EVENT_RATE = "supereziod.resilience.event_rate"
JUDGES = {SEALING: [HERE / "test_sealing.py"], EVENT_RATE: [HERE / "test_event_rate.py"]}

MUTANTS = (
    Mutant(
        "leaves the half in the state whole",
        SEALING,
        "            self._documents.put(_DOCUMENT, _BROKEN)\n",
        "",
    ),
    Mutant(
        "leaves the half in the file whole",
        SEALING,
        "was_removed = self._remove()",
        "was_removed = True",
    ),
    Mutant("goes by the file alone", SEALING, " and kept == left", ""),
    Mutant(
        "goes by the state alone",
        SEALING,
        "return was_removed and left is not None and kept == left",
        "return kept not in {None, _BROKEN}",
    ),
    Mutant(
        "takes two halves that are missing for a seal",
        SEALING,
        " and left is not None and",
        " and",
    ),
    Mutant("takes what cannot be removed for broken", SEALING, "return was_removed and", "return"),
    Mutant(
        "takes a state that cannot be written for sealed",
        SEALING,
        "        except StorageError:\n            return False\n",
        "        except StorageError:\n            return left is not None\n",
    ),
    Mutant("seals each life alike", SEALING, "os.urandom(16).hex().encode()", 'b"sealed"'),
    Mutant("lets all events through", EVENT_RATE, "if user.rate.acquire(now_ns):", "if False:"),
    Mutant("does not count", EVENT_RATE, "            user.left_out += 1\n", ""),
    Mutant(
        "tells the count again",
        EVENT_RATE,
        "left_out, user.left_out = user.left_out, 0",
        "left_out = user.left_out",
    ),
    Mutant("forgets counts that were not told", EVENT_RATE, "if user.left_out or not", "if not"),
    Mutant("forgives who has used its burst", EVENT_RATE, " or not user.rate.is_full(now_ns)", ""),
    Mutant(
        "has one user pay for another",
        EVENT_RATE,
        "uid = by if owner is None else owner",
        "uid = None",
    ),
    Mutant(
        "looks at a whole crowd for each that comes",
        EVENT_RATE,
        "max(_USERS, 2 * len(self._by_uid))",
        "_USERS",
    ),
    Mutant(
        "looks at a whole crowd for each that comes a little later",
        EVENT_RATE,
        "max(_USERS, 2 * len(self._by_uid))",
        "max(_USERS, 1 + len(self._by_uid))",
    ),
    Mutant(
        "keeps as many as there ever were",
        EVENT_RATE,
        "max(_USERS, 2 * len(self._by_uid))",
        "2 * self._sweep_at",
    ),
)

mutants, test_passes, test_the_suite_kills_one_that = kept_list(
    MUTANTS, tests=lambda mutant: JUDGES[mutant.module]
)
