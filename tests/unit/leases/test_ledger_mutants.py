"""The stateful test of the ledger alone sees each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

#: The model by itself, so that it is known to judge; the unit tests see most of these too.
HERE = Path(__file__).parent
TESTS = [HERE / "test_parting.py", HERE / "test_ledger_model.py"]

ACCOUNT = "supereziod.leases.account"
ESTIMATES = "supereziod.leases.estimates"
LEDGER = "supereziod.leases.ledger"
SHARES = "supereziod.leases.shares"
RETURNS = "supereziod.leases.returns"
GROWTH = "supereziod.leases.growth"
OVERRUN = "supereziod.leases.overrun"
NOTICES = "supereziod.leases.notices"
ADOPTION = "supereziod.leases.adoption"
PLACEMENT = "supereziod.leases.placement"
REFUSALS = "supereziod.leases.refusals"

MUTANTS = (
    Mutant(
        "drops the driver's reserve",
        ACCOUNT,
        "admissible = taken.total_bytes - taken.driver_reserved_bytes - self._reserve_bytes",
        "admissible = taken.total_bytes - self._reserve_bytes",
    ),
    Mutant(
        "drops the configured reserve",
        ACCOUNT,
        "admissible = taken.total_bytes - taken.driver_reserved_bytes - self._reserve_bytes",
        "admissible = taken.total_bytes - taken.driver_reserved_bytes",
    ),
    Mutant(
        "adds up reserved and actual",
        SHARES,
        "return max(self.reserved_bytes, self.measured_bytes + self.estimated_bytes)",
        "return self.reserved_bytes + self.measured_bytes + self.estimated_bytes",
    ),
    Mutant(
        "takes the smaller of reserved and actual",
        SHARES,
        "return max(self.reserved_bytes, self.measured_bytes + self.estimated_bytes)",
        "return min(self.reserved_bytes, self.measured_bytes + self.estimated_bytes)",
    ),
    Mutant(
        "counts what is reserved by lease, not by holder",
        SHARES,
        "        self.reserved_bytes += part.reserved_bytes",
        "        self.reserved_bytes = max(self.reserved_bytes, part.reserved_bytes)",
    ),
    Mutant(
        "ignores foreign use",
        ACCOUNT,
        "return admissible - foreign_bytes - spoken_bytes",
        "return admissible - spoken_bytes",
    ),
    Mutant(
        "frees a release at once",
        ACCOUNT,
        "return holders + self._returns.spoken_bytes",
        "return holders",
    ),
    Mutant(
        "accepts a pass older than the release",
        RETURNS,
        "if since <= 0 or not (",
        "if not (",
    ),
    Mutant(
        "accepts a pass of the instant of the release",
        RETURNS,
        "if since <= 0 or",
        "if since < 0 or",
    ),
    Mutant(
        "takes half for back",
        RETURNS,
        "return self.residual_bytes * 4 <= self.expected_bytes",
        "return self.residual_bytes * 2 <= self.expected_bytes",
    ),
    Mutant(
        "never gives a release up",
        RETURNS,
        "(release.is_back or since >= timeout_ns)",
        "release.is_back",
    ),
    Mutant(
        "gives a release up without the alarm",
        ACCOUNT,
        '"returned" if release.is_back else "unreturned"',
        '"returned"',
    ),
    Mutant(
        "takes foreign newcomers for what is not back",
        SHARES,
        "return self.used_bytes - listed + self.listed_bytes(returning, holders=holders)",
        "return self.used_bytes",
    ),
    Mutant(
        "takes unknown use for none",
        ACCOUNT,
        "share.hidden = share.hidden or used is None\n            share.measured",
        "share.hidden = False\n            share.measured",
    ),
    Mutant(
        "lets an estimate exceed what is reserved",
        GROWTH,
        "self.estimate_bytes = min(max(grown_bytes, 0), self.reserved_bytes)",
        "self.estimate_bytes = max(grown_bytes, 0)",
    ),
    Mutant(
        "counts an estimate from nothing instead of from the grant",
        ESTIMATES,
        "base_bytes=0 if restored else self._rest_bytes(taken),",
        "base_bytes=0,",
    ),
    Mutant(
        "lets two leases grow at once",
        REFUSALS,
        "if capacity.growing and not capacity.exclusive:",
        "if False:",
    ),
    Mutant(
        "lets an estimate follow for ever",
        GROWTH,
        'growth.phase = "frozen"',
        'growth.phase = "growing"',
    ),
    Mutant(
        "takes an older pass for a newer",
        ACCOUNT,
        "or sample.taken_ns <= self._seen_ns:",
        "or sample.taken_ns == self._seen_ns:",
    ),
    Mutant(
        "drops what a joined lease reserves",
        ACCOUNT,
        "        old.drop(part)\n        new.add(part)\n",
        "        old.drop(part)\n        new.parts[lease] = part\n",
    ),
    Mutant(
        "loses the processes of a holder that joined",
        ACCOUNT,
        "new.shift(old.measured_bytes)",
        "pass",
    ),
    Mutant(
        "calls an exactly full GPU overcommitted",
        NOTICES,
        "if free_bytes >= 0:",
        "if free_bytes > 0:",
    ),
    Mutant(
        "blames everyone for overcommitment",
        NOTICES,
        "if growth > 0:",
        "if True:",
    ),
    Mutant(
        "refuses what fits exactly",
        REFUSALS,
        "if refusal is None and need > capacity.free_bytes:",
        "if refusal is None and need >= capacity.free_bytes:",
    ),
    Mutant(
        "tells an overrun a sample late",
        OVERRUN,
        "_PASSES: Final = 3",
        "_PASSES: Final = 4",
    ),
    Mutant(
        "bears a fifth more than is reserved",
        OVERRUN,
        "_MOST_PERCENT: Final = 110",
        "_MOST_PERCENT: Final = 120",
    ),
    Mutant(
        "goes on counting an overrun that has paused",
        OVERRUN,
        "        self._count = 0\n        self.told = False\n\n    def weigh",
        "        self.told = False\n\n    def weigh",
    ),
    Mutant(
        "takes quick passes for an overrun",
        OVERRUN,
        "if self._count == 0 or taken_ns - self._counted_ns >= SPACING_NS:",
        "if True:",
    ),
    Mutant(
        "raises the oldest lease that overran",
        ACCOUNT,
        "if part.holder == holder][-1]",
        "if part.holder == holder][0]",
    ),
    Mutant(
        "raises a lease and not its holder",
        SHARES,
        "        self.reserved_bytes += reserved_bytes - part.reserved_bytes\n",
        "",
    ),
    Mutant(
        "counts what a server uses as foreign, and for its lease besides",
        ACCOUNT,
        "            self._pass.owners[pid] = holder\n            share = ",
        "            share = ",
    ),
    Mutant(
        "forgets what a server uses once it is leased",
        ACCOUNT,
        "            share.measured_bytes += used\n            share.shown = True",
        "            share.shown = True",
    ),
    Mutant(
        "lets what is on its way back be adopted",
        ACCOUNT,
        "return [pid for pid in mine if pid not in self._returns.pids]",
        "return mine",
    ),
    Mutant(
        "counts more of a server's use than its lease needs",
        ADOPTION,
        "own = min(presence.own_bytes(uuid), request.vram_bytes)",
        "own = presence.own_bytes(uuid)",
    ),
    Mutant(
        "takes all that a holder uses for what its leases do not cover",
        ACCOUNT,
        "beyond = share.spoken_bytes - share.reserved_bytes if",
        "beyond = share.actual_bytes if",
    ),
    Mutant(
        "leaves the use of a part with the holder that it was a part of",
        LEDGER,
        "            account.part(holder, pids, to=new)\n",
        "            pass\n",
    ),
    Mutant(
        "counts what a lost process uses for the holder that has lost it",
        ACCOUNT,
        "            self._shares[holder].shift(-(used or 0))\n",
        "",
    ),
    Mutant(
        "forgets what goes with a part of a holder",
        ACCOUNT,
        "                share.shift(used or 0)\n",
        "",
    ),
    Mutant(
        "thinks a holder where only a process was that it lost",
        ACCOUNT,
        "        self._drop_if_gone(holder)\n        self._capacity",
        "        self._capacity",
    ),
    Mutant(
        "places a server's lease where it is not",
        ADOPTION,
        "        replace(capacity, block=_ELSEWHERE)\n        if capacity",
        "        capacity\n        if capacity",
    ),
)

mutants, test_passes, test_the_suite_kills_a_ledger_that = kept_list(
    MUTANTS, tests=TESTS, environment={"SUPEREZIO_MODEL_EXAMPLES": "300"}
)
