"""Renew a ttl lease for as long as a `with` block lasts: three times per TTL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from superezio.errors import StaleLeaseError, SuperezioError
from superezio.wire import Lease

_TIMES_PER_TTL: Final = 3
#: After a renewal that failed, so much sooner: until the TTL is over there is time for some more.
_SOONER: Final = 4


class RenewingThread:
    """Renews from a thread of its own, by `renew(timeout_s)`, until the block ends.

    Does nothing for a lease without a TTL. When the lease is gone, or its TTL passed without a
    renewal, the thread ends: the daemon tells what became of it.
    """

    def __init__(self, lease: Lease, renew: Callable[[float], Lease]) -> None:
        self._renew = renew
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if lease.ttl_ms is not None:
            self._period_s = lease.ttl_ms / 1000 / _TIMES_PER_TTL
            self._thread = threading.Thread(
                target=self._run, name=f"superezio-renew-{lease.id}", daemon=True
            )

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        pause_s = self._period_s
        while not self._over.wait(pause_s):
            try:
                self._renew(self._period_s)
                pause_s = self._period_s
            except StaleLeaseError:
                return
            except SuperezioError:
                pause_s = self._period_s / _SOONER


async def keep_renewing(lease: Lease, renew: Callable[[float], Awaitable[Lease]]) -> None:
    """Renew by `renew(timeout_s)` until cancelled, or until the lease is gone."""
    if lease.ttl_ms is None:
        return
    period_s = lease.ttl_ms / 1000 / _TIMES_PER_TTL
    pause_s = period_s
    while True:
        await asyncio.sleep(pause_s)
        try:
            await renew(period_s)
            pause_s = period_s
        except StaleLeaseError:
            return
        except SuperezioError:
            pause_s = period_s / _SOONER
