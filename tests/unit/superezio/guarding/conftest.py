"""A fake daemon that lets everything through, and both clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from fake_daemon import FakeDaemon
from superezio import AsyncClient, Client, wire


@pytest.fixture
def daemon(daemon: FakeDaemon) -> FakeDaemon:
    daemon.answers |= {
        "breaker.acquire": wire.BreakerPermit(
            name="openai", permit=7, state="closed", shared=True, expires_in_ms=600_000
        ),
        "breaker.settle": wire.BreakerSettlement(effect="settled", state="closed"),
        "limit.acquire": wire.LimitReservation(
            name="openai", reservation=5, shared=False, waited_ms=250
        ),
        "limit.settle": wire.LimitSettlement(settled=True),
        "cache.get": wire.CacheAnswer(status="lead", token="t1"),
        "cache.set": wire.CacheStored(accepted=True, stored=True),
        "cache.fail": wire.CacheFailed(accepted=True),
    }
    return daemon


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[Client]:
    with Client(str(daemon.path), timeout_s=5.0) as made:
        yield made


@pytest.fixture
async def aclient(daemon: FakeDaemon) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(str(daemon.path), timeout_s=5.0) as made:
        yield made
