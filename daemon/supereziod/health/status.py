"""The one line that `systemctl status` shows."""

from __future__ import annotations

from superezio.wire import Health
from supereziod.gpu.hardware import Snapshot


def status_text(health: Health, snapshot: Snapshot, *, leases: int, waiting: int) -> str:
    """Return the verdict, the GPUs and the leases, with the gravest reason first if any."""
    admitting = sum(1 for gpu in snapshot.gpus if gpu.block is None)
    why = next((each.message for each in health.reasons if each.severity != "info"), None)
    verdict = f"{health.verdict}: {why}" if why is not None else health.verdict
    gpus = f"{admitting} of {_count(len(snapshot.gpus), 'GPU')} open to leases"
    queue = f", {waiting} waiting" if waiting else ""
    return f"{verdict} | {gpus} | {_count(leases, 'lease')}{queue}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
