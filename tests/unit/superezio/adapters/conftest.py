"""A fake daemon that lets all requests through, and both clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from fake_daemon import FakeDaemon
from superezio import AsyncClient, Client, wire


@pytest.fixture
def answering(daemon: FakeDaemon) -> FakeDaemon:
    daemon.answers |= {
        "breaker.acquire": wire.BreakerPermit(
            name="openai", permit=7, state="closed", shared=True, expires_in_ms=600_000
        ),
        "breaker.settle": wire.BreakerSettlement(effect="settled", state="closed"),
        "limit.acquire": wire.LimitReservation(
            name="openai", reservation=5, shared=False, waited_ms=0
        ),
        "limit.settle": wire.LimitSettlement(settled=True),
    }
    return daemon


@pytest.fixture
def client(answering: FakeDaemon) -> Iterator[Client]:
    with Client(str(answering.path)) as made:
        yield made


@pytest.fixture
async def aclient(answering: FakeDaemon) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(str(answering.path)) as made:
        yield made
