"""The suite kills each of these mistakes, planted one at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from unit.health.mutation import Mutant, Outcome

HERE = Path(__file__).resolve().parent
TESTS = HERE.parents[1]

# Where a mutant lives, and the tests that are to see it.
SUITES = {
    "gpu.thermal": "unit/gpu/test_thermal.py",
    "gpu.fitness": "unit/gpu/test_fitness.py",
    "health.manager": "unit/health/test_manager.py",
    "health.checks": "unit/health/test_checks.py",
    "health.notifier": "unit/health/test_notifier.py",
    "health.record": "unit/health/test_record.py",
    "health.self_check": "unit/health/test_self_check.py",
    "health.watchdog": "unit/health/test_watchdog.py",
}

SEEDED: dict[str, tuple[str, str, str]] = {
    # thermal
    "falls straight to normal": (
        "gpu.thermal",
        "below = _RUNGS[_RUNGS.index(self.level) - 1]",
        'below = "normal"',
    ),
    "climbs one level at a time": (
        "gpu.thermal",
        "in reversed(_RUNGS[_RUNGS.index(self.level) + 1 :])",
        "in _RUNGS[_RUNGS.index(self.level) + 1 :]",
    ),
    "leaves without its dwell": (
        "gpu.thermal",
        "if not self._cool.lasted(dwell_s):",
        "if not self._cool.count:",
    ),
    "leaves at the margin it enters at": (
        "gpu.thermal",
        'getattr(self._thresholds, f"{self.level}_leave_c")',
        'getattr(self._thresholds, f"{self.level}_enter_c") + 1',
    ),
    "leaves one degree late": ("gpu.thermal", "margin >= leave_c", "margin > leave_c"),
    "enters without its dwell": (
        "gpu.thermal",
        "if self._hot.lasted(limits.hot_enter_s):",
        "if self._hot.count:",
    ),
    "enters one degree late": (
        "gpu.thermal",
        "margin <= limits.warm_enter_c, at_ns",
        "margin < limits.warm_enter_c, at_ns",
    ),
    "takes a missing temperature for cool": (
        "gpu.thermal",
        "        if temperature is None:\n            return None\n",
        "        if temperature is None:\n            return 40\n",
    ),
    "keeps the dwell of leaving over a missing sample": (
        "gpu.thermal",
        "            self._good = 0\n            self._cool.clear()\n",
        "            self._good = 0\n",
    ),
    "leaves while the card still throttles": (
        "gpu.thermal",
        " and self._heat.reason(self.level) is None",
        "",
    ),
    "trusts T.Limit alone": (
        "gpu.thermal",
        "return margin if throttled or near else None",
        "return margin",
    ),
    "comes back from unknown at once": (
        "gpu.thermal",
        "self._good_needed = self._thresholds.unknown_good_samples",
        "self._good_needed = 1",
    ),
    "comes back from unknown as if it had been cool": (
        "gpu.thermal",
        "        self._before = self.level\n",
        '        self._before = "normal"\n',
    ),
    "keeps evidence over a gap": (
        "gpu.thermal",
        "        self._heat = _Heat(self._thresholds)\n",
        "",
    ),
    "counts a sample twice": (
        "gpu.thermal",
        "taken_ns <= self._newest_ns",
        "taken_ns < self._newest_ns",
    ),
    "becomes unknown a period late": (
        "gpu.thermal",
        "if silent_ns < self._patience_ns:",
        "if silent_ns <= self._patience_ns:",
    ),
    "takes a long HW slowdown for merely hot": (
        "gpu.thermal",
        "if self._braking_now and self._braking.lasted(",
        "if not self._braking_now and self._braking.lasted(",
    ),
    # fitness
    "condemns for what a program did": (
        "gpu.fitness",
        "if xid in self._rules.ignored_xids:",
        "if xid < 0:",
    ),
    "takes a fatal XID for a suspicion": (
        "gpu.fitness",
        "if xid in self._rules.fatal_xids:",
        "if xid < 0:",
    ),
    "never doubles a quarantine": ("gpu.fitness", "2.0 ** min(repeats, 64)", "1.0"),
    "never forgets a relapse": (
        "gpu.fitness",
        "            self._quarantines -= 1\n            self._clean_ns = 0\n",
        "            self._clean_ns = 0\n",
    ),
    "quarantines for ever longer": (
        "gpu.fitness",
        "return min(doubled, self._rules.quarantine_limit_s)",
        "return doubled",
    ),
    "forgives a fault on probation": (
        "gpu.fitness",
        'if self.state == "probation":\n            return self._condemn',
        'if self.state == "healthy":\n            return self._condemn',
    ),
    "counts each sample of a hang": (
        "gpu.fitness",
        "        if self._missing:\n            return None\n",
        "",
    ),
    "takes time that nobody watched for clean": (
        "gpu.fitness",
        "if 0 <= passed_ns <= self._rules.watch_s * _SECOND:",
        "if passed_ns >= 0:",
    ),
    "lets a fault pass in quarantine": (
        "gpu.fitness",
        "reason: str) -> FitnessChange | None:\n        self._interrupt()\n",
        "reason: str) -> FitnessChange | None:\n",
    ),
    "adds up suspicions for ever": ("gpu.fitness", "if at_ns > oldest_ns]", "if at_ns]"),
    "forgets suspicions in a restart": (
        "gpu.fitness",
        "suspect_ages_s=tuple((now_ns - at_ns) / _SECOND for at_ns in self._suspicions),",
        "suspect_ages_s=(),",
    ),
    "reads one boot's clock in another": (
        "gpu.fitness",
        " if record.boot_id == boot_id else 0",
        "",
    ),
    # health
    "does not wait for the grace": (
        "health.manager",
        "age_s >= check.unhealthy_after_s:",
        "age_s >= 0:",
    ),
    "starts the grace again at each look": (
        "health.manager",
        "since[key] = self._since.get(key, now_ns)",
        "since[key] = now_ns",
    ),
    "hides nothing": ("health.manager", "            return code\n", "            return None\n"),
    "lets a broken check restart the daemon": (
        "health.manager",
        'replace(check, severity="warning", unhealthy_after_s=None)',
        "check",
    ),
    "never calls heat unhealthy": (
        "health.checks",
        "unhealthy_after_s=grace_s",
        "unhealthy_after_s=None",
    ),
    "accuses a hung GPU of more than a hang": (
        "health.checks",
        "probe=each(_unknown),",
        "probe=each(_unknown), unhealthy_after_s=grace_s,",
    ),
    # watchdog
    "pings when unhealthy": (
        "health.watchdog",
        "        if reason is None:\n            self._resume()",
        "        if self.enabled:\n            self._resume()",
    ),
    "withholds without storing why": (
        "health.watchdog",
        "stored = self._record.withhold(reason)",
        "stored = True",
    ),
    "withholds without saying so": (
        "health.watchdog",
        '            text = f"watchdog pings withheld ({self._withheld.kind}) | {text}"\n',
        "            text = text\n",
    ),
    "resumes and leaves the reason standing": (
        "health.watchdog",
        "        self._record.resume()\n",
        "",
    ),
    "withholds for heat where it should report": (
        "health.watchdog",
        'if critical and self._on_overheat == "restart":',
        "if critical:",
    ),
    "pings as rarely as systemd allows": ("health.watchdog", "timeout_s / 3", "timeout_s"),
    "lets lateness add up": (
        "health.watchdog",
        "max(due_ns + round(self.interval_s * _SECOND), self._clock())",
        "self._clock() + round(self.interval_s * _SECOND)",
    ),
    "takes a refusal for a stuck loop": (
        "health.self_check",
        '            self._silences = 0\n            self.fault = f"the daemon could not',
        '            self._silences += 1\n            self.fault = f"the daemon could not',
    ),
    "is stuck at the first silence": (
        "health.self_check",
        "self._silences >= self._stuck_after",
        "self._silences >= 1",
    ),
    "takes an old reason for the present one": (
        "health.record",
        "        if found.current is not None:\n            self._write()\n",
        "",
    ),
    "pings for another process": ("health.notifier", " or asked_pid != str(pid)", ""),
    "lets a text send assignments": (
        "health.notifier",
        "(assignment.translate(_SEPARATORS) for assignment in assignments)",
        "assignments",
    ),
}


def test_the_suite_passes_without_mutants_and_kills_each_mutant() -> None:
    sound = [_mutant(f"sound {suite}", suite, "", "") for suite in SUITES]
    mutants = [_mutant(name, *seeded) for name, seeded in SEEDED.items()]
    outcomes = _judge([*sound, *mutants])
    assert [each.name for each in sound if outcomes[each.name] != "survived"] == []
    assert [each.name for each in mutants if outcomes[each.name] != "killed"] == []


def test_a_mutant_whose_place_has_moved_is_noticed() -> None:
    mutant = _mutant("gone", "gpu.thermal", "no such text", "")
    with pytest.raises(ValueError, match="stands 0 times"):
        mutant.source()


def _mutant(name: str, suite: str, old: str, new: str) -> Mutant:
    return Mutant(name, f"supereziod.{suite}", old, new, (str(TESTS / SUITES[suite]),))


def _judge(mutants: list[Mutant]) -> dict[str, Outcome]:
    done = subprocess.run(
        [sys.executable, str(HERE / "mutation.py")],
        input=msgspec.json.encode(mutants),
        stdout=subprocess.PIPE,
        cwd=TESTS.parent,
        check=True,
        timeout=100,
    )
    return msgspec.json.decode(done.stdout, type=dict[str, Outcome])
