"""A ttl lease is renewed for as long as its block lasts, and no longer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

import wire_samples
from superezio.errors import DaemonNotRunningError, StaleLeaseError
from superezio.renewing import RenewingThread, keep_renewing
from superezio.wire import Lease

TIMED = wire_samples.lease(mode="ttl", ttl_ms=30)


class Daemon:
    """Answers renewals by what is in `answers`, and with the lease from then on."""

    def __init__(self, *answers: Exception) -> None:
        self.answers = list(answers)
        self.limits: list[float] = []
        self.on_renewal: Callable[[int], None] = lambda _: None

    def renew(self, timeout_s: float) -> Lease:
        self.limits.append(timeout_s)
        self.on_renewal(len(self.limits))
        if self.answers:
            raise self.answers.pop(0)
        return TIMED


def test_a_thread_renews_until_its_block_ends_over_failures_too() -> None:
    daemon, often = Daemon(DaemonNotRunningError("restarting")), threading.Event()
    daemon.on_renewal = lambda times: often.set() if times == 3 else None
    with RenewingThread(TIMED, daemon.renew) as renewing:
        assert often.wait(10)
    assert renewing._thread is not None
    assert not renewing._thread.is_alive()
    assert set(daemon.limits) == {0.01}


def test_a_thread_ends_with_its_lease() -> None:
    daemon = Daemon(StaleLeaseError("gone"))
    with RenewingThread(TIMED, daemon.renew) as renewing:
        assert renewing._thread is not None
        renewing._thread.join(10)
    assert len(daemon.limits) == 1


def test_a_lease_without_a_ttl_has_no_thread() -> None:
    with RenewingThread(wire_samples.lease(), Daemon().renew) as renewing:
        assert renewing._thread is None


@pytest.mark.parametrize("failure", [[], [DaemonNotRunningError("restarting")]])
async def test_a_task_renews_until_it_is_cancelled(failure: list[Exception]) -> None:
    daemon, often = Daemon(*failure), asyncio.Event()
    daemon.on_renewal = lambda times: often.set() if times == 3 else None

    async def renew(timeout_s: float) -> Lease:
        return daemon.renew(timeout_s)

    task = asyncio.create_task(keep_renewing(TIMED, renew))
    async with asyncio.timeout(10):
        await often.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_ends_with_its_lease_or_where_there_is_no_ttl() -> None:
    daemon = Daemon(StaleLeaseError("gone"))

    async def renew(timeout_s: float) -> Lease:
        return daemon.renew(timeout_s)

    async with asyncio.timeout(10):
        await keep_renewing(TIMED, renew)
        await keep_renewing(wire_samples.lease(), renew)
    assert len(daemon.limits) == 1
