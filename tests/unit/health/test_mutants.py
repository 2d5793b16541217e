"""The suites of heat, fitness and health kill each of these mistakes, planted one at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

UNIT = Path(__file__).resolve().parents[1]


def _mutant(name: str, module: str, old: str, new: str) -> Mutant:
    return Mutant(name, f"supereziod.{module}", old, new)


MUTANTS = (
    # thermal
    _mutant(
        "falls straight to normal",
        "gpu.thermal",
        "below = _RUNGS[_RUNGS.index(self.level) - 1]",
        'below = "normal"',
    ),
    _mutant(
        "climbs one level at a time",
        "gpu.thermal",
        "in reversed(_RUNGS[_RUNGS.index(self.level) + 1 :])",
        "in _RUNGS[_RUNGS.index(self.level) + 1 :]",
    ),
    _mutant(
        "leaves without its dwell",
        "gpu.thermal",
        "if not self._cool.lasted(dwell_s):",
        "if not self._cool.count:",
    ),
    _mutant(
        "leaves at the margin it enters at",
        "gpu.thermal",
        'getattr(self._thresholds, f"{self.level}_leave_c")',
        'getattr(self._thresholds, f"{self.level}_enter_c") + 1',
    ),
    _mutant("leaves one degree late", "gpu.thermal", "margin >= leave_c", "margin > leave_c"),
    _mutant(
        "enters without its dwell",
        "gpu.thermal",
        "if self._hot.lasted(limits.hot_enter_s):",
        "if self._hot.count:",
    ),
    _mutant(
        "enters one degree late",
        "gpu.thermal",
        "margin <= limits.warm_enter_c, at_ns",
        "margin < limits.warm_enter_c, at_ns",
    ),
    _mutant(
        "takes a missing temperature for cool",
        "gpu.thermal",
        "        if temperature is None:\n            return None\n",
        "        if temperature is None:\n            return 40\n",
    ),
    _mutant(
        "keeps the dwell of leaving over a missing sample",
        "gpu.thermal",
        "            self._good = 0\n            self._cool.clear()\n",
        "            self._good = 0\n",
    ),
    _mutant(
        "leaves while the card still throttles",
        "gpu.thermal",
        " and self._heat.reason(self.level) is None",
        "",
    ),
    _mutant(
        "trusts T.Limit alone",
        "gpu.thermal",
        "return margin if throttled or near else None",
        "return margin",
    ),
    _mutant(
        "comes back from unknown at once",
        "gpu.thermal",
        "self._good_needed = self._thresholds.unknown_good_samples",
        "self._good_needed = 1",
    ),
    _mutant(
        "comes back from unknown as if it had been cool",
        "gpu.thermal",
        "        self._before = self.level\n",
        '        self._before = "normal"\n',
    ),
    _mutant(
        "keeps evidence over a gap",
        "gpu.thermal",
        "unknown_good_samples\n        self._heat = _Heat(self._thresholds)\n",
        "unknown_good_samples\n",
    ),
    _mutant(
        "counts a sample twice",
        "gpu.thermal",
        "taken_ns <= self._newest_ns",
        "taken_ns < self._newest_ns",
    ),
    _mutant(
        "becomes unknown a period late",
        "gpu.thermal",
        "if silent_ns < self._patience_ns:",
        "if silent_ns <= self._patience_ns:",
    ),
    _mutant(
        "takes a long HW slowdown for merely hot",
        "gpu.thermal",
        "if self._braking_now and self._braking.lasted(",
        "if not self._braking_now and self._braking.lasted(",
    ),
    # fitness
    _mutant(
        "condemns for what a program did",
        "gpu.fitness",
        "if xid in self._rules.ignored_xids:",
        "if xid < 0:",
    ),
    _mutant(
        "takes a fatal XID for a suspicion",
        "gpu.fitness",
        "if xid in self._rules.fatal_xids:",
        "if xid < 0:",
    ),
    _mutant("never doubles a quarantine", "gpu.fitness", "2.0 ** min(repeats, 64)", "1.0"),
    _mutant(
        "never forgets a relapse",
        "gpu.fitness",
        "            self._quarantines -= 1\n            self._clean_ns = 0\n",
        "            self._clean_ns = 0\n",
    ),
    _mutant(
        "quarantines for ever longer",
        "gpu.fitness",
        "return min(doubled, self._rules.quarantine_limit_s)",
        "return doubled",
    ),
    _mutant(
        "forgives a fault on probation",
        "gpu.fitness",
        'if self.state == "probation":\n            return self._condemn',
        'if self.state == "healthy":\n            return self._condemn',
    ),
    _mutant(
        "counts each sample of a hang",
        "gpu.fitness",
        "        if self._missing:\n            return None\n",
        "",
    ),
    _mutant(
        "takes time that nobody watched for clean",
        "gpu.fitness",
        "if 0 <= passed_ns <= self._rules.watch_s * _SECOND:",
        "if passed_ns >= 0:",
    ),
    _mutant(
        "lets a fault pass in quarantine",
        "gpu.fitness",
        "reason: str) -> FitnessChange | None:\n        self._interrupt()\n",
        "reason: str) -> FitnessChange | None:\n",
    ),
    _mutant("adds up suspicions for ever", "gpu.fitness", "if at_ns > oldest_ns]", "if at_ns]"),
    _mutant(
        "forgets suspicions in a restart",
        "gpu.fitness",
        "suspect_ages_s=tuple((now_ns - at_ns) / _SECOND for at_ns in self._suspicions),",
        "suspect_ages_s=(),",
    ),
    _mutant(
        "reads one boot's clock in another",
        "gpu.fitness",
        " if record.boot_id == boot_id else 0",
        "",
    ),
    # health
    _mutant(
        "does not wait for the grace",
        "health.manager",
        "age_s >= check.unhealthy_after_s:",
        "age_s >= 0:",
    ),
    _mutant(
        "starts the grace again at each look",
        "health.manager",
        "since[key] = self._since.get(key, now_ns)",
        "since[key] = now_ns",
    ),
    _mutant(
        "hides nothing", "health.manager", "            return code\n", "            return None\n"
    ),
    _mutant(
        "lets a broken check restart the daemon",
        "health.manager",
        'replace(check, severity="warning", unhealthy_after_s=None)',
        "check",
    ),
    _mutant(
        "never calls heat unhealthy",
        "health.checks",
        "unhealthy_after_s=grace_s",
        "unhealthy_after_s=None",
    ),
    _mutant(
        "accuses a hung GPU of more than a hang",
        "health.checks",
        "probe=each(_unknown),",
        "probe=each(_unknown), unhealthy_after_s=grace_s,",
    ),
    # watchdog
    _mutant(
        "pings when unhealthy",
        "health.watchdog",
        "        if reason is None:\n            self._resume()",
        "        if self.enabled:\n            self._resume()",
    ),
    _mutant(
        "withholds for what is no more than degraded",
        "health.watchdog",
        'if each.severity == "critical"]',
        "]",
    ),
    _mutant(
        "withholds without storing why",
        "health.watchdog",
        "stored = self._record.withhold(reason)",
        "stored = True",
    ),
    _mutant(
        "withholds without saying so",
        "health.watchdog",
        '            text = f"watchdog pings withheld ({self._withheld.kind}) | {text}"\n',
        "            text = text\n",
    ),
    _mutant(
        "resumes and leaves the reason standing",
        "health.watchdog",
        "        self._record.resume()\n",
        "",
    ),
    _mutant(
        "withholds for heat where it should report",
        "health.watchdog",
        'if critical and self._on_overheat == "restart":',
        "if critical:",
    ),
    _mutant(
        "tells of an old reason at each start",
        "health.watchdog",
        "if last is not None and self._record.ended_last_run:",
        "if last is not None:",
    ),
    _mutant("pings as rarely as systemd allows", "health.watchdog", "timeout_s / 3", "timeout_s"),
    _mutant(
        "lets lateness add up",
        "health.watchdog",
        "max(due_ns + round(self.interval_s * _SECOND), self._clock())",
        "self._clock() + round(self.interval_s * _SECOND)",
    ),
    _mutant(
        "takes a refusal for a stuck loop",
        "health.self_check",
        '            self._silences = 0\n            self.fault = f"the daemon could not',
        '            self._silences += 1\n            self.fault = f"the daemon could not',
    ),
    _mutant(
        "is stuck at the first silence",
        "health.self_check",
        "self._silences >= self._stuck_after",
        "self._silences >= 1",
    ),
    _mutant(
        "takes an old reason for the present one",
        "health.record",
        "        if found.current is not None or documents.is_owed(_NAME):\n"
        "            self._write()\n",
        "",
    ),
    # how the run before ended
    _mutant(
        "tells of a run that was told to stop",
        "health.run_record",
        "ended=final and self._is_stopping,",
        "ended=False,",
    ),
    _mutant(
        "takes a crash for an end in order",
        "health.run_record",
        "ended=final and self._is_stopping,",
        "ended=final,",
    ),
    _mutant(
        "tells what the watchdog explains again",
        "health.run_record",
        " or run.ended or explained or",
        " or run.ended or",
    ),
    _mutant(
        "accuses a run of what it could not say",
        "health.run_record",
        " or fault is not None:",
        ":",
    ),
    _mutant(
        "believes a clock that was turned back",
        "health.run_record",
        "if run.started_at <= run.last_seen <= self._started_at:",
        "if run.started_at <= run.last_seen:",
    ),
    _mutant(
        "takes the last boot for this one",
        "health.run_record",
        "same_boot=run.boot_id == self._boot_id)",
        "same_boot=True)",
    ),
    _mutant(
        "leaves what an earlier life owed unwritten",
        "health.record",
        " or documents.is_owed(_NAME)",
        "",
    ),
    _mutant(
        "does not look where a reason was left",
        "health.record",
        " if left is None else left)",
        ")",
    ),
    _mutant("pings for another process", "health.notifier", " or asked_pid != str(pid)", ""),
    _mutant(
        "lets a text send assignments",
        "health.notifier",
        "printable(assignment.translate(_SEPARATORS))",
        "printable(assignment, keep_newlines=True)",
    ),
    _mutant(
        "lets a text drive a terminal",
        "health.notifier",
        "printable(assignment.translate(_SEPARATORS))",
        "assignment.translate(_SEPARATORS)",
    ),
)


def _tests_of(mutant: Mutant) -> list[Path]:
    family, name = mutant.module.split(".")[1:]
    return [UNIT / family / f"test_{name}.py"]


mutants, test_passes, test_the_suite_kills_one_that = kept_list(MUTANTS, tests=_tests_of)
