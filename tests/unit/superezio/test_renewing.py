"""A ttl lease is renewed for as long as its block lasts, and no longer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

import wire_samples
from superezio.errors import DaemonNotRunningError, StaleLeaseError
from superezio.renewing import renewed_by_task, renewed_by_thread
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

    async def renew_async(self, timeout_s: float) -> Lease:
        return self.renew(timeout_s)


def test_a_thread_renews_until_its_block_ends_over_failures_too() -> None:
    daemon, often = Daemon(DaemonNotRunningError("restarting")), threading.Event()
    daemon.on_renewal = lambda times: often.set() if times == 3 else None
    with renewed_by_thread(TIMED, daemon.renew):
        assert often.wait(10)
        assert renewing_threads()
    assert not renewing_threads()
    assert set(daemon.limits) == {0.01}


def test_a_thread_ends_with_its_lease() -> None:
    daemon = Daemon(StaleLeaseError("gone"))
    with renewed_by_thread(TIMED, daemon.renew):
        for thread in renewing_threads():
            thread.join(10)
        assert not renewing_threads()
    assert len(daemon.limits) == 1


def test_a_lease_without_a_ttl_has_no_thread() -> None:
    with renewed_by_thread(wire_samples.lease(), Daemon().renew):
        assert not renewing_threads()


def test_the_end_of_a_block_does_not_wait_for_a_third_of_a_long_ttl() -> None:
    daemon, attempted = Daemon(), threading.Event()
    daemon.on_renewal = lambda _: attempted.set()
    with renewed_by_thread(wire_samples.lease(mode="ttl", ttl_ms=6_300), daemon.renew):
        assert attempted.wait(10)
    assert daemon.limits == [2.0]


@pytest.mark.parametrize("failure", [[], [DaemonNotRunningError("restarting")]])
async def test_a_task_renews_until_its_block_ends(failure: list[Exception]) -> None:
    daemon, often = Daemon(*failure), asyncio.Event()
    daemon.on_renewal = lambda times: often.set() if times == 3 else None
    async with renewed_by_task(TIMED, daemon.renew_async), asyncio.timeout(10):
        await often.wait()
    assert not renewing_tasks()
    assert set(daemon.limits) == {0.01}


async def test_a_task_ends_with_its_lease() -> None:
    daemon = Daemon(StaleLeaseError("gone"))
    async with renewed_by_task(TIMED, daemon.renew_async), asyncio.timeout(10):
        await asyncio.wait(renewing_tasks())
    assert len(daemon.limits) == 1


async def test_a_lease_without_a_ttl_has_no_task() -> None:
    async with renewed_by_task(wire_samples.lease(), Daemon().renew_async):
        assert not renewing_tasks()


def renewing_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("superezio-renew")]


def renewing_tasks() -> list[asyncio.Task[None]]:
    return [each for each in asyncio.all_tasks() if each.get_name().startswith("superezio-renew")]
