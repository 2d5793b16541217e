"""The one line that `systemctl status` shows."""

from __future__ import annotations

from superezio.wire import Health
from supereziod.gpu.hardware import Snapshot


def status_text(health: Health, snapshot: Snapshot, *, leases: int, waiting: int) -> str:
    """Return the verdict, the GPUs and the leases, with the gravest reason first if any."""
    units = snapshot.units
    admitting = sum(1 for gpu in units if gpu.block is None)
    why = next((each.message for each in health.reasons if each.severity != "info"), None)
    verdict = f"{health.verdict}: {why}" if why is not None else health.verdict
    what = _count(len(units), "GPU")
    if any(gpu.identity.mig is not None for gpu in units):
        what = f"{len(units)} GPUs and MIG instances"
    gpus = f"{admitting} of {what} open to leases"
    queue = f", {waiting} waiting" if waiting else ""
    return f"{verdict} | {gpus} | {_count(leases, 'lease')}{queue}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
