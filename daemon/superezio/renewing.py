"""Renew a ttl lease for as long as a `with` block lasts: three times per TTL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from superezio.errors import StaleLeaseError, SuperezioError
from superezio.wire import Lease

_TIMES_PER_TTL: Final = 3
#: After a renewal that failed, so much sooner: until the TTL is over there is time for some more.
_SOONER: Final = 4
#: How long one attempt may take: the end of a block may have to wait for it.
_ATTEMPT_S: Final = 2.0


@contextmanager
def renewed_by_thread(lease: Lease, renew: Callable[[float], Lease]) -> Iterator[None]:
    """Renew by `renew(timeout_s)` from a thread of its own until the block ends.

    Does nothing for a lease without a TTL. When the lease is gone the thread ends: the daemon
    tells what became of it.
    """
    if lease.ttl_ms is None:
        yield
        return
    over = threading.Event()
    period_s = _period_s(lease.ttl_ms)

    def keep_renewing() -> None:
        pause_s = period_s
        while not over.wait(pause_s):
            try:
                renew(min(period_s, _ATTEMPT_S))
                pause_s = period_s
            except StaleLeaseError:
                return
            except SuperezioError:
                pause_s = period_s / _SOONER

    thread = threading.Thread(target=keep_renewing, name=f"superezio-renew-{lease.id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@asynccontextmanager
async def renewed_by_task(
    lease: Lease, renew: Callable[[float], Awaitable[Lease]]
) -> AsyncIterator[None]:
    """Renew by `renew(timeout_s)` from a task of its own until the block ends, as the thread."""
    if lease.ttl_ms is None:
        yield
        return
    period_s = _period_s(lease.ttl_ms)

    async def keep_renewing() -> None:
        pause_s = period_s
        while True:
            await asyncio.sleep(pause_s)
            try:
                await renew(min(period_s, _ATTEMPT_S))
                pause_s = period_s
            except StaleLeaseError:
                return
            except SuperezioError:
                pause_s = period_s / _SOONER

    task = asyncio.create_task(keep_renewing(), name=f"superezio-renew-{lease.id}")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _period_s(ttl_ms: int) -> float:
    return ttl_ms / 1000 / _TIMES_PER_TTL
