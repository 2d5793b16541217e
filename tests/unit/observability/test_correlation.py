"""Ids of requests, and the scope that carries them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest

from supereziod.observability.correlation import (
    RequestScope,
    accept_id,
    correlation_id,
    current_scope,
    new_id,
    note,
)


@pytest.fixture
def scope() -> Iterator[RequestScope]:
    scope = RequestScope(correlation_id="abc", method="lease.acquire")
    token = current_scope.set(scope)
    yield scope
    current_scope.reset(token)


def test_a_fresh_id_is_128_random_bits() -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", new_id())
    assert new_id() != new_id()


@pytest.mark.parametrize("given", ["a", "A-b_c.d:e", "x" * 64])
def test_a_well_formed_id_is_kept(given: str) -> None:
    assert accept_id(given) == given


@pytest.mark.parametrize("given", [None, "", "a b", "a\n", "x" * 65, "é", "a/b"])
def test_any_other_is_replaced(given: str | None) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", accept_id(given))


def test_outside_a_request_there_is_no_id() -> None:
    assert correlation_id() is None
    note(lease="L1")
    assert current_scope.get() is None


def test_what_a_request_is_about_is_noted_as_it_becomes_known(scope: RequestScope) -> None:
    note(gpu="GPU-1")
    note(lease="L1")
    noted = current_scope.get()
    assert noted is not None
    assert (noted.gpu, noted.lease, noted.method) == ("GPU-1", "L1", "lease.acquire")
    note(gpu="GPU-2")
    noted = current_scope.get()
    assert noted is not None
    assert (noted.gpu, noted.lease) == ("GPU-2", "L1"), "what was known before stays"
    assert (scope.gpu, correlation_id()) == (None, "abc")


async def test_requests_at_the_same_time_keep_their_own() -> None:
    def handle(name: str) -> None:
        current_scope.set(RequestScope(correlation_id=name))
        note(lease=f"lease of {name}")

    async def request(name: str, others: asyncio.Barrier) -> None:
        handle(name)
        await others.wait()
        found = current_scope.get()
        assert found is not None
        assert (found.correlation_id, found.lease) == (name, f"lease of {name}")

    barrier = asyncio.Barrier(3)
    async with asyncio.TaskGroup() as tasks:
        for name in ("a", "b", "c"):
            tasks.create_task(request(name, barrier))
    assert current_scope.get() is None
