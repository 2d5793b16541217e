"""Metrics of the host's health: the verdict, what stands against it, and whether the loop turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, get_args

from superezio.wire import Health, Verdict
from supereziod.observability.metrics import Family, Metric, gauge, single, state_samples

_VERDICT: Final = gauge("superezio_health_verdict", "1 for the verdict on the host", "verdict")
_FAILING: Final = gauge(
    "superezio_health_check_failing",
    "1 where the verdict has a reason by this check, on any GPU",
    "check",
)
_ENABLED: Final = gauge(
    "superezio_watchdog_enabled", "1 where systemd restarts the daemon when its pings stop"
)
_WITHHELD: Final = gauge(
    "superezio_watchdog_withheld", "1 while the pings are withheld, as the host is unhealthy"
)
_LAG: Final = gauge(
    "superezio_loop_lag_seconds", "How late the event loop was at its worst in the last minute"
)


class HealthMetrics:
    """The source of what health.get says, as figures."""

    families: Final[tuple[Family, ...]] = (_VERDICT, _FAILING, _ENABLED, _WITHHELD, _LAG)

    def __init__(self, evaluate: Callable[[], Health], *, loop_lag_s: Callable[[], float]) -> None:
        self._evaluate = evaluate
        self._loop_lag_s = loop_lag_s

    def collect(self) -> Iterator[Metric]:
        """Look at the checks, and return what they find."""
        health = self._evaluate()
        verdicts = state_samples((), get_args(Verdict), health.verdict)
        yield Metric(_VERDICT, verdicts)
        failing = {reason.check for reason in health.reasons}
        # A check has an entry for each of its findings.
        checks = dict.fromkeys(each.check for each in health.checks)
        yield Metric(_FAILING, [((check,), float(check in failing)) for check in checks])
        yield single(_ENABLED, float(health.watchdog_enabled))
        yield single(_WITHHELD, float(health.watchdog_withheld))
        yield single(_LAG, self._loop_lag_s())
