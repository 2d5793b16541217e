"""The tests of the queue see each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
TESTS = [HERE / f"test_{name}.py" for name in ("queue", "backfill", "places", "queue_model")]

ACCOUNT = "supereziod.leases.account"
ACQUIRING = "supereziod.leases.acquiring"
BOOK = "supereziod.leases.book"
BACKFILL = "supereziod.leases.backfill"
EVENTS = "supereziod.observability.events"
MANAGER = "supereziod.leases.manager"
PLACES = "supereziod.leases.places"
QUEUE = "supereziod.leases.queue"
WAITERS = "supereziod.leases.waiters"

MUTANTS = (
    Mutant(
        "lets a small one pass the head",
        QUEUE,
        "self._walk(self._order, backfill, to_the_end=to_the_end)",
        "self._walk(self._order, Backfill(capacities), to_the_end=to_the_end)",
    ),
    Mutant(
        "lets a newcomer pass those who wait",
        QUEUE,
        "        for _ in walk:\n            if backfill.full",
        "        for _ in ():\n            if backfill.full",
    ),
    Mutant(
        "looks no further than the head",
        QUEUE,
        "        for _ in walk:\n",
        "        for _ in islice(walk, 2):\n",
    ),
    Mutant(
        "passes over without bound",
        QUEUE,
        "or self._passed[before.id] >= self._max_passed",
        "",
    ),
    Mutant(
        "does not count who was passed over",
        QUEUE,
        "            self._passed[behind.id] += 1",
        "            pass",
    ),
    Mutant(
        "serves the last comer first",
        QUEUE,
        "if before.priority >= priority or",
        "if before.priority > priority or",
    ),
    Mutant(
        "lets one user fill the queue",
        QUEUE,
        "if mine >= self._per_uid:",
        "if False:",
    ),
    Mutant(
        "forgets that one of a user's waiters is gone",
        QUEUE,
        "        self._by_uid[waiting.uid] -= 1\n",
        "",
    ),
    Mutant(
        "tells a waiter nothing of those ahead",
        QUEUE,
        "self._walk(self._order, backfill, to_the_end=True)",
        "self._walk(self._order, Backfill(capacities), to_the_end=True)",
    ),
    Mutant(
        "counts on all that came before to end",
        BACKFILL,
        "        return self._sums[first] - missing",
        "        return self._sums[-1] - missing",
    ),
    Mutant(
        "takes it that use without a lease stays",
        BACKFILL,
        "self._sums[first - 1] + self._loose_bytes >= missing",
        "False",
    ),
    Mutant(
        "takes it that use without a lease ends as a whole",
        BACKFILL,
        "self._sums[first - 1] + self._loose_bytes >= missing",
        "self._sums[first - 1] + self._loose_bytes == missing",
    ),
    Mutant(
        "forgets who stands between",
        BACKFILL,
        "        self._ahead_bytes += need\n",
        "",
    ),
    Mutant(
        "takes it that those ahead are all served here",
        BACKFILL,
        "            self._sums = tuple(sorted({*self._sums, "
        "*(amount + need for amount in self._sums)}))\n",
        "            pass\n",
    ),
    Mutant(
        "goes by the last of those ahead",
        BACKFILL,
        "        if self.spare_bytes is not None and spare >= self.spare_bytes:\n"
        "            return\n",
        "",
    ),
    Mutant(
        "lets others onto a GPU that one ahead wants alone",
        BACKFILL,
        "        shuts = alone or self._alone\n",
        "        shuts = self._alone\n",
    ),
    Mutant(
        "lets others grow where one ahead has to wait for it",
        BACKFILL,
        "        shuts = alone or self._alone\n",
        "        shuts = alone\n",
    ),
    Mutant(
        "lets others have a part that one ahead would split over",
        BACKFILL,
        "whole = shuts or request.split",
        "whole = shuts",
    ),
    Mutant(
        "lets others have a GPU that admits one process",
        BACKFILL,
        'capacity.one_at_a_time or capacity.compute_mode == "exclusive_process"',
        "capacity.one_at_a_time",
    ),
    Mutant(
        "lets one go past with all that it splits where a part of it may",
        BACKFILL,
        "return more <= self.spare_bytes",
        "return request.split or more <= self.spare_bytes",
    ),
    Mutant(
        "lets an exclusive lease go past",
        BACKFILL,
        'if self.is_shut or request.policy == "exclusive" or sizes_itself:',
        "if self.is_shut or sizes_itself:",
    ),
    Mutant(
        "lets one that sizes itself go past",
        BACKFILL,
        'if self.is_shut or request.policy == "exclusive" or sizes_itself:',
        'if self.is_shut or request.policy == "exclusive":',
    ),
    Mutant(
        "keeps a GPU that nobody ahead could use",
        BACKFILL,
        "        for uuid in able:\n",
        "        for uuid in self._rooms:\n",
    ),
    Mutant(
        "keeps a host for one whose own leases keep it waiting",
        BACKFILL,
        "        if uid in self._uids:\n",
        "        if False:\n",
    ),
    Mutant(
        "keeps a GPU for one whose own lease keeps it from being alone there",
        BACKFILL,
        'elif not (request.policy == "exclusive" or _admits_one(capacity)):',
        "elif not _admits_one(capacity):",
    ),
    Mutant(
        "keeps a GPU beside one that the waiter's own lease has alone",
        BACKFILL,
        'elif not (request.policy == "exclusive" or _admits_one(capacity)):',
        'elif request.policy != "exclusive":',
    ),
    Mutant(
        "takes it that another's lease is in the way as one's own is",
        BACKFILL,
        "for size, owner in leases if owner == uid)",
        "for size, owner in leases)",
    ),
    Mutant(
        "lets a user hold off its own with later ones",
        BACKFILL,
        "        if uid is not None and uid in self._from_uid:\n",
        "        if False:\n",
    ),
    Mutant(
        "does not say whose the leases are",
        ACCOUNT,
        "claim_uids=tuple([part.uid for part in parts]),",
        "claim_uids=(),",
    ),
    Mutant(
        "forgets whose a lease is",
        BOOK,
        "            uid=record.uid,\n            grown_on=",
        "            grown_on=",
    ),
    Mutant(
        "forgets of a newcomer whose it is",
        ACQUIRING,
        "            uid=ask.caller.uid,\n        )\n        return withhold",
        "        )\n        return withhold",
    ),
    Mutant(
        "keeps healthy GPUs for one that needs a closed one, too",
        BACKFILL,
        "[capacity for capacity in capacities if _is_open(capacity)]",
        "list(capacities)",
    ),
    Mutant(
        "lets others past at a moment without a reading",
        BACKFILL,
        'capacity.block is None or capacity.block.code == "settling"',
        "capacity.block is None",
    ),
    Mutant(
        "lets a server wait for what it uses already",
        BACKFILL,
        "max(0, request.vram_bytes - own(uuid)),\n",
        "request.vram_bytes,\n",
    ),
    Mutant(
        "lets a server that uses a little have any amount",
        BACKFILL,
        "max(0, request.vram_bytes - own(uuid)),\n",
        "0 if own(uuid) else request.vram_bytes,\n",
    ),
    Mutant(
        "lets a server have a lease where one ahead wants to be alone",
        BACKFILL,
        "if self.is_shut or request.policy",
        "if request.policy",
    ),
    Mutant(
        "looks for one that wants to be alone only until all is kept",
        BACKFILL,
        "        if self.is_full and not shuts:\n",
        "        if self.is_full:\n",
    ),
    Mutant(
        "looks on for a server no further than until all is kept",
        QUEUE,
        "        to_the_end = request.presence.uses_any\n",
        "        to_the_end = False\n",
    ),
    Mutant(
        "serves no server behind those for whom all is kept",
        QUEUE,
        "        to_the_end = any(waiting.request.presence.uses_any for waiting in self._order)\n",
        "        to_the_end = False\n",
    ),
    Mutant(
        "forgets the leases beyond the largest",
        BACKFILL,
        "capacity.largest_bytes - capacity.free_bytes - sum(claims))",
        "capacity.largest_bytes - capacity.free_bytes - sum(capacity.claims_bytes))",
    ),
    Mutant(
        "does not say what each lease reserves",
        ACCOUNT,
        "claims_bytes=tuple([part.reserved_bytes for part in parts]),",
        "claims_bytes=(),",
    ),
    Mutant(
        "does not say where whoever is granted will grow",
        ACCOUNT,
        "one_at_a_time=self._estimates.opaque,",
        "one_at_a_time=False,",
    ),
    Mutant(
        "forgets in the queue that one sizes itself",
        ACQUIRING,
        "            sizes_itself=ask.params.sizes_itself,\n            subject=",
        "            subject=",
    ),
    Mutant(
        "forgets of a newcomer that it sizes itself",
        ACQUIRING,
        "            sizes_itself=ask.params.sizes_itself,\n            held_back=",
        "            held_back=",
    ),
    Mutant(
        "takes any priority",
        ACQUIRING,
        "priority=min(params.priority, caller.max_priority)",
        "priority=params.priority",
    ),
    Mutant(
        "tells of places at every step",
        PLACES,
        "self._next_ns = self._clock() + _PERIOD_NS",
        "self._next_ns = self._clock()",
    ),
    Mutant(
        "tells of a place that is what it was",
        PLACES,
        "        if told is None or self.position != told.position:\n",
        "        if True:\n",
    ),
    Mutant(
        "tells of a reason that is what it was",
        PLACES,
        'return self.code not in (told.code, "settling")',
        'return self.code != "settling"',
    ),
    Mutant(
        "tells of a moment without a reading",
        PLACES,
        'return self.code not in (told.code, "settling")',
        "return self.code != told.code",
    ),
    Mutant(
        "tells of a place once and never again",
        PLACES,
        "self._deadlines.set(_DUE, max(self._clock(), self._next_ns))",
        "self._next_ns or self._deadlines.set(_DUE, self._clock())",
    ),
    Mutant(
        "tells everybody of one's place",
        PLACES,
        "                    uid=waiting.uid,\n                    passing=True,\n",
        "                    uid=None,\n                    passing=True,\n",
    ),
    Mutant(
        "ends a wait with the reason of its beginning",
        WAITERS,
        "                pending.placement = placement  # what it is told if its time is up\n",
        "                pass\n",
    ),
    Mutant(
        "keeps places for a replay",
        EVENTS,
        "        if not passing:\n",
        "        if True:\n",
    ),
    Mutant(
        "does not tell those behind one that left",
        ACQUIRING,
        "        self._room.changed()\n",
        "",
    ),
    Mutant(
        "lets anybody take out anybody",
        MANAGER,
        "        if not caller.may_act_for(uid):\n",
        "        if False:\n",
    ),
    Mutant(
        "serves nobody when one was taken out",
        WAITERS,
        "                by_uid=by_uid,\n            )\n        self._on_left()\n",
        "                by_uid=by_uid,\n            )\n",
    ),
    Mutant(
        "leaves one that was taken out without an answer",
        WAITERS,
        '        self.refuse(pending, CancelledRequestError(words, data={"waiter": waiting.id}))\n',
        "        self._leave(pending)\n",
    ),
)

mutants, test_passes, test_the_suite_kills_a_queue_that = kept_list(
    MUTANTS, tests=TESTS, environment={"SUPEREZIO_MODEL_EXAMPLES": "150"}
)
