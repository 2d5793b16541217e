"""The model of the breaker sees each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

TESTS = [Path(__file__).parent / "test_circuit_breaker_model.py"]

BREAKER = "superezio.resilience.circuit_breaker"
WINDOW = "superezio.resilience.call_window"

MUTANTS = (
    Mutant(
        "lets a permit be settled twice",
        BREAKER,
        "        self._take_back(permit)\n        if permit.generation",
        "        if permit.generation",
    ),
    Mutant(
        "counts the permits of earlier generations",
        BREAKER,
        "        if permit.generation != self._generation:\n            return",
        "        if permit.generation > self._generation:\n            return",
    ),
    Mutant(
        "keeps the place of a probe that is ignored",
        BREAKER,
        'if self.state == "half_open" and permit.generation == self._generation:\n'
        "            self._out -= 1",
        "if False:\n            self._out -= 1",
    ),
    Mutant(
        "gives a place back for permits of earlier generations",
        BREAKER,
        'if self.state == "half_open" and permit.generation == self._generation:\n'
        "            self._out -= 1",
        'if self.state == "half_open":\n            self._out -= 1',
    ),
    Mutant(
        "never takes back what a holder has that goes",
        BREAKER,
        "        for permit in permits:\n            self._take_back(permit)",
        "        for permit in permits[:0]:\n            self._take_back(permit)",
    ),
    Mutant(
        "never takes back what is too old",
        BREAKER,
        "if permit.started_ns + self.rules.permit_ttl_ns <= now_ns:",
        "if permit.started_ns + self.rules.permit_ttl_ns <= 0:",
    ),
    Mutant(
        "stays half-open for as long as nobody settles",
        BREAKER,
        'if self.state == "half_open" and now_ns >= self._until_ns:\n            moved',
        'if self.state == "half_open" and now_ns < 0:\n            moved',
    ),
    Mutant(
        "re-opens a half-open breaker as of when somebody looks",
        BREAKER,
        'self._trip("half_open_wait", self._until_ns, None)',
        'self._trip("half_open_wait", now_ns, None)',
    ),
    Mutant(
        "looks for nothing due before the oldest permit is, half-open too",
        BREAKER,
        "        self._out = 0\n        self._quiet_until_ns = 0\n",
        "        self._out = 0\n",
    ),
    Mutant(
        "admits one probe too many",
        BREAKER,
        "self._out + self._window.calls < self.rules.half_open_calls",
        "self._out + self._window.calls <= self.rules.half_open_calls",
    ),
    Mutant(
        "forgets that probes were recorded when it admits more",
        BREAKER,
        "self._out + self._window.calls < self.rules.half_open_calls",
        "self._out < self.rules.half_open_calls",
    ),
    Mutant(
        "comes back half-open with its permits out",
        BREAKER,
        'return (self._move("open", "restored", now_ns, None),)',
        "self._out = self.rules.half_open_calls\n            return ()",
    ),
    Mutant(
        "opens anew for all of its time after a restart",
        BREAKER,
        "left_ns = record.open_until_ns - (now_ns if same_boot else record.at_ns)",
        "left_ns = record.open_until_ns - record.at_ns",
    ),
    Mutant(
        "takes the clock of another boot for its own",
        BREAKER,
        "same_boot = record.boot_id == boot_id and record.at_ns <= now_ns",
        "same_boot = True",
    ),
    Mutant(
        "forgets how often it opened when it restarts",
        BREAKER,
        "self._openings = min(max(record.openings, 0), _MOST_OPENINGS)",
        "self._openings = 0",
    ),
    Mutant(
        "decides below the minimum",
        BREAKER,
        "if calls >= rules.minimum_calls or calls",
        "if calls >= rules.minimum_calls - 1 or calls",
    ),
    Mutant(
        "does not clamp the minimum to the window",
        BREAKER,
        "if calls >= rules.minimum_calls or calls == window.size:",
        "if calls >= rules.minimum_calls:",
    ),
    Mutant(
        "trips above the threshold alone",
        BREAKER,
        "if failures and failures / calls >= rules.failure_rate_threshold:",
        "if failures and failures / calls > rules.failure_rate_threshold:",
    ),
    Mutant(
        "never trips over slow calls",
        BREAKER,
        "if slow_calls and slow_calls / calls >= rules.slow_call_rate_threshold:",
        "if slow_calls and slow_calls / calls > 1:",
    ),
    Mutant(
        "takes a call for slow that is as long as it may be",
        BREAKER,
        "if now_ns - permit.started_ns > rules.slow_call_duration_ns:",
        "if now_ns - permit.started_ns >= rules.slow_call_duration_ns:",
    ),
    Mutant(
        "does not count a slow error as slow",
        BREAKER,
        "if now_ns - permit.started_ns > rules.slow_call_duration_ns:",
        "if kind == 0 and now_ns - permit.started_ns > rules.slow_call_duration_ns:",
    ),
    Mutant(
        "records a call that is ignored",
        BREAKER,
        'if outcome != "ignore" and self.state != "disabled":',
        'if self.state != "disabled":',
    ),
    Mutant(
        "shortens a block by a shorter one",
        BREAKER,
        "self._until_ns = max(self._until_ns, now_ns + wait_ns)",
        "self._until_ns = now_ns + wait_ns",
    ),
    Mutant(
        "believes a Retry-After of a year",
        BREAKER,
        "        wait_ns = min(wait_ns, self.rules.max_block_ns)\n",
        "",
    ),
    Mutant(
        "takes 429 for a failure that doubles the wait",
        BREAKER,
        "        self._until_ns = now_ns + wait_ns\n        return (*moved",
        "        self._until_ns = now_ns + wait_ns\n        self._openings += 1\n"
        "        return (*moved",
    ),
    Mutant(
        "never doubles",
        BREAKER,
        "            self._openings += 1\n",
        "            self._openings += 0\n",
    ),
    Mutant(
        "never forgives",
        BREAKER,
        "self._openings = max(self._openings - intervals, 0)",
        "self._openings = max(self._openings, 0)",
    ),
    Mutant(
        "forgives an interval once more each time it looks",
        BREAKER,
        "self._healthy_since_ns += intervals * self.rules.healthy_interval_ns",
        "self._healthy_since_ns += 0",
    ),
    Mutant(
        "does not begin anew when it closes",
        BREAKER,
        "            self._window = empty_window(self.rules.window)\n            self._healthy",
        "            self._healthy",
    ),
    Mutant(
        "rejects with no time to wait when it is forced open",
        BREAKER,
        '        if self.state == "forced_open":\n            return self.rules.open_duration_ns\n',
        "",
    ),
    Mutant(
        "forgets whose call it was",
        BREAKER,
        'self._trip("failure_rate", now_ns, permit.correlation_id)',
        'self._trip("failure_rate", now_ns, None)',
    ),
    Mutant(
        "forgets a failure only where a failure follows",
        WINDOW,
        "self.failures -= oldest & FAILED",
        "self.failures -= oldest & kind",
    ),
    Mutant(
        "keeps a second too long",
        WINDOW,
        "while buckets and buckets[0][0] <= oldest:",
        "while buckets and buckets[0][0] < oldest:",
    ),
    Mutant(
        "brings the bad calls back as the oldest",
        WINDOW,
        "ring[calls - bad : calls - both] = bytes((one,))",
        "ring[: bad - both] = bytes((one,))",
    ),
)

mutants, test_passes, test_the_model_notices_a_breaker_that = kept_list(MUTANTS, tests=TESTS)
