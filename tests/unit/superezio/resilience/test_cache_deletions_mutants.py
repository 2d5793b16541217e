"""The model of deletions sees each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

TESTS = [Path(__file__).parent / "test_cache_deletions_model.py"]

CACHE = "superezio.resilience.cache"
ENTRIES = "superezio.resilience.entries"
NAMESPACES = "superezio.resilience.namespaces"

MUTANTS = (
    Mutant(
        "serves what was deleted by tag until it has gone",
        CACHE,
        "        if space.cleared and entry.is_outdated:\n",
        "        if False:\n",
    ),
    Mutant(
        "deletes again what was deleted by tag",
        ENTRIES,
        "        if entry is not None and space.cleared and entry.is_outdated:\n",
        "        if False:\n",
    ),
    Mutant(
        "lets what lives go before what was deleted by tag",
        ENTRIES,
        "self._drop_one(space.ends, space.cleared)",
        "self._drop_one(space.ends, deque())",
    ),
    Mutant(
        "lets what lives of an owner go before what was deleted by tag",
        ENTRIES,
        "            if space.owner is not None:\n"
        "                _forget_empty(space.owner.cleared)\n"
        "                space.owner.cleared.append(tagged)\n",
        "",
    ),
    Mutant(
        "leaves what was deleted by tag",
        ENTRIES,
        "for cleared in (self._cleared, space.cleared):",
        "for cleared in (space.cleared,):",
    ),
    Mutant(
        "takes what gets a tag later for deleted with it",
        ENTRIES,
        "tagged = space.tagged.pop(tag, None)",
        "tagged = space.tagged.get(tag)",
    ),
    Mutant(
        "forgets a tag as something goes that had it before",
        ENTRIES,
        "        if not tagged.entries and entry.space.tagged.get(tagged.tag) is tagged:\n",
        "        if tagged.tag in entry.space.tagged:\n",
    ),
    Mutant(
        "looks at one tag alone for whether all with it were deleted",
        NAMESPACES,
        "return any(each.is_deleted for each in self.tagged)",
        "return self.tagged[0].is_deleted if self.tagged else False",
    ),
    Mutant(
        "lets a deletion by tag miss what is being fetched",
        CACHE,
        "            space.pending.invalidations.add_tag(tag, self._fills.advance())\n",
        "            self._fills.advance()\n",
    ),
    Mutant(
        "leaves the tags of what has gone",
        ENTRIES,
        "        if not tagged.entries and entry.space.tagged.get(tagged.tag) is tagged:\n",
        "        if tagged.entries and entry.space.tagged.get(tagged.tag) is tagged:\n",
    ),
)

mutants, test_passes, test_the_model_notices_a_cache_that = kept_list(MUTANTS, tests=TESTS)
