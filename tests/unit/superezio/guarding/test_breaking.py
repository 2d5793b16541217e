from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest
from msgspec.structs import replace

from fake_daemon import FakeDaemon, HangUp
from superezio import AsyncClient, Client
from superezio.errors import BreakerOpenError, NotFoundError, RateLimitedError


def outcomes(daemon: FakeDaemon) -> list[dict[str, Any]]:
    return [request["params"] for request in daemon.asked("breaker.settle")]


def settled(outcome: str, retry_after_ms: int | None = None) -> dict[str, Any]:
    return {"name": "openai", "permit": 7, "outcome": outcome, "retry_after_ms": retry_after_ms}


def test_a_block_that_ends_well_is_a_success(client: Client, daemon: FakeDaemon) -> None:
    with client.breaker("openai") as permit:
        assert (permit.side, permit.state, permit.shared) == ("daemon", "closed", True)
        assert not daemon.asked("breaker.settle")
    assert daemon.params_of("breaker.acquire") == {"name": "openai", "rules": None}
    assert outcomes(daemon) == [settled("success")]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ConnectionResetError("reset"), "failure"),
        (KeyError("answer"), "failure"),
        (KeyboardInterrupt(), "ignore"),
        (asyncio.CancelledError(), "ignore"),
        (SystemExit(), "ignore"),
        (RateLimitedError("full"), "ignore"),
        (BreakerOpenError("open"), "ignore"),
        (NotFoundError("no such gpu"), "ignore"),
    ],
)
def test_what_a_block_raises_comes_out_and_counts_where_it_is_of_the_service(
    client: Client, daemon: FakeDaemon, error: BaseException, outcome: str
) -> None:
    with pytest.raises(type(error)) as caught, client.breaker("openai"):
        raise error
    assert caught.value is error
    assert outcomes(daemon) == [settled(outcome)]


def test_a_predicate_says_which_exceptions_are_failures(client: Client, daemon: FakeDaemon) -> None:
    def failure(error: Exception) -> bool:
        return isinstance(error, OSError)

    for error in (OSError(), LookupError()):
        with pytest.raises(type(error)), client.breaker("openai", failure=failure):
            raise error
    assert outcomes(daemon) == [settled("failure"), settled("success")]


def test_a_block_may_say_how_it_ended(client: Client, daemon: FakeDaemon) -> None:
    with client.breaker("openai") as permit:
        permit.throttled("1m30s")
    with client.breaker("openai") as permit:
        permit.throttled()
    with client.breaker("openai") as permit:
        permit.failure()
    with client.breaker("openai") as permit:
        permit.ignore()
    with suppress(OSError), client.breaker("openai") as permit:
        permit.throttled(5)
        permit.success()
        raise OSError("late")
    assert outcomes(daemon) == [
        settled("throttled", 90_000),
        settled("throttled"),
        settled("failure"),
        settled("ignore"),
        settled("success"),
    ]


