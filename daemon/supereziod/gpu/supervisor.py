"""Keeps probes running: one for all GPUs, its successor where one hangs, and trials of that one.

The main probe looks after every GPU. When a call for one of them does not return, a successor that
skips this GPU takes over from the main probe, and a trial (a child with that GPU alone) waits for
it to answer; when it has, a successor with all GPUs takes over. A successor takes over only once
each of its GPUs has answered, so that no GPU is without a probe for longer than it has to be.
Synchronous and without a clock of its own: frames, ends and ticks come in, children come out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from msgspec.structs import replace

from supereziod.gpu.children import Child
from supereziod.gpu.frames import (
    Batch,
    Excluded,
    Failed,
    FromProbe,
    GpuFault,
    Identified,
    Interval,
    Opened,
    Pass,
    ProbeSpec,
    Target,
    Waiting,
    XidSeen,
)
from supereziod.gpu.hardware import DriverInfo, Fault, GpuIdentity, Xid
from supereziod.gpu.patience import Backoff, Patience
from supereziod.gpu.probe_pool import ProbePool
from supereziod.gpu.probe_process import Launch, ProbeHandle
from supereziod.gpu.trials import Trials
from supereziod.observability.events import EventLog

_SECOND: Final = 1_000_000_000
_SILENT_PERIODS: Final = 3
_NO_INDEX: Final = -1
_OF_THE_DRIVER: Final = frozenset({"no_library", "no_driver", "version_mismatch"})


class ProbeSink(Protocol):
    """Who hears what the probes find."""

    def driver_opened(self, info: DriverInfo) -> None:
        """The driver answers."""

    def driver_failed(self, fault: Fault) -> None:
        """There is no driver, for now: nothing is known of any GPU."""

    def gpu_identified(self, identity: GpuIdentity) -> None:
        """A GPU is there; it may be known, at another index."""

    def gpus_listed(self, uuids: frozenset[str]) -> None:
        """These are all GPUs that a newly opened driver has."""

    def batch_received(self, batch: Batch) -> None:
        """Samples, faults and calls that are late."""

    def xid_received(self, xid: Xid) -> None:
        """A critical error."""


class ProbeSupervisor:
    """Owns every probe. Loop-owned; `tick` has to be called about twice a second."""

    def __init__(
        self,
        *,
        spec: ProbeSpec,
        launch: Launch,
        sink: ProbeSink,
        events: EventLog,
        clock: Callable[[], int],
        patience: Patience | None = None,
    ) -> None:
        self._spec = spec
        self._sink = sink
        self._events = events
        self._clock = clock
        self._patience = patience if patience is not None else Patience()
        silent_s = max(self._patience.silent_s, _SILENT_PERIODS * spec.period_s)
        self._silent_ns = round(silent_s * _SECOND)
        self._main: Child | None = None
        self._successor: Child | None = None
        self._pool = ProbePool(
            launch=launch,
            listener=self,
            events=events,
            clock=clock,
            stuck_limit=self._patience.stuck_limit,
        )
        self._trials = Trials(pool=self._pool, patience=self._patience, clock=clock)
        self._known: dict[str, int] = {}
        self._running = False
        self._start_ns = 0
        self._succeed_ns = 0
        self._fresh_start = True
        self._losses = 0
        self._restarts = Backoff(
            first_s=self._patience.restart_s, most_s=self._patience.restart_limit_s
        )
        self._reopens = Backoff(
            first_s=self._patience.driver_s, most_s=self._patience.driver_limit_s
        )

    # --- from the monitor -------------------------------------------------------------------

    @property
    def stuck_pids(self) -> tuple[int, ...]:
        """Probes that were told to end and do not."""
        return self._pool.stuck_pids

    @property
    def pids(self) -> tuple[int, ...]:
        """The probes at work, the main one first."""
        at_work = [self._main, self._successor, *(t.child for t in self._trials)]
        return tuple(child.handle.pid for child in at_work if child is not None)

    @property
    def losses(self) -> int:
        """How many main probes in a row ended by themselves before they had read a GPU."""
        return self._losses

    def start(self) -> None:
        """Start the main probe."""
        self._running = True
        self._start_ns = self._losses = 0
        self._restarts.reset()
        self._reopens.reset()
        self.tick()

    async def stop(self, *, within_s: float) -> None:
        """Tell all probes to end and wait for that, but not for those that cannot."""
        self._running = False
        self._retire_all()
        await self._pool.stop(within_s=within_s)

    def abandon(self) -> None:
        """Let go of the probes that do not end, before the loop closes."""
        self._pool.abandon()

    def ask_pass(self, pass_id: int, uuids: Iterable[str]) -> None:
        """Have every probe at work do a pass of these GPUs, as far as it looks after them."""
        self._pool.tell(Pass(id=pass_id, uuids=frozenset(uuids)))

    def set_process_interval(self, seconds: float) -> None:
        """Change how often the probes do a pass by themselves."""
        self._spec = replace(self._spec, process_interval_s=seconds)
        self._pool.tell(Interval(process_s=seconds))

    def tick(self) -> None:
        """Do what has become due."""
        now_ns = self._clock()
        self._pool.report_stuck(after_s=self._patience.stuck_s)
        if not self._running:
            return
        self._check_main(now_ns)
        self._check_successor(now_ns)
        self._trials.tick(self._spec, main=self._main)
        self._plan_succession(now_ns)

    # --- from the probes --------------------------------------------------------------------

    def probe_said(self, probe: ProbeHandle, frame: FromProbe) -> None:
        """Take in a frame of a probe at work."""
        child = self._pool.find(probe)
        if child is None:
            return
        child.heard_ns = self._clock()
        match frame:
            case Opened():
                self._on_opened(child, frame)
            case Failed(fault=fault):
                self._on_failed(child, fault)
            case Identified(identity=identity):
                child.uuids[identity.index] = identity.uuid
                self._know(identity)
                self._sink.gpu_identified(identity)
            case Excluded(index=index):
                child.settle(index)
            case Batch():
                self._on_batch(child, frame)
            case XidSeen(xid=xid):
                self._sink.xid_received(xid)

    def probe_ended(self, probe: ProbeHandle, how: str) -> None:
        """Take in the end of a probe, expected or not."""
        child = self._pool.forget(probe)
        if child is None:
            return
        now_ns = self._clock()
        self._events.emit(
            "probe.lost",
            f"The probe with pid {probe.pid} ended by itself ({how}).",
            severity="warning",
            probe_pid=probe.pid,
            how=how,
        )
        self._losses += child is self._main and not child.is_settled
        self._drop(child)
        if self._main is None:
            self._restart(now_ns, lived_ns=now_ns - child.started_ns)

    def _on_opened(self, child: Child, opened: Opened) -> None:
        child.opened = opened
        self._pool.tell_started(child)
        if child is self._main or child is self._successor:
            self._reopens.reset()
            self._sink.driver_opened(opened.info)
            self._list(child)

    def _on_failed(self, child: Child, fault: Fault) -> None:
        if child is self._main:
            self._lose_driver(fault)
            return
        self._pool.retire(child)
        self._drop(child)

    def _on_batch(self, child: Child, batch: Batch) -> None:
        child.hanging = {waiting.index: waiting.since_ns for waiting in batch.waiting}
        broken = next((f.fault for f in batch.faults if f.fault.kind in _OF_THE_DRIVER), None)
        if broken is not None:
            self._on_failed(child, broken)
            return
        if batch.readings:
            self._losses = 0
        for reading in batch.readings:
            child.settle_uuid(reading.sample.uuid)
        for fault in batch.faults:
            child.settle(fault.index)
        self._sink.batch_received(
            replace(
                batch,
                faults=tuple(fault for fault in batch.faults if self._tells(child, fault)),
                waiting=tuple(
                    replace(waiting, uuid=self._name(child, waiting))
                    for waiting in batch.waiting
                    if self._tells(child, waiting)
                ),
            )
        )
        for reading in batch.readings:
            self._note_good(child, reading.sample.uuid)
        for fault in batch.faults:
            self._note_fault(child, fault)
        self._list(child)

    # --- what a probe's word means ----------------------------------------------------------

    def _tells(self, child: Child, trouble: GpuFault | Waiting) -> bool:
        """Whether the trouble a probe has with a GPU says something of the GPU.

        A successor is on probation itself. A trial speaks for its own GPU alone, and it is
        believed rather than the main probe once the GPU has answered it.
        """
        uuid = self._name(child, trouble)
        trial = self._trials.of_child(child)
        if trial is not None:
            return Target(index=trouble.index, uuid=uuid).key == trial.target.key
        if child is not self._main:
            return False
        rival = self._trials.of_gpu(uuid or "", trouble.index)
        return rival is None or rival.answered_ns is None

    def _name(self, child: Child, trouble: GpuFault | Waiting) -> str | None:
        """Return the UUID of a GPU that did not say it itself, if it was known at that index."""
        if trouble.uuid is not None:
            return trouble.uuid
        only = child.spec.only
        if only is not None and only.index == trouble.index:
            return only.uuid
        return next((u for u, index in self._known.items() if index == trouble.index), None)

    def _know(self, identity: GpuIdentity) -> None:
        for uuid, index in self._known.items():
            if index == identity.index:
                self._known[uuid] = _NO_INDEX
        self._known[identity.uuid] = identity.index

    def _note_good(self, child: Child, uuid: str) -> None:
        if child is self._main:
            trial = self._trials.of_gpu(uuid, child.index_of(uuid))
            if trial is not None:
                self._trials.end(trial)
            return
        trial = self._trials.of_child(child)
        if trial is not None and trial.answered_ns is None:
            trial.answered_ns = self._clock()

    def _note_fault(self, child: Child, fault: GpuFault) -> None:
        if child is self._main:
            uuid = self._name(child, fault)
            if uuid is not None and fault.fault.kind == "gpu_lost":
                self._trials.begin(Target(index=fault.index, uuid=uuid), "lost")
        elif self._trials.of_child(child) is not None and self._tells(child, fault):
            self._pool.retire(child)
            self._trials.drop(child)

    # --- the main probe and its successor ---------------------------------------------------

    def _check_main(self, now_ns: int) -> None:
        main = self._main
        if main is None:
            if now_ns >= self._start_ns and self._successor is None:
                self._main = self._pool.spawn(replace(self._spec, skip=self._trials.to_skip()))
                if self._main is None:
                    self._start_ns = now_ns + self._restarts.next_ns()
            return
        if now_ns - main.heard_ns >= self._silent_ns:
            self._events.emit(
                "probe.lost",
                f"The probe with pid {main.handle.pid} is silent and is replaced.",
                severity="warning",
                probe_pid=main.handle.pid,
                how="silent",
            )
            self._pool.retire(main)
            self._drop(main)
            if self._main is None:
                self._restart(now_ns, lived_ns=now_ns - main.started_ns)
        elif main.opened is None and now_ns - main.started_ns >= self._patience.open_s * _SECOND:
            self._lose_driver(Fault(kind="hang", message="the driver does not answer"))

    def _plan_succession(self, now_ns: int) -> None:
        main = self._main
        if main is None or self._successor is not None or now_ns < self._succeed_ns:
            return
        for index, since_ns in main.hanging.items():
            if now_ns - since_ns >= self._patience.replace_after_s * _SECOND:
                self._trials.begin(Target(index=index, uuid=main.uuids.get(index)), "hung")
        skip = self._trials.to_skip()
        newly_hung = any(not main.skips(target) for target in skip)
        if newly_hung or self._forsakes(main) or self._trials.has_recovered(now_ns):
            self._successor = self._pool.spawn(replace(self._spec, skip=skip))
            self._succeed_ns = now_ns + round(self._patience.settle_s * _SECOND)

    def _check_successor(self, now_ns: int) -> None:
        successor = self._successor
        if successor is None:
            return
        if self._forsakes(successor):  # the main probe has got the GPU back meanwhile
            self._pool.retire(successor)
            self._drop(successor)
        elif successor.is_settled:
            self._promote(successor)
        elif now_ns - successor.started_ns >= self._patience.settle_s * _SECOND:
            self._pool.retire(successor)
            self._drop(successor)

    def _forsakes(self, child: Child) -> bool:
        """Whether the probe skips a GPU that no trial looks after."""
        return any(target not in self._trials for target in child.spec.skip)

    def _promote(self, successor: Child) -> None:
        if self._main is not None:
            self._pool.retire(self._main)
        self._main, self._successor = successor, None
        self._succeed_ns = 0
        for trial in self._trials:
            if trial.answered_ns is not None and not successor.skips(trial.target):
                self._trials.end(trial)
        self._list(successor)

    def _list(self, child: Child) -> None:
        """Tell once which GPUs a newly opened driver has, as far as they can be told apart."""
        if child.listed or child is not self._main or not child.is_accounted_for:
            return
        child.listed = True
        skipped = {target.uuid for target in child.spec.skip}
        listed = frozenset(child.uuids.values()) | (self._known.keys() & skipped)
        for uuid in self._known.keys() - listed:
            self._trials.begin(Target(index=self._known[uuid], uuid=uuid), "lost")
        self._sink.gpus_listed(listed)

    def _restart(self, now_ns: int, *, lived_ns: int) -> None:
        """Start anew: at once if the last one lived for long, after a pause if it did not."""
        if lived_ns >= self._patience.healthy_s * _SECOND:
            self._restarts.reset()
            self._fresh_start = True
        pause_ns = 0 if self._fresh_start else self._restarts.next_ns()
        self._fresh_start = False
        self._start_ns = now_ns + pause_ns
        if self._running:
            self._check_main(now_ns)

    def _lose_driver(self, fault: Fault) -> None:
        self._retire_all()
        self._losses = 0
        self._start_ns = self._clock() + self._reopens.next_ns()
        self._sink.driver_failed(fault)

    def _drop(self, child: Child) -> None:
        """Take a probe that is gone out of its place."""
        if child is self._main:
            self._main, self._successor = self._successor, None
        elif child is self._successor:
            self._successor = None
        self._trials.drop(child)

    def _retire_all(self) -> None:
        for child in self._pool:
            self._pool.retire(child)
        self._main = self._successor = None
        self._trials.clear()
