"""Metrics of the leases: how many there are, who waits, and what they leave free on each GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

from superezio.wire import LeaseState
from supereziod.gpu.hardware import Snapshot
from supereziod.gpu.metrics import GPU_LABELS, gpu_labels
from supereziod.leases.views import GpuUsage
from supereziod.observability.metrics import Family, Metric, gauge, single

#: What a lease that is there can be; the other states are of those that wait, or are gone.
STATES: Final[tuple[LeaseState, ...]] = ("granted", "growing", "active", "draining", "orphaned")

_LEASES: Final = gauge("superezio_leases", "Leases there are, by their state", "state")
_QUEUE: Final = gauge("superezio_lease_queue_length", "Acquires that wait for a lease")
_ON_GPU: Final = gauge("superezio_gpu_leases", "Leases on the GPU", *GPU_LABELS)
_RESERVED: Final = gauge(
    "superezio_lease_reserved_bytes",
    "VRAM that leases hold of the GPU: reserved or used, whichever is more",
    *GPU_LABELS,
)
_FOREIGN: Final = gauge(
    "superezio_gpu_foreign_bytes", "VRAM in use by programs without a lease", *GPU_LABELS
)
_LEASABLE: Final = gauge(
    "superezio_gpu_leasable_bytes", "VRAM that a lease could get now", *GPU_LABELS
)
_ADMISSIBLE: Final = gauge(
    "superezio_gpu_admissible", "1 where a lease may start on the GPU, if it fits", *GPU_LABELS
)


class Leases(Protocol):
    """The lease manager, as far as it is asked."""

    @property
    def counts(self) -> tuple[int, int]:
        """How many leases there are, and how many acquires wait."""

    def by_state(self) -> Mapping[LeaseState, int]:
        """Return how many leases are in each state."""

    def usage(self) -> Mapping[str, GpuUsage]:
        """Return what the leases know of each GPU, by UUID."""


class LeaseMetrics:
    """The source of what is leased."""

    families: Final[tuple[Family, ...]] = (
        _LEASES,
        _QUEUE,
        _ON_GPU,
        _RESERVED,
        _FOREIGN,
        _LEASABLE,
        _ADMISSIBLE,
    )

    def __init__(self, leases: Leases, *, snapshot: Callable[[], Snapshot]) -> None:
        self._leases = leases
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Return what holds now."""
        counts = self._leases.by_state()
        yield Metric(_LEASES, [((state,), counts.get(state, 0)) for state in STATES])
        yield single(_QUEUE, self._leases.counts[1])
        usage = self._leases.usage()
        found = [
            (view, gpu_labels(view), usage[view.uuid])
            for view in self._snapshot().gpus
            if view.uuid in usage
        ]
        yield Metric(_ON_GPU, [(labels, used.leases) for _, labels, used in found])
        yield Metric(_RESERVED, [(labels, used.reserved_bytes) for _, labels, used in found])
        yield Metric(
            _FOREIGN,
            [
                (labels, used.foreign_bytes)
                for _, labels, used in found
                if used.foreign_bytes is not None
            ],
        )
        yield Metric(_LEASABLE, [(labels, used.leasable_bytes) for _, labels, used in found])
        yield Metric(
            _ADMISSIBLE,
            [
                (labels, float(view.block is None and used.taken is None))
                for view, labels, used in found
            ],
        )
