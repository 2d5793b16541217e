"""The tie between the daemon's health and systemd's watchdog.

Pings go out from the event loop, so that a loop that does not turn sends none, and only while the
verdict is not unhealthy. Withholding one is never silent: the reason is stored first, then told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, Literal

import structlog

from superezio.wire import Health, HealthReason
from supereziod.gpu.hardware import Snapshot
from supereziod.health.manager import HealthManager
from supereziod.health.notifier import Notifier
from supereziod.health.record import WatchdogRecord, Withholding
from supereziod.health.self_check import SelfCheck
from supereziod.health.status import status_text
from supereziod.observability.events import EventLog

_SECOND: Final = 1_000_000_000
_OVERHEAT_CHECK: Final = "gpu_critical"


class Watchdog:
    """Pings at a third of `timeout_s` (None: no one asked for pings), and keeps STATUS= current.

    `self_check` is looked at before each ping, and may take half the time between two. A GPU that
    overheats withholds pings unless `on_overheat` is "report".
    """

    def __init__(
        self,
        *,
        notifier: Notifier,
        health: HealthManager,
        record: WatchdogRecord,
        events: EventLog,
        snapshot: Callable[[], Snapshot],
        timeout_s: float | None,
        boot_id: str,
        on_overheat: Literal["restart", "report"] = "restart",
        leases: Callable[[], tuple[int, int]] = lambda: (0, 0),
        self_check: SelfCheck | None = None,
        forget_after_s: float = 900.0,
        idle_interval_s: float = 10.0,
        clock: Callable[[], int] = time.monotonic_ns,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._notifier = notifier
        self._health = health
        self._record = record
        self._events = events
        self._snapshot = snapshot
        self._boot_id = boot_id
        self._on_overheat = on_overheat
        self._leases = leases
        self._self_check = self_check
        self._forget_after_ns = round(forget_after_s * _SECOND)
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._log = structlog.get_logger()
        self.enabled = timeout_s is not None and notifier.enabled
        self.interval_s = timeout_s / 3 if timeout_s is not None else idle_interval_s
        self._withheld: Withholding | None = None
        self._well_since_ns: int | None = None
        self._status = ""
        self._task: asyncio.Task[None] | None = None
        self._unlisten: Callable[[], None] | None = None

    @property
    def withheld(self) -> Withholding | None:
        """Why pings are withheld now, or None."""
        return self._withheld

    @property
    def last_reason(self) -> Withholding | None:
        """Why an earlier run was not pinging when it ended, until that is cleared."""
        return self._record.last

    async def start(self) -> None:
        """Say that the watchdog ended the last run, if it did, and beat until `aclose`."""
        self._health.set_watchdog(enabled=self.enabled, withheld=False)
        last = self._record.last
        if last is not None and self._record.ended_last_run:
            self._events.emit(
                "watchdog.restarted",
                last.of_earlier_run,
                severity="warning",
                gpu=last.gpu,
                reason=last,
            )
        self._unlisten = self._health.on_change(self._health_changed)
        self._task = asyncio.create_task(self._run(), name="watchdog")

    async def aclose(self) -> None:
        """Stop beating, and close the notifier, which is the watchdog's from the start."""
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._notifier.close()

    def ready(self) -> None:
        """Tell systemd that the daemon serves; also after a reload."""
        self._notifier.send("READY=1")
        self.refresh_status()

    def reloading(self) -> None:
        """Tell systemd that a reload begins; `ready` tells that it is done."""
        self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={self._clock() // 1000}")

    def stopping(self) -> None:
        """Tell systemd that the daemon stops."""
        self._notifier.send("STOPPING=1", "STATUS=stopping")

    def refresh_status(self) -> None:
        """Send STATUS= if it reads differently now."""
        self._send_status(self._health.evaluate())

    async def beat(self) -> None:
        """Look once, and ping or withhold."""
        if self._self_check is not None:
            await self._self_check.look(patience_s=self.interval_s / 2)
        health = self._health.evaluate()
        reason = self._reason(health)
        if reason is None:
            self._resume()
            if self.enabled:
                self._notifier.send("WATCHDOG=1")
            self._forget_last()
        elif self.enabled:
            self._withhold(reason)
        self._send_status(health)

    async def _run(self) -> None:
        due_ns = self._clock()
        while True:
            try:
                await self.beat()
            except Exception:  # noqa: BLE001 - one background loop is an edge
                # No ping went out: that must not be silent, and the next beat may succeed.
                self._log.exception("watchdog.beat_failed")
            due_ns = max(due_ns + round(self.interval_s * _SECOND), self._clock())
            await self._sleep((due_ns - self._clock()) / _SECOND)

    def _reason(self, health: Health) -> Withholding | None:
        if self._self_check is not None and self._self_check.stuck:
            return self._describe("stuck", self._self_check.fault or "it does not answer", None)
        critical = [each for each in health.reasons if each.severity == "critical"]
        for each in critical:
            if each.check != _OVERHEAT_CHECK:
                return self._describe("unhealthy", each.message, each)
        if critical and self._on_overheat == "restart":
            return self._describe("overheat", critical[0].message, critical[0])
        return None

    def _describe(
        self,
        kind: Literal["overheat", "stuck", "unhealthy"],
        message: str,
        reason: HealthReason | None,
    ) -> Withholding:
        gpu = reason.gpu if reason is not None else None
        view = self._snapshot().find(gpu) if gpu is not None else None
        sample = view.sample if view is not None else None
        return Withholding(
            kind=kind,
            message=message,
            time=self._now().isoformat(timespec="milliseconds"),
            boot_id=self._boot_id,
            gpu=gpu,
            temperature_c=sample.temperature_c if sample is not None else None,
        )

    def _withhold(self, reason: Withholding) -> None:
        self._well_since_ns = None
        known = self._withheld
        if known is not None and (known.kind, known.gpu) == (reason.kind, reason.gpu):
            self._record.withhold(known)  # again only where it could not be stored before
            return
        stored = self._record.withhold(reason)
        self._withheld = reason
        self._health.set_watchdog(enabled=True, withheld=True)
        self._send_status(self._health.evaluate())
        self._events.emit(
            "watchdog.withheld",
            f"watchdog pings are withheld, systemd will restart the daemon: {reason.message}",
            severity="critical",
            gpu=reason.gpu,
            kind=reason.kind,
            temperature_c=reason.temperature_c,
            stored=stored,
        )

    def _resume(self) -> None:
        reason, self._withheld = self._withheld, None
        if reason is None:
            return
        self._record.resume()
        self._health.set_watchdog(enabled=self.enabled, withheld=False)
        self._events.emit(
            "watchdog.resumed",
            f"watchdog pings go out again; they were withheld because {reason.message}",
            gpu=reason.gpu,
            kind=reason.kind,
        )

    def _forget_last(self) -> None:
        if self._record.last is None:
            return
        now_ns = self._clock()
        if self._well_since_ns is None:
            self._well_since_ns = now_ns
        if now_ns - self._well_since_ns >= self._forget_after_ns:
            self._record.clear_last()

    def _health_changed(self, health: Health) -> None:
        self._send_status(health)

    def _send_status(self, health: Health) -> None:
        leases, waiting = self._leases()
        text = status_text(health, self._snapshot(), leases=leases, waiting=waiting)
        if self._withheld is not None:
            text = f"watchdog pings withheld ({self._withheld.kind}) | {text}"
        if text != self._status and self._notifier.send(f"STATUS={text}"):
            self._status = text
