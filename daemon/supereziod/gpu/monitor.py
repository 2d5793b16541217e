"""What the daemon knows of its GPUs now: readings come in, a snapshot and events come out.

Everything here happens on the event loop and changes state before it tells anyone. The snapshot
is built when it is asked for, and only anew after something has changed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any, Final

import structlog

from superezio.wire import GpuHistory
from supereziod.gpu.announcements import GpuAnnouncements
from supereziod.gpu.frames import Batch, ProbeSpec
from supereziod.gpu.hardware import DriverInfo, Fault, GpuIdentity, Snapshot, Xid
from supereziod.gpu.passes import PassBoard, PendingPass
from supereziod.gpu.patience import Patience
from supereziod.gpu.probe_process import Launch, launch_probe
from supereziod.gpu.records import GpuRecords
from supereziod.gpu.roster import GpuRoster, MonitorRules
from supereziod.gpu.supervisor import ProbeSupervisor
from supereziod.gpu.track import GpuTrack, Surroundings
from supereziod.observability.events import EventLog

__all__ = ["GpuMonitor", "MonitorRules"]

_SECOND: Final = 1_000_000_000
_END_PROBES_WITHIN_S: Final = 2.0
#: One may end by accident; the next works.
_LOSSES_IN_A_ROW: Final = 2
#: A disk that is full takes time to say so.
_WRITE_OWED_EVERY_NS: Final = _SECOND


class GpuMonitor:
    """Watches the GPUs through probes. Loop-owned.

    `spec` says which driver and how often; `records` what outlived the last run; `resumed_ns` when
    the host woke from its last sleep.
    """

    def __init__(
        self,
        *,
        spec: ProbeSpec,
        records: GpuRecords,
        events: EventLog,
        rules: MonitorRules | None = None,
        patience: Patience | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        launch: Launch = launch_probe,
        leases_on: Callable[[str], list[str]] = lambda _uuid: [],
        resumed_ns: Callable[[], int] = lambda: 0,
        logger: Any = None,  # noqa: ANN401 - structlog's loggers are lazy proxies
    ) -> None:
        self._rules = rules if rules is not None else MonitorRules()
        self._spec = spec
        self._records = records
        self._tell = GpuAnnouncements(events, leases_on=leases_on)
        self._clock = clock
        self._log = logger if logger is not None else structlog.get_logger()
        self._passes = PassBoard(on_late=self._gpus_lag)
        self._roster = GpuRoster(
            spec=spec,
            rules=self._rules,
            records=records,
            tell=self._tell,
            excuse=self._passes.excuse,
            clock=clock,
        )
        self._listeners: list[Callable[[], None]] = []
        self._snapshot: Snapshot | None = None
        self._around = Surroundings(attached=True, driver_fault=None)
        self._driver: DriverInfo | None = None
        self._ready = False
        self._busy = False
        self._ticked_ns = clock()
        self._owed_due_ns = 0
        self._resumed_ns = resumed_ns
        self._awake_ns = resumed_ns()
        self._watcher: asyncio.Task[None] | None = None
        self._supervisor = ProbeSupervisor(
            spec=spec, launch=launch, sink=self, events=events, clock=clock, patience=patience
        )
        self._supervisor.set_process_interval(self._rules.idle_interval_s)

    # --- life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the first probe; `snapshot().ready` says when it has answered."""
        self._supervisor.start()
        self._watcher = asyncio.create_task(self._watch(), name="gpu-monitor")

    async def aclose(self) -> None:
        """End the probes, as far as they can be ended, and record what is known."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        self._passes.finish_all()
        if self._records.fitness:
            self._roster.save_fitness()
        self._records.write_owed()
        await self._supervisor.stop(within_s=_END_PROBES_WITHIN_S)
        self._supervisor.abandon()

    async def detach(self) -> bool:
        """End the probes, so that nobody holds the driver; False if that was so already."""
        if not self._around.attached:
            return False
        self._around = Surroundings(attached=False, driver_fault=None)
        self._passes.finish_all()
        self._roster.forget_calls()
        self._tell.detached()
        self._judge()
        self._changed()
        await self._supervisor.stop(within_s=_END_PROBES_WITHIN_S)
        return True

    async def attach(self) -> bool:
        """Start a probe again; False if there was one."""
        if self._around.attached:
            return False
        self._around = Surroundings(attached=True, driver_fault=None)
        self._tell.attached()
        self._supervisor.start()
        self._judge()
        self._changed()
        return True

    # --- asking -----------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return what is known now: the same object until something changes."""
        if self._snapshot is None:
            self._snapshot = Snapshot(
                taken_ns=self._clock(),
                ready=self._ready,
                attached=self._around.attached,
                driver=self._driver,
                driver_fault=self._around.driver_fault,
                gpus=tuple(self._roster.views()),
            )
        return self._snapshot

    @property
    def probe_pids(self) -> tuple[int, ...]:
        """The probes at work, the main one first."""
        return self._supervisor.pids

    @property
    def stuck_probe_pids(self) -> tuple[int, ...]:
        """Probes that were told to end and do not."""
        return self._supervisor.stuck_pids

    def probe_faults(self) -> list[str]:
        """Return, in words, what is wrong with the probes themselves."""
        faults = [
            f"the probe with pid {pid} was told to end and does not"
            for pid in self._supervisor.stuck_pids
        ]
        if self._supervisor.losses >= _LOSSES_IN_A_ROW:
            faults.append(
                f"{self._supervisor.losses} probes in a row ended by themselves before they had"
                " read a GPU"
            )
        elif self._around.attached and not self._supervisor.pids:
            faults.append("no probe is at work")
        return faults

    async def fresh_pass(
        self, *, max_age_s: float, patience_s: float, for_all: bool = False
    ) -> Snapshot:
        """Return a snapshot whose passes are younger than `max_age_s` where GPUs answer.

        Waits at most `patience_s`, and no longer than a moment for a GPU that lags behind the
        others: such a GPU admits nothing until it has answered, and is not waited for again.
        `for_all` is for a caller whom only a laggard can serve: it is waited for until it is
        UNKNOWN. Callers who want about the same share one pass; GPUs whose pass is young enough
        are not read again.
        """
        oldest_ns = self._clock() - round(max_age_s * _SECOND)
        stale = self._without_pass_since(oldest_ns, for_all=for_all)
        if not stale:
            return self.snapshot()
        wanted = frozenset(track.uuid for track in stale)
        pending = self._passes.join(wanted, not_before_ns=oldest_ns, for_all=for_all)
        if pending is None:
            pending = self._ask_pass(stale, patience_s, for_all=for_all)
        await asyncio.shield(pending.done)
        return self.snapshot()

    def history(self, uuid: str, *, since_s: float) -> GpuHistory:
        """Return the recent past of a GPU. Raises NotFoundError."""
        return self._roster.get(uuid).past(since_s=since_s, now_ns=self._clock())

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after every change, until the returned function is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def set_busy(self, busy: bool) -> None:  # noqa: FBT001 - the one thing it says
        """Say whether leases change: passes then come more often by themselves."""
        if busy != self._busy:
            self._busy = busy
            rules = self._rules
            interval_s = rules.busy_interval_s if busy else rules.idle_interval_s
            self._supervisor.set_process_interval(interval_s)

    def cordon(self, uuid: str, *, reason: str) -> bool:
        """Keep leases away from a GPU; False if nothing changes. Raises NotFoundError."""
        track = self._roster.get(uuid)
        if track.cordon_reason == reason:
            return False
        track.cordon_reason = self._records.cordons[uuid] = reason
        self._tell.cordoned(track, recorded=self._records.save_cordons())
        self._changed()
        return True

    def uncordon(self, uuid: str) -> bool:
        """Let leases come again; False if nothing changes. Raises NotFoundError."""
        track = self._roster.get(uuid)
        if track.cordon_reason is None:
            return False
        track.cordon_reason = None
        self._records.cordons.pop(uuid, None)
        self._tell.uncordoned(track, recorded=self._records.save_cordons())
        self._changed()
        return True

    def records_cordons(self) -> bool:
        """Whether who is cordoned outlives a reboot as it is now."""
        return self._records.has_written("cordons")

    # --- from the probes --------------------------------------------------------------------

    def driver_opened(self, info: DriverInfo) -> None:
        """Take in that the driver answers."""
        was_lost = self._around.driver_fault is not None
        self._driver = info
        self._around = Surroundings(attached=self._around.attached, driver_fault=None)
        self._roster.forget_placeholders()
        if was_lost:
            self._tell.driver_found(info)
        self._changed()

    def driver_failed(self, fault: Fault) -> None:
        """Take in that there is no driver."""
        known = self._around.driver_fault
        self._ready = True
        self._driver = None
        self._around = Surroundings(attached=self._around.attached, driver_fault=fault)
        self._roster.forget_calls()
        self._passes.finish_all()
        if known is None or known.kind != fault.kind:
            self._tell.driver_lost(fault)
        self._judge()
        self._changed()

    def gpu_identified(self, identity: GpuIdentity) -> None:
        """Take in that a GPU is there."""
        self._roster.identify(identity)
        self._changed()

    def gpus_listed(self, uuids: frozenset[str]) -> None:
        """Take in which GPUs a newly opened driver has; the others are gone."""
        self._roster.keep_only(uuids)
        self._ready = True
        self._judge()
        self._changed()

    def batch_received(self, batch: Batch) -> None:
        """Take in samples, faults and late calls."""
        if not (batch.readings or batch.faults or batch.waiting):
            return
        self._note_sleep()
        now_ns = self._clock()
        for reading in batch.readings:
            self._passes.answered(reading.sample.uuid, reading.pass_id)
            self._roster.take(reading, now_ns)
        for fault in batch.faults:
            self._roster.take_fault(fault)
        for waiting in batch.waiting:
            self._roster.take_waiting(waiting)
        self._judge()
        self._changed()

    def xid_received(self, xid: Xid) -> None:
        """Take in a critical error."""
        self._roster.take_xid(xid)
        self._changed()

    # --- passes -----------------------------------------------------------------------------

    def _without_pass_since(self, oldest_ns: int, *, for_all: bool) -> list[GpuTrack]:
        return [
            track
            for track in self._roster
            if track.is_worth_waiting_for(for_all=for_all)
            and (track.last_pass is None or track.last_pass.taken_ns < oldest_ns)
        ]

    def _ask_pass(
        self, expected: list[GpuTrack], patience_s: float, *, for_all: bool
    ) -> PendingPass:
        now_ns = self._clock()
        pending = self._passes.ask(
            (track.uuid for track in expected),
            now_ns=now_ns,
            # One that has to be waited for is until it is UNKNOWN: its reading may have to end
            # before the pass begins.
            patience_s=patience_s if for_all else min(patience_s, self._spec.deadline_s),
            for_all=for_all,
        )
        for track in expected:
            track.ask(pending.id, now_ns)
        # Those that nobody waits for are asked, too: how else would they be known to answer again?
        late = (t.uuid for t in self._roster if not t.is_worth_waiting_for(for_all=for_all))
        self._supervisor.ask_pass(pending.id, [*pending.missing, *late])
        return pending

    def _gpus_lag(self, uuids: Collection[str]) -> None:
        for track in self._roster:
            if track.uuid in uuids and track.unanswered is not None:
                track.answers_late = True
        self._changed()

    # --- judging ----------------------------------------------------------------------------

    async def _watch(self) -> None:
        period_s = self._spec.period_s / 2
        while True:
            await asyncio.sleep(period_s)
            try:
                self.tick()
            except Exception:  # noqa: BLE001 - the edge of this background loop
                self._log.exception("gpu.tick_failed")

    def tick(self) -> None:
        """Notice what did not happen. After a pause of the loop, look at what came in first."""
        self._note_sleep()
        now_ns = self._clock()
        paused = now_ns - self._ticked_ns >= self._roster.stale_ns
        self._ticked_ns = now_ns
        if paused:
            return
        if now_ns >= self._owed_due_ns:
            self._owed_due_ns = now_ns + _WRITE_OWED_EVERY_NS
            self._records.write_owed()
        self._supervisor.tick()
        changed = self._judge()
        changed = self._roster.notice_gaps() or changed
        if changed:
            self._changed()

    def _note_sleep(self) -> None:
        awake_ns = self._resumed_ns()
        if awake_ns > self._awake_ns:
            self._awake_ns = awake_ns
            self._roster.interrupt()

    def _judge(self) -> bool:
        changed = self._roster.judge(self._around)
        self._passes.settle()
        return changed

    def _changed(self) -> None:
        self._snapshot = None
        for listener in tuple(self._listeners):
            listener()
