"""The model of leases that size themselves sees each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

TESTS = [Path(__file__).parent / "test_growing_model.py"]

ACCOUNT = "supereziod.leases.account"
BOOK = "supereziod.leases.book"
GROWTH = "supereziod.leases.growth"
LEDGER = "supereziod.leases.ledger"
OBSERVER = "supereziod.leases.observer"
REFUSALS = "supereziod.leases.refusals"

MUTANTS = (
    Mutant(
        "lets a lease start where another is growing",
        REFUSALS,
        "    if capacity.growing and not capacity.exclusive:\n",
        "    if False:\n",
    ),
    Mutant(
        "counts samples before anything is loaded",
        GROWTH,
        "        if counted or self._recent:\n",
        "        if True:\n",
    ),
    Mutant(
        "counts from a tenth",
        GROWTH,
        "COUNTED_FROM_PERCENT: Final = 5",
        "COUNTED_FROM_PERCENT: Final = 10",
    ),
    Mutant(
        "takes a change of 2 percent for none",
        GROWTH,
        "< most * STABLE_WITHIN_PERCENT",
        "<= most * STABLE_WITHIN_PERCENT",
    ),
    Mutant(
        "compares the last sample with the first of three alone",
        GROWTH,
        "return (most - min(self._recent)) * 100",
        "return abs(self._recent[0] - self._recent[-1]) * 100",
    ),
    Mutant(
        "takes passes in quick succession for samples",
        GROWTH,
        "if taken_ns - self._seen_ns >= SPACING_NS:",
        "if True:",
    ),
    Mutant(
        "takes what its holder used before for growth",
        ACCOUNT,
        "base_bytes=0 if restored else share.actual_bytes,",
        "base_bytes=0,",
    ),
    Mutant(
        "lets a lease grow for ever",
        GROWTH,
        "return self._stability.is_stable or now_ns - self._started_ns >= timeout_ns",
        "return self._stability.is_stable",
    ),
    Mutant(
        "counts five minutes from a restart",
        LEDGER,
        "now_ns=now_ns if claim.granted_ns is None else claim.granted_ns,",
        "now_ns=now_ns,",
    ),
    Mutant(
        "does not take a lease's word that it is ready",
        ACCOUNT,
        "        part.sizing = None\n        part.growth.has_grown = True\n",
        "        part.growth.has_grown = True\n",
    ),
    Mutant(
        "does not tell that a lease has grown",
        ACCOUNT,
        "for part in growing if not part.is_growing",
        "for part in growing if part.is_growing",
    ),
    Mutant(
        "lets grow again what has grown",
        LEDGER,
        "sizes_itself=claim.sizes_itself and uuid not in claim.grown_on,",
        "sizes_itself=claim.sizes_itself,",
    ),
    Mutant(
        "does not record what has grown",
        OBSERVER,
        "                self._book.note_grown(lease, notice.uuid)\n",
        "                pass\n",
    ),
    Mutant(
        "forgets at a restart what has grown",
        BOOK,
        "            grown_on=record.grown_on,\n",
        "",
    ),
)

mutants, test_passes, test_the_model_notices_a_daemon_that = kept_list(MUTANTS, tests=TESTS)
