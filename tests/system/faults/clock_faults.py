"""Clocks that jump, and a host that sleeps: no container can have either, so a library in between
tells the daemon so (see clocks.c)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from system.faults.fault import Fault, Sight
from system.faults.host import FaultyHost
from system.service import GIB

_DAY_S = 86_400


def clock_jumps(host: FaultyHost) -> Sight:
    host.set_clocks(wall_s=_DAY_S)
    ahead = _dated_ahead(host)
    assert timedelta(hours=23) < ahead < timedelta(hours=25), ahead
    host.await_pings(25)
    host.set_clocks(wall_s=-_DAY_S)
    behind = _dated_ahead(host)
    assert timedelta(hours=-25) < behind < timedelta(hours=-23), behind
    host.await_pings(25)
    host.set_clocks()
    host.service.call("gpu.cordon", {"gpu": "1", "reason": "the time is as it was"})
    said = host.event("gpu.cordoned", "the time is as it was")
    host.service.call("gpu.uncordon", {"gpu": "1"})
    return Sight("grants a day ahead, then behind", host.status("healthy"), said)


def suspend(host: FaultyHost) -> Sight:
    host.set_clocks(boot_s=3600)
    said = host.event("host.resumed")
    status = host.status("healthy")
    host.await_pings(25)
    host.set_clocks()
    return Sight("CLOCK_BOOTTIME ran on for 1 h", status, said)


def _dated_ahead(host: FaultyHost) -> timedelta:
    """Let the daemon date a grant, and return how far that is ahead of the host."""
    asked = {"vram_bytes": GIB, "mode": "ttl", "ttl_ms": 60_000}
    granted = host.service.call("lease.acquire", asked)
    host.service.call("lease.release", {"lease": granted["id"]})
    return datetime.fromisoformat(granted["granted_at"]) - datetime.now(UTC)


FAULTS = (
    Fault(name="clock jumps", provoke=clock_jumps, away_s=5, lives_on=True),
    Fault(name="suspend", provoke=suspend, away_s=5, lives_on=True),
)
