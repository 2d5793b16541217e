"""What is told of leases to a monitoring system."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gpu_views import GIB
from lease_host import BIG, SMALL, LeaseHost, caller_of, lease_host, until
from metrics_lint import labelled, problems, value
from superezio.wire import LeaseRevokeParams
from supereziod.gpu.hardware import Block
from supereziod.leases.metrics import LeaseMetrics
from supereziod.observability.exposition import Exposition


def told(host: LeaseHost) -> str:
    source = LeaseMetrics(host.leases, snapshot=host.monitor.snapshot)
    text = Exposition([source]).text()
    assert problems(text) == []
    return text


def by_gpu(text: str, name: str) -> dict[str, float]:
    return labelled(text, f"superezio_{name}", "uuid")


async def test_a_host_without_leases_has_none_in_any_state(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as host:
        text = told(host)
    states = labelled(text, "superezio_leases", "state")
    assert states == dict.fromkeys(("granted", "growing", "active", "draining", "orphaned"), 0)
    assert value(text, "superezio_lease_queue_length") == 0
    assert by_gpu(text, "gpu_leases") == {BIG: 0, SMALL: 0}
    assert by_gpu(text, "gpu_leasable_bytes") == {BIG: 12 * GIB, SMALL: 6 * GIB}


async def test_leases_are_counted_by_state_and_those_who_wait_too(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as host:
        host.now(caller_of(), vram=1, prefer=[BIG])
        drained = host.now(caller_of(), vram=1, prefer=[BIG])
        host.leases.revoke(caller_of(), LeaseRevokeParams(lease=drained.id, deadline_s=60))
        host.now(caller_of(), vram=1, prefer=[BIG], mode="connection")
        host.leases.connection_closed("c1")
        host.now(caller_of(), vram=2, prefer=[SMALL], sizes_itself=True)
        waiter = host.later(caller_of(), vram=11, wait_ms=60_000)
        await until(lambda: host.leases.counts == (4, 1))
        text = told(host)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        assert value(told(host), "superezio_lease_queue_length") == 0
    states = labelled(text, "superezio_leases", "state")
    assert states == {"granted": 1, "growing": 1, "active": 0, "draining": 1, "orphaned": 1}
    assert value(text, "superezio_lease_queue_length") == 1
    assert by_gpu(text, "gpu_leases") == {BIG: 3, SMALL: 1}
    assert by_gpu(text, "lease_reserved_bytes") == {BIG: 3 * GIB, SMALL: 2 * GIB}
    assert by_gpu(text, "gpu_admissible") == {BIG: 1, SMALL: 1}


async def test_what_others_use_is_told_from_the_first_reading_on(tmp_path: Path) -> None:
    async with lease_host(tmp_path, read=False) as host:
        host.big.foreign_bytes = 5 * GIB
        assert by_gpu(told(host), "gpu_foreign_bytes") == {}
        host.monitor.read()
        text = told(host)
    assert by_gpu(text, "gpu_foreign_bytes") == {BIG: 5 * GIB, SMALL: 0}
    assert by_gpu(text, "gpu_leasable_bytes") == {BIG: 7 * GIB, SMALL: 6 * GIB}


async def test_a_gpu_that_admits_nothing_has_nothing_to_lease(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as host:
        host.big.block = Block(code="hot", message="it is hot")
        host.monitor.read()
        text = told(host)
    assert by_gpu(text, "gpu_admissible") == {BIG: 0, SMALL: 1}
    assert by_gpu(text, "gpu_leasable_bytes") == {BIG: 0, SMALL: 6 * GIB}


async def test_a_gpu_that_one_lease_has_to_itself_admits_no_other(tmp_path: Path) -> None:
    async with lease_host(tmp_path) as host:
        host.now(caller_of(), vram=1, policy="exclusive", prefer=[SMALL])
        text = told(host)
    assert by_gpu(text, "gpu_admissible") == {BIG: 1, SMALL: 0}
