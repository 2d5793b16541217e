"""The tests of lifetimes see each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
TESTS = [HERE / "test_lifetimes.py"]

ADOPTION = [HERE / "test_adoption.py", HERE / "test_lost_while_running.py"]
CONDUCT = [HERE / "test_conduct.py", HERE / "test_idle_model.py"]
LINKS = [HERE / "test_links.py", HERE / "test_holders.py"]
PROCESSES = [HERE / "test_processes_of_a_user.py"]
SIZING = [HERE / "test_sizing.py"]
PARTING = [HERE / "test_parting.py"]
KINSHIP = [HERE / "test_kinship.py"]
SUSPENDED = [HERE / "test_suspended.py"]

ACCOUNT = "supereziod.leases.account"
BOOK = "supereziod.leases.book"
CONDUCT_PY = "supereziod.leases.conduct"
GROWTH = "supereziod.leases.growth"
HOLDERS = "supereziod.leases.holders"
DESCENT = "supereziod.leases.descent"
IDLE = "supereziod.leases.idle"
KINSHIP_PY = "supereziod.leases.kinship"
LINKS_PY = "supereziod.leases.links"
LEDGER = "supereziod.leases.ledger"
MANAGER = "supereziod.leases.manager"
OBSERVER = "supereziod.leases.observer"
READINGS = "supereziod.leases.readings"
SHARES = "supereziod.leases.shares"
STORE = "supereziod.leases.store"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "ends a ttl lease right after a restart",
        BOOK,
        "max(lease.record.expires_ns, grace_ns, half_ns)",
        "max(lease.record.expires_ns, half_ns)",
    ),
    Mutant(
        "cuts a long ttl at a restart",
        BOOK,
        "max(lease.record.expires_ns, grace_ns, half_ns)",
        "max(grace_ns, half_ns)",
    ),
    Mutant(
        "leaves no time for the next renewal of a long ttl",
        BOOK,
        "max(lease.record.expires_ns, grace_ns, half_ns)",
        "max(lease.record.expires_ns, grace_ns)",
    ),
    Mutant(
        "forgets a renewal that could not be recorded",
        STORE,
        "            self._owed[record.id] = record\n",
        "            pass\n",
    ),
    Mutant(
        "records a renewal of a lease that was released since",
        STORE,
        "        self._owed.pop(lease, None)\n        self._note_released",
        "        self._note_released",
    ),
    Mutant(
        "gives no grace after a restart",
        BOOK,
        "                self._ends.set(lease.id, grace_ns)\n",
        "                pass\n",
    ),
    Mutant(
        "does not commit a renewal",
        BOOK,
        "        self._store.keep(lease.record)\n",
        "",
    ),
    Mutant(
        "counts a renewal from the old end",
        BOOK,
        "ends_ns = self._clock() + ttl_ms * _NS_PER_MS",
        "ends_ns = (self.ends_ns(lease) or 0) + ttl_ms * _NS_PER_MS",
    ),
    Mutant(
        "forgets the ttl that a renewal set",
        BOOK,
        "structs.replace(lease.record, ttl_ms=ttl_ms, expires_ns=ends_ns)",
        "structs.replace(lease.record, expires_ns=ends_ns)",
    ),
    Mutant(
        "lets the grace run on after a resume",
        BOOK,
        "        self._ends.drop(lease.id)\n",
        "",
    ),
    Mutant(
        "ends a ttl lease with its process",
        BOOK,
        'over = [lease for lease in ended if lease.record.params.mode == "process"]',
        "over = ended",
    ),
    Mutant("ends a lease with its first process", HOLDERS, "if not any(other", "if not all(other"),
    Mutant(
        "does not void at a reboot",
        STORE,
        "            if boot != self._boot_id:\n",
        "            if False:\n",
    ),
    Mutant(
        "says at a reboot that released leases are lost",
        STORE,
        "            if owner_uid is not None:\n",
        "            if owner_uid is not None and boot == self._boot_id:\n",
    ),
    Mutant(
        "keeps on disk what it has forgotten",
        STORE,
        "            del of_user[oldest], self.released[oldest]\n            self.forget(oldest)\n",
        "            del of_user[oldest], self.released[oldest]\n",
    ),
    Mutant(
        "forgets at a restart what was released",
        STORE,
        "                    self._note_released(str(lease), owner_uid)\n",
        "                    pass\n",
    ),
    Mutant(
        "remembers released leases without bound",
        STORE,
        "if len(of_user) > _RELEASED_REMEMBERED:",
        "if False:",
    ),
    Mutant(
        "tells anybody that a lease was released",
        MANAGER,
        "if uid is not None and caller.may_act_for(uid):",
        "if uid is not None:",
    ),
    Mutant(
        "lets nobody in when a lease says ready",
        MANAGER,
        "        self._book.mark_ready(lease)\n        self._pump()\n",
        "        self._book.mark_ready(lease)\n",
    ),
    Mutant(
        "takes quick passes for a stable use",
        GROWTH,
        "SPACING_NS: Final = 900_000_000",
        "SPACING_NS = 0",
    ),
    Mutant(
        "gives five more minutes at a restart",
        LEDGER,
        "now_ns if claim.granted_ns is None else claim.granted_ns",
        "now_ns",
    ),
    Mutant("forgets at a restart who was ready", BOOK, " and not record.ready", ""),
)
#: These are about other tests than those of lifetimes.
ELSEWHERE: dict[Mutant, list[Path]] = {
    Mutant(
        "counts as reserved what could not be recorded",
        CONDUCT_PY,
        "            self._book.raise_reserve(lease, uuid, reserved_bytes)\n",
        "            self._book._ledger.raise_reserve(lease.id, uuid, reserved_bytes)\n"
        "            self._book.raise_reserve(lease, uuid, reserved_bytes)\n",
    ): CONDUCT,
    Mutant(
        "revokes whatever overruns",
        CONDUCT_PY,
        'if self._policies.on_overrun == "revoke":',
        "if True:",
    ): CONDUCT,
    Mutant(
        "lets a lease overrun while it grows",
        SHARES,
        "if not self.parts or any(part.is_growing for part in self.parts.values()):",
        "if not self.parts:",
    ): CONDUCT,
    Mutant(
        "takes a GPU that is not read for one that is not used",
        OBSERVER,
        "        self._idle.note_unread(snapshot)\n",
        "",
    ): CONDUCT,
    Mutant(
        "takes use that is not told for none",
        OBSERVER,
        "if process.vram_bytes != 0:",
        "if process.vram_bytes:",
    ): CONDUCT,
    Mutant(
        "calls a lease idle right after a restart",
        BOOK,
        "        lease.used_ns = self._clock()  # nobody saw what was used until now\n",
        "",
    ): CONDUCT,
    Mutant(
        "tells an idle lease of it at each reading",
        IDLE,
        "            lease.idle_told = True\n",
        "            pass\n",
    ): CONDUCT,
    Mutant(
        "tells a lease once that it is idle, and never again",
        IDLE,
        "        lease.idle_told = False\n",
        "",
    ): CONDUCT,
    Mutant(
        "calls idle what nobody was seen to hold",
        IDLE,
        "        if not record.processes:\n            return 0\n",
        "",
    ): CONDUCT,
    Mutant(
        "does not commit what holders start",
        OBSERVER,
        "        self._kinship.record()\n",
        "",
    ): KINSHIP,
    Mutant(
        "gives up what of it could not be committed",
        KINSHIP_PY,
        "                    return\n",
        "                    pass\n",
    ): KINSHIP,
    Mutant(
        "takes a reused pid for what a holder started",
        HOLDERS,
        "there = [each for each in known if self._processes.is_alive(each)]",
        "there = [found.identity for each in known if (found := self._processes.origin(each.pid))]",
    ): KINSHIP,
    Mutant(
        "ends an idle lease though it is in use again",
        CONDUCT_PY,
        '        self._revoker.withdraw(lease, "idle")\n',
        "        pass\n",
    ): CONDUCT,
    Mutant(
        "forgets an orphan whose lease has no process any more",
        HOLDERS,
        "next(iter(bound.roots), None) or next(iter(ended), None)",
        "next(iter(bound.roots), None)",
    ): KINSHIP,
    Mutant(
        "goes by a reading from before a sleep",
        READINGS,
        "return max(self._started_ns, self._resumed_ns(), oldest_ns)",
        "return max(self._started_ns, oldest_ns)",
    ): SUSPENDED,
    Mutant(
        "asks for no reading after a sleep",
        READINGS,
        "max(self._released_ns, self._resumed_ns())",
        "self._released_ns",
    ): SUSPENDED,
    Mutant(
        "binds whoever asks for itself to where it is",
        "supereziod.leases.presence",
        "return () if self.may_move else self.used",
        "return self.used",
    ): ADOPTION,
    Mutant(
        "adopts a server only in the next pass",
        BOOK,
        "        self._ledger.adopt(self.holders.holder_of(lease.id), own)\n        if record",
        "        if record",
    ): ADOPTION,
    Mutant(
        "forgets where a process is that has given its lease back",
        DESCENT,
        "        self.strangers.note([identity], None)\n        for kin",
        "        for kin",
    ): ADOPTION,
    Mutant(
        "grants a server that waits by what it used when it came",
        "supereziod.leases.waiters",
        "            if presence != waiting.request.presence:",
        "            if False:",
    ): ADOPTION,
    Mutant(
        "goes on counting a lost lease's processes for its holder",
        ACCOUNT,
        "        if share is not None and not share.parts:\n            if self._pass",
        "        if False:\n            if self._pass",
    ): ADOPTION,
    Mutant(
        "lets what stays go along with a lease that moves",
        LEDGER,
        "rebind(lease, new, with_processes=False)",
        "rebind(lease, new)",
    ): PARTING,
    Mutant(
        "does not tell what a holder has lost that goes on",
        HOLDERS,
        "                if lost:\n                    self._on_lost(holder, lost)\n",
        "",
    ): PARTING,
    Mutant(
        "takes leases for linked that each have some of the processes",
        LINKS_PY,
        "roots.keys() <= bounds[lease].roots.keys()",
        "roots.keys() & bounds[lease].roots.keys()",
    ): LINKS,
    Mutant(
        "never parts a holder",
        HOLDERS,
        "                if not hang_together(left, self._leases):\n",
        "                if False:\n",
    ): LINKS,
    Mutant(
        "goes through a process once for each of its leases",
        LINKS_PY,
        "            if identity in seen:\n                continue\n",
        "",
    ): LINKS,
    Mutant(
        "forgets what a cgroup gave a process that is lost",
        DESCENT,
        "            if not any(identity in self._roots for identity in found)\n",
        "                if False\n",
    ): LINKS,
    Mutant(
        "takes all that its holder uses for the use of a lease that sizes itself",
        ACCOUNT,
        "base_bytes=0 if restored else share.actual_bytes,",
        "base_bytes=0,",
    ): SIZING,
    Mutant(
        "goes on counting from what its holder has given back",
        GROWTH,
        "self.base_bytes = min(max(self.base_bytes, 0), used_bytes)",
        "self.base_bytes = max(self.base_bytes, 0)",
    ): SIZING,
    Mutant(
        "takes what another lease brings along for growth",
        SHARES,
        "                part.sizing.base_bytes += use_bytes\n",
        "                pass\n",
    ): SIZING,
    Mutant(
        "takes what is there where a lease goes for its growth",
        ACCOUNT,
        "            part.sizing.base_bytes += new.actual_bytes - used_bytes\n",
        "            pass\n",
    ): SIZING,
    Mutant(
        "lets any number of processes be attached",
        BOOK,
        "            self._check_processes(lease.record.uid, 1)\n",
        "            pass\n",
    ): PROCESSES,
    Mutant(
        "lets any number of processes be granted leases",
        BOOK,
        "        self._check_processes(uid, len(handles))\n",
        "",
    ): PROCESSES,
    Mutant(
        "goes on counting processes that have ended",
        HOLDERS,
        "                del bound.roots[identity]\n                self._count(bound.uid, -1)\n",
        "                del bound.roots[identity]\n",
    ): PROCESSES,
    Mutant(
        "goes on counting the processes of released leases",
        HOLDERS,
        "                root.leases.discard(lease)\n                self._count(bound.uid, -1)\n",
        "                root.leases.discard(lease)\n",
    ): PROCESSES,
    Mutant(
        "takes a process that cannot be opened for one that has ended",
        BOOK,
        "                awaited.append(held)\n                continue\n",
        "                continue\n",
    ): PROCESSES,
    Mutant(
        "never watches what could not be opened",
        BOOK,
        "            self.holders.watch_awaited(self._opener)\n",
        "            pass\n",
    ): PROCESSES,
    Mutant(
        "ends no lease of a process that has ended before it was opened",
        HOLDERS,
        "                self._end_leases(root)\n                self._forget",
        "                self._forget",
    ): PROCESSES,
    Mutant(
        "keeps all that ever held a lease",
        HOLDERS,
        "        elif root.kin or not is_spare(root, self._leases):\n",
        "        elif True:\n",
    ): LINKS,
    Mutant(
        "forgets what links two leases once it has ended",
        HOLDERS,
        "root.kin or not is_spare(root, self._leases)",
        "root.kin",
    ): LINKS,
    Mutant(
        "keeps one that has ended beyond all that it started",
        HOLDERS,
        "        for identity, root in tuple(self._ended.items()):\n",
        "        for identity, root in ():\n",
    ): LINKS,
}
MUTANTS += tuple(ELSEWHERE)

mutants, test_passes, test_the_suite_kills_one_that = kept_list(
    MUTANTS, tests=lambda mutant: ELSEWHERE.get(mutant, TESTS)
)
