"""A daemon that has too much to do to be told how a call ended: nothing stays taken."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fake_daemon import FakeDaemon, Silence
from superezio import AsyncClient, Client
from superezio.errors import BusyError, InvalidParamsError
from superezio.guarding.insisting import Patience


def busy(retry_after_ms: int | None = 20) -> BusyError:
    return BusyError("too many requests a second", retry_after_ms=retry_after_ms)


def then(daemon: FakeDaemon, method: str, *before: object) -> None:
    """Let `method` be answered by these first, and as ever after that."""
    daemon.answers[method] = [*before, daemon.answers[method]]


async def go_through(client: AsyncClient) -> None:
    async with client.breaker("openai"):
        pass


async def begun_to_tell() -> None:
    """Let others run until the client has a task that tells."""
    while "superezio-tell" not in {each.get_name() for each in asyncio.all_tasks()}:  # noqa: ASYNC110
        await asyncio.sleep(0)


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def sleeper(daemon: FakeDaemon, slept: list[float]) -> Any:
    def sleep(pause_s: float) -> None:
        slept.append(pause_s)
        assert len(slept) < 100, "it insists for ever"

    with Client(str(daemon.path), timeout_s=5.0, sleep=sleep) as made:
        yield made


def test_one_call_waits_two_seconds_at_most_in_all() -> None:
    patience = Patience()
    assert [patience.pause_s(busy(ms)) for ms in (1500, 501, 500, 0)] == [1.5, None, 0.5, None]
    assert Patience().pause_s(busy(0)) == 0.01, "never without a pause"
    assert Patience().pause_s(busy(None)) is None
    assert Patience().pause_s(InvalidParamsError("no", retry_after_ms=5)) is None


@pytest.mark.parametrize("kind", ["breaker", "limit"])
def test_a_busy_daemon_is_told_again_when_it_says(
    sleeper: Client, daemon: FakeDaemon, slept: list[float], kind: str
) -> None:
    then(daemon, f"{kind}.settle", busy(250), busy(100))
    with getattr(sleeper, kind)("openai"):
        pass
    assert len(daemon.asked(f"{kind}.settle")) == 3
    assert slept == [0.25, 0.1]
    with sleeper.breaker("openai"):
        pass
    assert daemon.connections == 1, "it was told, so that the connection serves on"


@pytest.mark.parametrize("kind", ["breaker", "limit"])
def test_a_daemon_that_cannot_be_told_takes_all_back_with_the_connection(
    sleeper: Client, daemon: FakeDaemon, slept: list[float], kind: str
) -> None:
    daemon.answers[f"{kind}.settle"] = busy(300)
    with getattr(sleeper, kind)("openai"):
        pass
    assert slept == [0.3] * 6
    assert daemon.connections == 1
    with sleeper.breaker("openai", when_absent="closed"):
        pass
    assert daemon.connections == 2


@pytest.mark.parametrize("refusal", [busy(60_000), busy(None), InvalidParamsError("no")])
def test_what_waiting_does_not_help_ends_the_connection_at_once(
    sleeper: Client, daemon: FakeDaemon, slept: list[float], refusal: Any
) -> None:
    daemon.answers["limit.settle"] = refusal
    with sleeper.limit("openai"):
        pass
    with sleeper.breaker("openai"):
        pass
    assert (slept, daemon.connections) == ([], 2)


def test_an_interrupted_wait_ends_the_connection(daemon: FakeDaemon) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    daemon.answers["limit.settle"] = busy()
    with Client(str(daemon.path), sleep=interrupt) as client:
        with pytest.raises(KeyboardInterrupt), client.limit("openai"):
            pass
        with client.breaker("openai"):
            pass
    assert daemon.connections == 2


def test_the_parts_of_one_call_share_its_patience_and_its_connection(
    sleeper: Client, daemon: FakeDaemon, slept: list[float]
) -> None:
    daemon.answers |= {
        method: busy(800) for method in ("breaker.settle", "limit.settle", "cache.set")
    }
    with sleeper.guard("openai", cache_key="k") as call:
        call.value = 1
    assert slept == [0.8, 0.8]
    tried = ("breaker.settle", "limit.settle", "cache.set", "cache.fail")
    assert [len(daemon.asked(method)) for method in tried] == [3, 1, 1, 1]
    assert daemon.connections == 1, "all are told on the connection that has them"


def test_a_lead_that_is_given_up_instead_costs_no_connection(
    sleeper: Client, daemon: FakeDaemon
) -> None:
    daemon.answers["cache.set"] = busy(None)
    for _ in range(2):
        with sleeper.guard("openai", cache_key="k") as call:
            call.value = 1
    assert (len(daemon.asked("cache.fail")), daemon.connections) == (2, 1)


async def test_asyncio_tells_a_busy_daemon_again(aclient: AsyncClient, daemon: FakeDaemon) -> None:
    then(daemon, "breaker.settle", busy(), busy())
    then(daemon, "limit.settle", busy())
    async with aclient.guard("openai"):
        pass
    assert (len(daemon.asked("breaker.settle")), len(daemon.asked("limit.settle"))) == (3, 2)
    await go_through(aclient)
    assert daemon.connections == 1


async def test_a_task_of_the_client_tells_it_where_the_caller_is_cancelled(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    then(daemon, "limit.settle", busy(100))

    async def call() -> None:
        async with aclient.limit("openai"):
            pass

    task = asyncio.ensure_future(call())
    await begun_to_tell()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(daemon.await_asked, "limit.settle", 2)


async def test_one_that_is_cancelled_as_it_tells_leaves_nothing_taken_either(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["limit.settle"] = Silence

    async def call() -> None:
        async with aclient.limit("openai"):
            pass

    task = asyncio.ensure_future(call())
    await asyncio.to_thread(daemon.await_asked, "limit.settle")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await go_through(aclient)
    assert daemon.connections == 2


async def test_closing_ends_what_is_still_to_be_told(daemon: FakeDaemon) -> None:
    daemon.answers["limit.settle"] = busy(1900)

    async def call() -> str:
        async with client.limit("openai"):
            pass
        return "ended"

    async with AsyncClient(str(daemon.path)) as client:
        task = asyncio.ensure_future(call())
        await begun_to_tell()
    assert await task == "ended", "the caller is not cancelled with it"
    assert len(daemon.asked("limit.settle")) == 1


@pytest.mark.parametrize("refusal", [busy(60_000), busy(700), InvalidParamsError("no")])
async def test_the_shared_connection_ends_once_no_call_is_under_way(
    aclient: AsyncClient, daemon: FakeDaemon, refusal: Any
) -> None:
    daemon.answers["limit.settle"] = refusal
    async with aclient.breaker("other"):
        async with aclient.limit("openai"):
            pass
        await go_through(aclient)
        assert daemon.connections == 1, "it has another call's permit"
    assert len(daemon.asked("breaker.settle")) == 2
    await go_through(aclient)
    assert daemon.connections == 2


async def test_it_does_not_end_while_it_has_what_callers_hold_by_themselves(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    await aclient.breaker_acquire("other")
    daemon.answers["limit.settle"] = busy(60_000)
    async with aclient.limit("openai"):
        pass
    await go_through(aclient)
    assert daemon.connections == 1
