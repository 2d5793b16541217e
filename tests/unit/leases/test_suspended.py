"""SEMANTICS 5: what was read before the host slept says nothing of now; time goes on as it was."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpu_views import GIB
from lease_host import BIG, SMALL, LeaseHost, ask, caller_of, lease_host, until
from superezio.errors import NoCapacityError, WaitTimeoutError
from superezio.wire import Lease

ME = caller_of()
NIGHT_NS = 8 * 3600 * 1_000_000_000


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LeaseHost]:
    async with lease_host(tmp_path) as host:
        yield host


def sleep(host: LeaseHost) -> None:
    """Let a night pass, of which CLOCK_MONOTONIC shows a moment."""
    host.clock.advance(0.001)
    host.slept_ns += NIGHT_NS


async def test_a_reading_from_before_a_sleep_is_not_gone_by(host: LeaseHost) -> None:
    """It is a moment old by CLOCK_MONOTONIC; meanwhile somebody took the VRAM."""
    assert isinstance(host.leases.acquire(ME, ask(1)), Lease), "the reading is fresh"
    sleep(host)
    host.big.foreign_bytes = 11 * GIB
    asked = len(host.monitor.asked)
    lease = await host.later(ME, vram=4)
    assert len(host.monitor.asked) > asked
    assert lease.gpus[0].uuid == SMALL
    (told,) = host.only("host.resumed")
    assert told.data["suspended_s"] == NIGHT_NS / 1e9


async def test_nothing_is_granted_on_a_gpu_that_was_not_read_since(host: LeaseHost) -> None:
    sleep(host)
    host.small.hung = True
    assert (await host.later(ME, vram=2, prefer=[SMALL])).gpus[0].uuid == BIG
    with pytest.raises(NoCapacityError) as refused:
        await host.later(ME, vram=2, avoid=[BIG])
    reasons = refused.value.data["placement"]["gpus"]
    assert [each["code"] for each in reasons] == ["avoided", "settling"]
    host.small.hung = False
    host.monitor.read()
    assert host.now(ME, vram=2, avoid=[BIG]).gpus[0].uuid == SMALL


async def test_who_waits_is_granted_by_a_reading_of_after_the_sleep(host: LeaseHost) -> None:
    host.big.processes[os.getppid()] = 9 * GIB
    host.monitor.read()
    waiting = host.later(ME, vram=8, wait_ms=60_000)
    await until(lambda: "lease.queued" in host.types())
    del host.big.processes[os.getppid()]
    host.big.read(host.clock())
    sleep(host)
    host.monitor.changed()
    assert not waiting.done()
    host.monitor.read()
    async with asyncio.timeout(5):
        assert (await waiting).gpus[0].uuid == BIG


async def test_no_ttl_grace_or_deadline_is_over_by_a_sleep(host: LeaseHost) -> None:
    timed = host.now(ME, vram=1, prefer=[BIG], mode="ttl", ttl_ms=9_000)
    orphan = host.now(ME, vram=1, mode="connection")
    host.leases.connection_closed("c1")
    waiting = host.later(caller_of(connection="c2"), vram=12, wait_ms=9_000)
    await until(lambda: "lease.queued" in host.types())
    sleep(host)
    host.monitor.changed()
    assert host.leases.get(ME, timed.id).expires_in_s == pytest.approx(9, abs=0.1)
    assert host.leases.get(ME, orphan.id).expires_in_s == pytest.approx(5, abs=0.1)
    assert not waiting.done()
    host.clock.advance(10)
    host.monitor.changed()
    assert len(host.only("lease.lost")) == 2, "they go on where they stopped"
    with pytest.raises(WaitTimeoutError):
        await waiting


async def test_a_sleep_makes_no_lease_idle(host: LeaseHost) -> None:
    lease = host.now(ME)
    sleep(host)
    host.monitor.read()
    assert host.leases.get(ME, lease.id).idle_s == pytest.approx(0, abs=0.1)
    assert not host.only("lease.idle")
