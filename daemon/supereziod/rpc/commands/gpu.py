"""gpu.*: what the GPUs are doing, and taking them out of use."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from superezio.errors import InvalidParamsError
from superezio.wire import (
    CordonChange,
    CordonParams,
    Gpu,
    GpuHistory,
    GpuList,
    GpuParams,
    GpuProcess,
    GpuProcessList,
    HistoryParams,
    NoParams,
    OptionalGpuParams,
    ProbeState,
)
from supereziod.gpu.hardware import GpuView, ProcessUse, Snapshot
from supereziod.gpu.processes import ProcessDescriber, ProcessDescription
from supereziod.observability.correlation import note
from supereziod.rpc.gpu_names import find_gpu
from supereziod.rpc.gpu_results import Usage, gpu_result
from supereziod.rpc.requests import RequestContext

#: Nothing is kept for nearly so long.
_MAX_SINCE_S: Final = 366 * 86400
_MAX_REASON: Final = 256


class Monitor(Protocol):
    """The GPU monitor, as far as it is asked."""

    def snapshot(self) -> Snapshot:
        """Return what is known now."""

    def history(self, uuid: str, *, since_s: float) -> GpuHistory:
        """Return the metrics of one GPU over the last `since_s` seconds."""

    def cordon(self, uuid: str, *, reason: str) -> bool:
        """Keep new leases off a GPU; False if that was so already."""

    def uncordon(self, uuid: str) -> bool:
        """Take the cordon off; False if there was none."""

    def records_cordons(self) -> bool:
        """Whether who is cordoned outlives a reboot as it is now."""

    async def detach(self) -> bool:
        """Stop the probe; returns whether it is attached then."""

    async def attach(self) -> bool:
        """Start the probe; returns whether it is attached then."""


class LeasedGpu(Usage, Protocol):
    """What is leased on one GPU, and by whom."""

    @property
    def lease_of_pid(self) -> Mapping[int, str]:
        """The lease of each process on it that has one."""


class GpuCommands:
    """Handlers of gpu.*."""

    def __init__(
        self,
        *,
        monitor: Monitor,
        usage: Callable[[], Mapping[str, LeasedGpu]],
        describer: ProcessDescriber,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._monitor = monitor
        self._usage = usage
        self._describer = describer
        self._clock = clock

    def list(self, _request: RequestContext, _params: NoParams) -> GpuList:
        """Return every GPU with its latest sample and what may be leased on it."""
        snapshot = self._monitor.snapshot()
        usage = self._usage()
        now_ns = self._clock()
        return GpuList(
            gpus=[
                gpu_result(view, usage.get(view.uuid), snapshot.driver, now_ns)
                for view in snapshot.gpus
            ]
        )

    def get(self, _request: RequestContext, params: GpuParams) -> Gpu:
        """Return one GPU."""
        snapshot = self._monitor.snapshot()
        view = self._named(snapshot, params.gpu)
        return gpu_result(view, self._usage().get(view.uuid), snapshot.driver, self._clock())

    def history(self, _request: RequestContext, params: HistoryParams) -> GpuHistory:
        """Return the metrics of one GPU over the last `since_s` seconds."""
        if not 0 < params.since_s <= _MAX_SINCE_S:
            raise InvalidParamsError(f"since_s has to be more than 0, and at most {_MAX_SINCE_S}")
        view = self._named(self._monitor.snapshot(), params.gpu)
        return self._monitor.history(view.uuid, since_s=params.since_s)

    async def processes(self, request: RequestContext, params: OptionalGpuParams) -> GpuProcessList:
        """Return the processes on one GPU, or on all, as of each GPU's latest pass."""
        snapshot = self._monitor.snapshot()
        views = snapshot.gpus if params.gpu is None else (self._named(snapshot, params.gpu),)
        uses = _uses(views)
        usage = self._usage()
        known = await self._describer.describe(use.pid for _, use in uses)
        processes = []
        for view, use in uses:
            leased = usage.get(view.uuid)
            lease = leased.lease_of_pid.get(use.pid) if leased is not None else None
            processes.append(_process(request, view.uuid, use, known[use.pid], lease))
        return GpuProcessList(processes=processes)

    def cordon(self, _request: RequestContext, params: CordonParams) -> CordonChange:
        """Keep new leases off a GPU, until uncordon; survives restarts."""
        if len(params.reason) > _MAX_REASON or not params.reason.isprintable():
            raise InvalidParamsError(
                f"reason has up to {_MAX_REASON} characters, and no control characters"
            )
        view = self._named(self._monitor.snapshot(), params.gpu)
        done = self._monitor.cordon(view.uuid, reason=params.reason)
        return self._changed(view, done=done)

    def uncordon(self, _request: RequestContext, params: GpuParams) -> CordonChange:
        """Let new leases onto a cordoned GPU again."""
        view = self._named(self._monitor.snapshot(), params.gpu)
        return self._changed(view, done=self._monitor.uncordon(view.uuid))

    async def detach(self, _request: RequestContext, _params: NoParams) -> ProbeState:
        """Let go of the driver, to reset a GPU or to unload it."""
        await self._monitor.detach()
        return ProbeState(attached=self._monitor.snapshot().attached)

    async def attach(self, _request: RequestContext, _params: NoParams) -> ProbeState:
        """Take hold of the driver again."""
        await self._monitor.attach()
        return ProbeState(attached=self._monitor.snapshot().attached)

    def _changed(self, view: GpuView, *, done: bool) -> CordonChange:
        mig = view.identity.mig
        return CordonChange(
            done=done,
            gpu=view.uuid,
            index=view.identity.index,
            mig_index=None if mig is None else mig.index,
            name=view.identity.name,
            recorded=self._monitor.records_cordons(),
        )

    def _named(self, snapshot: Snapshot, name: str) -> GpuView:
        view = find_gpu(snapshot, name)
        note(gpu=view.uuid)
        return view


def _uses(views: Sequence[GpuView]) -> list[tuple[GpuView, ProcessUse]]:
    """Return what uses these, each use once: of a MIG instance rather than of its whole GPU."""
    in_parts = {
        (view.identity.mig.parent, use.pid)
        for view in views
        if view.identity.mig is not None
        for use in _processes(view)
    }
    uses = [(view, use) for view in views for use in _processes(view)]
    return [(view, use) for view, use in uses if (view.uuid, use.pid) not in in_parts]


def _processes(view: GpuView) -> tuple[ProcessUse, ...]:
    return (view.last_pass.processes or ()) if view.last_pass is not None else ()


def _process(
    request: RequestContext,
    uuid: str,
    use: ProcessUse,
    known: ProcessDescription,
    lease: str | None,
) -> GpuProcess:
    visible = request.may_see(known.uid) if known.uid is not None else request.role == "admin"
    return GpuProcess(
        gpu=uuid,
        pid=use.pid,
        type=use.type,
        vram_bytes=use.vram_bytes,
        user=known.user if visible else None,
        uid=known.uid if visible else None,
        command=known.command if visible else None,
        unit=known.unit if visible else None,
        container=known.container if visible else None,
        lease=lease,
    )
