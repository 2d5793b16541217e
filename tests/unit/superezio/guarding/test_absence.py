"""Where the daemon is not there: closed, open, or local, by client and by call."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from fake_daemon import FakeDaemon, HangUp, Silence
from superezio import AsyncClient, Client
from superezio.errors import (
    BreakerOpenError,
    ConnectionLostError,
    DaemonNotRunningError,
    InvalidParamsError,
    NotFoundError,
    RateLimitedError,
)

SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = SECOND

    def __call__(self) -> int:
        return self.now_ns


def test_closed_is_the_default_and_waits_as_other_calls_do(tmp_path: Path) -> None:
    client = Client(str(tmp_path / "s"), timeout_s=0.05)
    with pytest.raises(DaemonNotRunningError), client.guard("openai"):
        pytest.fail("it ran")

    @client.cached("answers", key=str)
    def ask(text: str) -> str:
        pytest.fail(f"{text} ran")

    with pytest.raises(DaemonNotRunningError):
        ask("it")


def test_open_lets_the_call_through_without_waiting_for_a_daemon(tmp_path: Path) -> None:
    client = Client(str(tmp_path / "s"), timeout_s=60, when_absent="open")
    with client.breaker("openai") as permit, client.limit("openai", tokens=900) as slot:
        assert (permit.side, slot.side) == ("nobody", "nobody")
        slot.settle(tokens=4)
    calls: list[str] = []

    def ask(text: str) -> str:
        calls.append(text)
        return text

    cached, guarded = client.cached("answers", key=str), client.guard("openai", cache_key=str)
    assert [cached(ask)("a"), cached(ask)("a"), guarded(ask)("b")] == ["a", "a", "b"]
    assert calls == ["a", "a", "b"]
    with client.guard("openai", cache_key="k") as call:
        assert not call.hit


def test_a_call_may_say_otherwise(tmp_path: Path) -> None:
    client = Client(str(tmp_path / "s"), timeout_s=60, when_absent="open")
    with client.breaker("openai", when_absent="local") as permit:
        assert permit.side == "local"
    with (
        pytest.raises(DaemonNotRunningError),
        client.breaker("openai", when_absent="closed", timeout_s=0.05),
    ):
        pytest.fail("it ran")


def test_local_is_a_breaker_a_limit_and_a_cache_of_this_client(tmp_path: Path) -> None:
    client = Client(str(tmp_path / "s"), when_absent="local")
    rules: Any = {"window_calls": 2, "minimum_calls": 2, "failure_rate": 1.0, "open_s": 30}
    for _ in range(2):
        with pytest.raises(OSError, match="down"), client.breaker("openai", **rules):
            raise OSError("down")
    with pytest.raises(BreakerOpenError) as opened, client.breaker("openai", **rules):
        pytest.fail("it ran")
    assert 29_000 < (opened.value.retry_after_ms or 0) <= 30_000
    assert opened.value.data == {"name": "openai", "state": "open"}

    with client.limit("openai", rates="1/1m"):
        pass
    with pytest.raises(RateLimitedError) as limited, client.limit("openai"):
        pytest.fail("it ran")
    assert 59_000 < (limited.value.retry_after_ms or 0) <= 60_000
    assert limited.value.data["dimension"] == "requests"

    calls: list[str] = []

    @client.cached("answers", key=str)
    def ask(text: str) -> str:
        calls.append(text)
        return text

    assert [ask("a"), ask("a")] == ["a", "a"]
    assert calls == ["a"]


def test_local_says_nothing_of_a_limit_whose_rates_it_does_not_know(tmp_path: Path) -> None:
    client = Client(str(tmp_path / "s"), when_absent="local")
    for _ in range(100):
        with client.limit("shared", tokens=1_000_000) as slot:
            assert slot.side == "local"


def test_a_daemon_that_comes_back_is_found_within_a_second(daemon: FakeDaemon) -> None:
    clock = Clock()
    daemon.stop()
    client = Client(str(daemon.path), when_absent="open", clock=clock)
    with client.breaker("openai") as permit:
        assert permit.side == "nobody"
    daemon.start()
    clock.now_ns += SECOND - 1
    with client.breaker("openai") as permit:
        assert permit.side == "nobody", "it is not looked for with each call"
    clock.now_ns += 1
    with client.breaker("openai") as permit:
        assert permit.side == "daemon"
    client.close()


@pytest.mark.parametrize("when_absent", ["open", "local"])
def test_a_daemon_that_does_not_answer_is_not_there(daemon: FakeDaemon, when_absent: Any) -> None:
    """And what it may still hand out returns to it with the connection."""
    daemon.answers["breaker.acquire"] = Silence
    with Client(str(daemon.path), timeout_s=0.05, when_absent=when_absent) as client:
        with client.breaker("openai") as permit:
            assert permit.side != "daemon"
        daemon.answers["breaker.acquire"] = HangUp
        with client.breaker("openai", when_absent=when_absent) as permit:
            assert permit.side != "daemon"
    assert not daemon.asked("breaker.settle")


def test_what_the_daemon_refuses_is_no_absence(daemon: FakeDaemon) -> None:
    daemon.answers["breaker.acquire"] = NotFoundError("?")
    client = Client(str(daemon.path), when_absent="open")
    with pytest.raises(NotFoundError), client, client.breaker("openai"):
        pytest.fail("it ran")


async def test_what_the_daemon_refuses_is_no_absence_for_asyncio_either(
    daemon: FakeDaemon,
) -> None:
    daemon.answers["limit.acquire"] = NotFoundError("there is no limit openai")
    async with AsyncClient(str(daemon.path), when_absent="local") as client:
        with pytest.raises(NotFoundError):
            async with client.limit("openai"):
                pytest.fail("it ran")


def test_rates_that_limit_nothing_are_refused_locally_as_by_the_daemon(tmp_path: Path) -> None:
    client = Client(str(tmp_path / "s"), when_absent="local")
    for rates in ({}, {"requests": "1/400d"}):
        with pytest.raises(InvalidParamsError, match="rates"), client.limit("x", rates=rates):
            pytest.fail("it ran")


def test_a_permit_goes_back_to_who_gave_it(daemon: FakeDaemon) -> None:
    """A permit of the stand-in is not settled with the daemon that came meanwhile."""
    daemon.stop()
    with Client(str(daemon.path), when_absent="local") as client:
        with client.guard("openai") as call:
            daemon.start()
            assert call.permit is not None
            assert call.permit.side == "local"
        with client.guard("openai") as call:
            assert call.slot is not None
    assert not daemon.asked("breaker.settle")


def test_those_that_wait_locally_are_let_in_as_others_leave(tmp_path: Path) -> None:
    client = Client(str(tmp_path / "s"), when_absent="local")
    limit = client.limit("gpu", requests=0, concurrency=1, wait="10s", rates={"concurrency": 1})
    entered: list[int] = []

    def enter(number: int) -> None:
        with limit:
            entered.append(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(3)]
    with limit:
        for thread in threads:
            thread.start()
        assert not entered
    for thread in threads:
        thread.join(10)
    assert sorted(entered) == [0, 1, 2]


def test_a_local_wait_ends_with_its_time(tmp_path: Path) -> None:
    client = Client(str(tmp_path / "s"), when_absent="local")
    one = client.limit("gpu", requests=0, concurrency=1, rates={"concurrency": 1})
    with one, pytest.raises(RateLimitedError), client.limit("gpu", concurrency=1, wait="20ms"):
        pytest.fail("it ran")
    with one:
        pass


async def test_asyncio_does_without_a_daemon_alike(tmp_path: Path) -> None:
    async with AsyncClient(str(tmp_path / "s"), timeout_s=60, when_absent="open") as client:
        async with client.guard("openai", cache_key="k") as call:
            assert call.permit is not None
            assert call.permit.side == "nobody"

        @client.cached("answers", key=str)
        async def ask(text: str) -> str:
            return text

        assert await ask("a") == "a"
        with pytest.raises(DaemonNotRunningError):
            async with client.breaker("openai", when_absent="closed", timeout_s=0.05):
                pytest.fail("it ran")


async def test_many_tasks_want_one_value_locally_and_one_fetches_it(tmp_path: Path) -> None:
    calls: list[str] = []
    go, asked = asyncio.Event(), asyncio.Event()
    async with AsyncClient(str(tmp_path / "s"), when_absent="local") as client:

        @client.cached("answers", key=str)
        async def ask(text: str) -> str:
            calls.append(text)
            asked.set()
            await go.wait()
            return text

        tasks = [asyncio.ensure_future(ask("a")) for _ in range(20)]
        await asked.wait()
        tasks[0].cancel()  # the leader: one of the others takes over, and then fetches for all
        go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == ["a"] * 19
    assert len(calls) == 2


async def test_a_task_that_stops_waiting_locally_leaves_no_slot_taken(tmp_path: Path) -> None:
    async with AsyncClient(str(tmp_path / "s"), when_absent="local") as client:
        limit = client.limit("gpu", requests=0, concurrency=1, wait="10s", rates={"concurrency": 1})

        async def enter() -> None:
            async with limit:
                pass

        async with limit:
            waiting = [asyncio.create_task(enter()) for _ in range(3)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            waiting[0].cancel()
            await asyncio.wait({waiting[0]})
        # The second has been let in, and is cancelled before it has noticed.
        waiting[1].cancel()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in done] == [asyncio.CancelledError] * 2 + [type(None)]
        async with limit as slot:
            assert slot.waited_s == 0


async def test_a_daemon_that_goes_in_the_middle_masks_nothing(daemon: FakeDaemon) -> None:
    async with AsyncClient(str(daemon.path)) as client:
        async with client.guard("openai", cache_key="k") as call:
            call.value = 1
            daemon.stop()
        with pytest.raises(LookupError):
            async with client.guard("openai", when_absent="open"):
                raise LookupError
    assert not issubclass(LookupError, ConnectionLostError)
