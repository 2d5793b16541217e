"""The verdict on the host, and what it rests on."""

from __future__ import annotations

from typing import Literal

from superezio.wire.message import Result, Severity

Verdict = Literal["healthy", "degraded", "unhealthy"]


class HealthReason(Result):
    """Why the verdict is not healthy: one visible condition, and what mends it."""

    check: str
    severity: Severity
    message: str
    action: str
    since_s: float
    gpu: str | None


class CheckState(Result):
    """One declared check and how it stands. `hidden_by` names the failed check it depends on."""

    check: str
    passing: bool
    visible: bool
    severity: Severity
    message: str
    hidden_by: str | None
    gpu: str | None


class Health(Result):
    verdict: Verdict
    reasons: list[HealthReason]
    checks: list[CheckState]
    watchdog_enabled: bool
    watchdog_withheld: bool