def test_where_it_is_open_nothing_runs(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["breaker.acquire"] = BreakerOpenError(
        "open", retry_after_ms=1500, data={"name": "openai", "state": "open"}
    )
    with pytest.raises(BreakerOpenError) as caught, client.breaker("openai"):
        pytest.fail("it ran")
    assert caught.value.retry_after_ms == 1500
    assert not outcomes(daemon)


def test_rules_are_for_a_breaker_of_ones_own(client: Client, daemon: FakeDaemon) -> None:
    with client.breaker("mine", failure_rate=0.25, open_s=5):
        pass
    rules = daemon.params_of("breaker.acquire")["rules"]
    assert {name: value for name, value in rules.items() if value is not None} == {
        "failure_rate": 0.25,
        "open_s": 5,
    }
    with pytest.raises(TypeError, match="option opens: the options are block_limit_s"):
        client.breaker("mine", opens=5)  # type: ignore[call-arg]


def test_a_function_is_decorated_and_each_call_is_a_block(
    client: Client, daemon: FakeDaemon
) -> None:
    @client.breaker("openai")
    def ask(question: str) -> str:
        """Ask."""
        return question.upper()

    assert (ask("a"), ask("b")) == ("A", "B")
    assert (ask.__name__, ask.__doc__) == ("ask", "Ask.")
    assert outcomes(daemon) == [settled("success")] * 2


def test_what_is_not_over_when_it_returns_is_not_decorated(
    client: Client, aclient: AsyncClient
) -> None:
    async def coroutine() -> None: ...
    def function() -> None: ...
    def generator() -> Any:
        yield

    async def async_generator() -> Any:
        yield

    for refused in (coroutine, generator, async_generator):
        with pytest.raises(TypeError, match=refused.__name__):
            client.breaker("openai")(refused)
    wrongs: tuple[Any, ...] = (function, async_generator)
    for wrong in wrongs:
        with pytest.raises(TypeError, match=wrong.__name__):
            aclient.breaker("openai")(wrong)


def test_one_breaker_serves_blocks_within_blocks_and_in_many_threads(
    client: Client, daemon: FakeDaemon
) -> None:
    given = daemon.answers["breaker.acquire"]
    daemon.answers["breaker.acquire"] = [replace(given, permit=permit) for permit in (1, 2, 3, 4)]
    breaker = client.breaker("openai")
    order = {name: threading.Event() for name in ("first is in", "second is in")}

    def first() -> None:
        with suppress(OSError), breaker, breaker:
            order["first is in"].set()
            assert order["second is in"].wait(10)
            raise OSError("down")

    def second() -> None:
        assert order["first is in"].wait(10)
        with breaker, breaker:
            order["second is in"].set()
            threads[0].join(10)

    threads = [threading.Thread(target=each) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    # The inner ones first, and each as it ended itself, though another was entered last.
    assert [(each["permit"], each["outcome"]) for each in outcomes(daemon)] == [
        (2, "failure"),
        (1, "failure"),
        (4, "success"),
        (3, "success"),
    ]
    assert daemon.connections == 4, "each block has a connection of its own while it lasts"


@pytest.mark.parametrize("answer", [HangUp, NotFoundError("?")])
def test_a_settle_that_fails_masks_neither_a_result_nor_an_error(
    client: Client, daemon: FakeDaemon, answer: Any
) -> None:
    daemon.answers["breaker.settle"] = answer

    @client.breaker("openai")
    def ask(question: str) -> str:
        if not question:
            raise LookupError("no question")
        return question.upper()

    assert ask("a") == "A"
    with pytest.raises(LookupError, match="no question"):
        ask("")


def test_a_daemon_that_goes_in_the_middle_is_no_matter_of_the_call(
    client: Client, daemon: FakeDaemon
) -> None:
    with client.breaker("openai"):
        daemon.stop()
    with pytest.raises(LookupError), client.breaker("openai", when_absent="open"):
        raise LookupError


async def test_blocks_of_asyncio_do_the_same(aclient: AsyncClient, daemon: FakeDaemon) -> None:
    breaker = aclient.breaker("openai", failure=lambda error: isinstance(error, OSError))

    async def enter(error: Exception | None) -> None:
        async with breaker as permit:
            assert permit.side == "daemon"
            if error is not None:
                raise error

    await enter(None)
    for error in (OSError(), LookupError()):
        with pytest.raises(type(error)):
            await enter(error)

    @breaker
    async def ask(question: str) -> str:
        return question.upper()

    assert list(await asyncio.gather(ask("a"), ask("b"))) == ["A", "B"]
    assert [each["outcome"] for each in outcomes(daemon)] == [
        "success",
        "failure",
        "success",
        "success",
        "success",
    ]
    assert daemon.connections == 1


async def test_a_cancelled_block_is_ignored_and_settled(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    entered = asyncio.Event()

    async def wait_for_ever() -> None:
        async with aclient.breaker("openai"):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(wait_for_ever())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert outcomes(daemon) == [settled("ignore")]


async def test_a_permit_that_comes_when_its_caller_has_left_is_given_back(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    """Or else it would stay out, and count in HALF_OPEN, until the connection ends."""
    permit, go = daemon.answers["breaker.acquire"], threading.Event()

    def late(_: object) -> object:
        go.wait(10)
        return permit

    daemon.answers["breaker.acquire"] = late

    async def enter() -> None:
        async with aclient.breaker("openai"):
            pytest.fail("it ran")

    task = asyncio.create_task(enter())
    await asyncio.to_thread(daemon.await_asked, "breaker.acquire")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await asyncio.to_thread(daemon.await_asked, "breaker.settle")
    assert outcomes(daemon) == [settled("ignore")]
