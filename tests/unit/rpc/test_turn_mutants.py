"""The tests of turns see each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

TESTS = [Path(__file__).parent / "test_turns.py"]

TURNS = "supereziod.rpc.turns"
CONNECTION = "supereziod.rpc.connection"
INTAKE = "supereziod.rpc.intake"
DISPATCHER = "supereziod.rpc.dispatcher"
SERVER = "supereziod.rpc.server"

MUTANTS = (
    Mutant(
        "serves all that waits of a user at once",
        TURNS,
        "while self._waiting and not self.is_over:",
        "while self._waiting:",
    ),
    Mutant(
        "gives the loop no laps between rounds",
        TURNS,
        "self._laps = LAPS_BETWEEN_ROUNDS",
        "self._laps = 0",
    ),
    Mutant(
        "serves connections in the order they came",
        TURNS,
        "heappush(self._waiting, (worker.used_ns, self._serial, worker))",
        "heappush(self._waiting, (0, -self._serial, worker))",
    ),
    Mutant(
        "lets one that was idle catch up",
        TURNS,
        "worker.used_ns = max(worker.used_ns, self._passed_ns)",
        "worker.used_ns = min(worker.used_ns, self._passed_ns)",
    ),
    Mutant(
        "puts rounds off for as long as newcomers come",
        TURNS,
        "self._more_laps -= 1",
        "pass",
    ),
    Mutant(
        "never begins a user's turn anew",
        TURNS,
        "turn.is_over = turn.in_round = False",
        "turn.in_round = False",
    ),
    Mutant(
        "works on what is read while the turn is over",
        CONNECTION,
        "        if self.turn.is_over:\n            self._hold(data)\n            return\n",
        "",
    ),
    Mutant(
        "works on all of a read",
        INTAKE,
        " and not (done and turn.is_over)",
        "",
    ),
    Mutant(
        "loses what it held",
        INTAKE,
        '            data, self._held = self._held, b""\n',
        '            data, self._held = b"", b""\n',
    ),
    Mutant(
        "begins all batches before it ends one",
        INTAKE,
        "        self._finish_batches_first(used_ns)\n",
        "",
    ),
    Mutant(
        "has the daemon's own connections wait",
        SERVER,
        "            connection.rate = _BOUNDLESS\n",
        "            connection.rate, connection.turn = _BOUNDLESS, account.turn\n"
        "            connection.unlimited = False\n",
    ),
    Mutant(
        "works on all of a batch",
        DISPATCHER,
        "            if turn.is_over:\n                return False\n",
        "",
    ),
    Mutant(
        "takes no time for refusals",
        DISPATCHER,
        "        line.charge_since(now_ns)\n        return reply\n\n    def _route_of",
        "        return reply\n\n    def _route_of",
    ),
)

mutants, test_passes, test_the_suite_kills_turns_that = kept_list(MUTANTS, tests=TESTS)
