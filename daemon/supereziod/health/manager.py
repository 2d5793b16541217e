"""The verdict on the host: derived from declared checks, never set by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog
from msgspec import Struct
from msgspec.structs import replace

from superezio.wire import CheckState, Health, HealthReason, Severity, Verdict
from supereziod.health.check import Check, Finding
from supereziod.health.lag import LoopLag
from supereziod.observability.events import EventLog

_SECOND: Final = 1_000_000_000
_GRAVEST_FIRST: Final[tuple[Severity, ...]] = ("critical", "warning", "info")
_VERDICTS: Final[Mapping[Severity, Verdict]] = {
    "critical": "unhealthy",
    "warning": "degraded",
    "info": "healthy",
}


class _Condition(Struct, frozen=True, kw_only=True):
    """A finding as it stands now. `hidden_by` names the failed check that explains it."""

    check: Check
    finding: Finding
    severity: Severity
    age_s: float
    visible: bool
    hidden_by: str | None


class HealthManager:
    """Looks at every check each `interval_s`, and at once when told that something changed.

    `evaluate` is synchronous: it looks, remembers since when each finding stands, and emits
    health.changed when what is visible changed. `lag` has how late the loop woke it.
    """

    def __init__(
        self,
        *,
        checks: Sequence[Check],
        events: EventLog,
        clock: Callable[[], int] = time.monotonic_ns,
        interval_s: float = 1.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        lag: LoopLag | None = None,
    ) -> None:
        self._checks = _in_order(checks)
        self._events = events
        self._clock = clock
        self._interval_s = interval_s
        self._sleep = sleep
        self.lag = lag if lag is not None else LoopLag(clock=clock)
        self._log = structlog.get_logger()
        self._since: dict[tuple[str, str | None], int] = {}
        self._shown: frozenset[tuple[str, str | None, Severity]] = frozenset()
        self._broken: set[str] = set()
        self._listeners: list[Callable[[Health], None]] = []
        self._watchdog = (False, False)
        self._task: asyncio.Task[None] | None = None
        self._pending: asyncio.Handle | None = None
        self.verdict: Verdict = "healthy"

    async def start(self) -> None:
        """Look once, and go on looking until `aclose`."""
        self.evaluate()
        self._task = asyncio.create_task(self._run(), name="health")

    async def aclose(self) -> None:
        """Stop looking."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def touch(self) -> None:
        """Have the checks looked at soon; many calls in one turn of the loop are one look."""
        if self._pending is None:
            self._pending = asyncio.get_running_loop().call_soon(self._look)

    def on_change(self, listener: Callable[[Health], None]) -> Callable[[], None]:
        """Call `listener` after each change, until the returned function is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def set_watchdog(self, *, enabled: bool, withheld: bool) -> None:
        """Note how the watchdog stands, for those who ask for the health."""
        self._watchdog = (enabled, withheld)

    def evaluate(self) -> Health:
        """Look at every check and return how the host is."""
        conditions, failing = self._look_at_all()
        health = self._summarise(conditions, failing)
        self._tell(health)
        return health

    def _look(self) -> None:
        self._pending = None
        self.evaluate()

    async def _run(self) -> None:
        while True:
            due_ns = self._clock() + round(self._interval_s * _SECOND)
            await self._sleep(self._interval_s)
            self.lag.observe(self._clock() - due_ns)
            self.evaluate()

    def _look_at_all(self) -> tuple[list[_Condition], dict[str, set[str | None]]]:
        now_ns = self._clock()
        failing: dict[str, set[str | None]] = {}
        conditions: list[_Condition] = []
        since: dict[tuple[str, str | None], int] = {}
        for declared in self._checks:
            check, findings = self._probe(declared)
            for finding in findings:
                key = (check.code, finding.gpu)
                since[key] = self._since.get(key, now_ns)
                age_s = (now_ns - since[key]) / _SECOND
                hidden_by = _explained_by(check, finding, failing)
                failing.setdefault(check.code, set()).add(finding.gpu)
                conditions.append(
                    _Condition(
                        check=check,
                        finding=finding,
                        severity=_severity(check, age_s),
                        age_s=age_s,
                        visible=hidden_by is None and age_s >= check.time_to_visible_s,
                        hidden_by=hidden_by,
                    )
                )
        self._since = since
        return conditions, failing

    def _probe(self, check: Check) -> tuple[Check, Sequence[Finding]]:
        try:
            findings = check.probe()
        except Exception as error:  # noqa: BLE001 - one check is an edge
            return self._failed(check, error)
        self._broken.discard(check.code)
        return check, findings

    def _failed(self, check: Check, error: Exception) -> tuple[Check, Sequence[Finding]]:
        """A check that fails neither hides the others, nor is good news, nor causes a restart."""
        if check.code not in self._broken:
            self._broken.add(check.code)
            self._log.error("health.check_failed", check=check.code, exc_info=error)
        finding = Finding(
            message=f"the check {check.code} itself fails: {error!r}",
            action="Report this with the traceback in the journal (event health.check_failed).",
        )
        return replace(check, severity="warning", unhealthy_after_s=None), (finding,)

    def _summarise(
        self, conditions: Sequence[_Condition], failing: Mapping[str, set[str | None]]
    ) -> Health:
        shown = sorted(
            (condition for condition in conditions if condition.visible),
            key=lambda condition: _GRAVEST_FIRST.index(condition.severity),
        )
        passing = [_passing(check) for check in self._checks if check.code not in failing]
        return Health(
            verdict=_VERDICTS[shown[0].severity] if shown else "healthy",
            reasons=[_reason(condition) for condition in shown],
            checks=[*(_state(condition) for condition in conditions), *passing],
            watchdog_enabled=self._watchdog[0],
            watchdog_withheld=self._watchdog[1],
        )

    def _tell(self, health: Health) -> None:
        shown = frozenset((each.check, each.gpu, each.severity) for each in health.reasons)
        if shown == self._shown:
            return
        previous, self.verdict = self.verdict, health.verdict
        self._shown = shown
        severity = next(each for each, verdict in _VERDICTS.items() if verdict == self.verdict)
        why = "; ".join(each.message for each in health.reasons if each.severity != "info")
        self._events.emit(
            "health.changed",
            f"the host is {health.verdict}" + (f": {why}" if why else ""),
            severity=severity,
            verdict=health.verdict,
            previous=previous,
            checks=sorted({each.check for each in health.reasons}),
        )
        for listener in tuple(self._listeners):
            listener(health)


def _in_order(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Return the checks so that each comes after those it depends on."""
    ordered: dict[str, Check] = {}
    waiting = list(checks)
    while waiting:
        ready = [check for check in waiting if all(code in ordered for code in check.depends_on)]
        if not ready:
            raise ValueError(f"checks depend on each other or on none: {[c.code for c in waiting]}")
        for check in ready:
            if check.code in ordered:
                raise ValueError(f"two checks are called {check.code}")
            ordered[check.code] = check
        waiting = [check for check in waiting if check.code not in ordered]
    return tuple(ordered.values())


def _explained_by(
    check: Check, finding: Finding, failing: Mapping[str, set[str | None]]
) -> str | None:
    for code in check.depends_on:
        gpus = failing.get(code, set())
        if None in gpus or finding.gpu in gpus:
            return code
    return None


def _severity(check: Check, age_s: float) -> Severity:
    if check.unhealthy_after_s is not None and age_s >= check.unhealthy_after_s:
        return "critical"
    return check.severity


def _reason(condition: _Condition) -> HealthReason:
    return HealthReason(
        check=condition.check.code,
        severity=condition.severity,
        message=condition.finding.message,
        action=condition.finding.action or condition.check.action,
        since_s=condition.age_s,
        gpu=condition.finding.gpu,
    )


def _state(condition: _Condition) -> CheckState:
    return CheckState(
        check=condition.check.code,
        passing=False,
        visible=condition.visible,
        severity=condition.severity,
        message=condition.finding.message,
        hidden_by=condition.hidden_by,
        gpu=condition.finding.gpu,
    )


def _passing(check: Check) -> CheckState:
    return CheckState(
        check=check.code,
        passing=True,
        visible=False,
        severity=check.severity,
        message="",
        hidden_by=None,
        gpu=None,
    )
