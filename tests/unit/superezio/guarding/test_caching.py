from __future__ import annotations

import asyncio
import base64
import logging
import threading
from typing import Any

import pytest

from fake_daemon import FakeDaemon, HangUp
from superezio import AsyncClient, Client, wire
from superezio.errors import (
    BreakerOpenError,
    BusyError,
    FillFailedError,
    FrameTooLargeError,
    RateLimitedError,
)

CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


def embed(text: str) -> list[float]:
    CALLS.append(text)
    return [1.0, len(text)]


def page(url: str) -> bytes:
    CALLS.append(url)
    return b"\x00" + url.encode()


def failing(text: str) -> str:
    CALLS.append(text)
    raise LookupError(text)


async def embed_async(text: str) -> list[float]:
    CALLS.append(text)
    return [1.0, len(text)]


async def failing_async(text: str) -> str:
    CALLS.append(text)
    raise LookupError(text)


def hit(status: str, text: str, token: str | None = None) -> wire.CacheAnswer:
    return wire.CacheAnswer(status=status, text=text, age_ms=5, token=token)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", ["hit", "filled", "stale"])
def test_a_value_that_is_there_is_returned_and_nothing_runs(
    client: Client, daemon: FakeDaemon, status: str
) -> None:
    daemon.answers["cache.get"] = hit(status, "[0.5]")
    assert client.cached("embeddings")(embed)("hi") == [0.5]
    assert CALLS == []
    assert daemon.params_of("cache.get") == {
        "namespace": "embeddings",
        "key": f'{__name__}.embed(text="hi")',
        "fill": True,
        "wait_ms": 30_000,
        "lead_ms": 30_000,
    }


def test_the_one_that_leads_fetches_for_all(client: Client, daemon: FakeDaemon) -> None:
    cached = client.cached(
        "embeddings", ttl="1h", grace="5m", stale_if_error=60, tags=["m"], fill_wait=5, fill_time=9
    )
    assert cached(embed)("hi") == [1.0, 2.0]
    key = f'{__name__}.embed(text="hi")'
    assert daemon.params_of("cache.set") == {
        "namespace": "embeddings",
        "key": key,
        "text": "[1.0,2]",
        "data": None,
        "ttl_ms": 3_600_000,
        "grace_ms": 300_000,
        "stale_if_error_ms": 60_000,
        "tags": ["m"],
        "token": "t1",
    }
    (asked,) = daemon.asked("cache.get")
    assert (asked["params"]["wait_ms"], asked["params"]["lead_ms"]) == (5000, 9000)
    assert daemon.connections == 1, "a lead belongs to its connection"


def test_bytes_go_as_they_are(client: Client, daemon: FakeDaemon) -> None:
    assert client.cached("pages")(page)("/") == b"\x00/"
    assert daemon.params_of("cache.set")["data"] == base64.b64encode(b"\x00/").decode()
    daemon.answers["cache.get"] = wire.CacheAnswer(status="hit", data=b"\xff")
    assert client.cached("pages")(page)("/") == b"\xff"


def test_an_error_is_raised_as_it_is_and_told_to_those_that_wait(
    client: Client, daemon: FakeDaemon
) -> None:
    with pytest.raises(LookupError, match=r"^hi$"):
        client.cached("answers")(failing)("hi")
    assert daemon.params_of("cache.fail")["error"] == "LookupError"
    assert not daemon.asked("cache.set")
    daemon.answers["cache.get"] = FillFailedError("LookupError: hi")
    with pytest.raises(FillFailedError, match="LookupError: hi"):
        client.cached("answers")(failing)("hi")
    assert CALLS == ["hi"]


def test_the_text_of_an_error_goes_to_others_only_where_that_is_asked_for(
    client: Client, daemon: FakeDaemon
) -> None:
    """It may hold a secret, and others use the namespace, too."""
    with pytest.raises(LookupError, match=r"^hi$"):
        client.cached("answers", tell_errors=True)(failing)("hi")
    assert daemon.params_of("cache.fail")["error"] == "LookupError: hi"
    with pytest.raises(LookupError, match="token=s3cret"):
        client.guard("answers", ttl=60)(failing)("https://example.org/?token=s3cret")
    assert daemon.params_of("cache.fail")["error"] == "LookupError"
    with pytest.raises(LookupError):
        client.guard("answers", ttl=60, tell_errors=True)(failing)("hi")
    assert daemon.params_of("cache.fail")["error"] == "LookupError: hi"
    with pytest.raises(LookupError):
        client.cached("answers", tell_errors=True)(failing)("x" * 5000)
    told = daemon.params_of("cache.fail")["error"]
    assert told.startswith("LookupError: xxx"), "a text without end is cut"
    assert len(told) == 500


def test_an_old_value_stands_in_for_an_error(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["cache.fail"] = wire.CacheFailed(accepted=True, text="old")
    assert client.cached("answers", stale_if_error=60)(failing)("hi") == "old"


@pytest.mark.parametrize(
    ("error", "is_passed_on"),
    [
        (BreakerOpenError("open", retry_after_ms=5), True),
        (RateLimitedError("full", retry_after_ms=5), True),
        (BusyError("busy", retry_after_ms=5), True),
        (FillFailedError("another value failed"), False),
        (OSError("no route"), False),
    ],
)
async def test_who_is_turned_away_itself_lets_the_next_in_line_fetch(
    client: Client,
    aclient: AsyncClient,
    daemon: FakeDaemon,
    error: Exception,
    *,
    is_passed_on: bool,
) -> None:
    """Those that wait have a retry_after of their own: it is no error of the value."""

    def turned_away(_text: str) -> str:
        raise error

    async def turned_away_async(_text: str) -> str:
        raise error

    with pytest.raises(type(error)):
        client.cached("answers", key=str)(turned_away)("hi")
    assert daemon.params_of("cache.fail")["pass_on"] is is_passed_on
    daemon.requests.clear()
    with pytest.raises(type(error)):
        await aclient.cached("answers", key=str)(turned_away_async)("hi")
    assert daemon.params_of("cache.fail")["pass_on"] is is_passed_on


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit()])
def test_one_that_is_stopped_lets_the_next_in_line_fetch(
    client: Client, daemon: FakeDaemon, stop: BaseException
) -> None:
    @client.cached("answers", key=str)
    def ask(_text: str) -> str:
        raise stop

    with pytest.raises(type(stop)):
        ask("hi")
    assert daemon.params_of("cache.fail")["error"] is None


def test_a_value_that_cannot_be_cached_is_told_to_all_at_once(
    client: Client, daemon: FakeDaemon
) -> None:
    @client.cached("answers", key=str)
    def ask(_text: str) -> int:
        return "text"  # type: ignore[return-value]

    with pytest.raises(TypeError, match="cannot cache str as"):
        ask("hi")
    assert daemon.params_of("cache.fail")["error"] == "TypeError"


@pytest.mark.parametrize("answer", [HangUp, FrameTooLargeError("too long")])
def test_a_value_that_cannot_be_told_is_not_lost(
    client: Client, daemon: FakeDaemon, answer: Any
) -> None:
    """And who waits for it is not left to wait: the next in line fetches it."""
    daemon.answers["cache.set"] = answer
    assert client.cached("embeddings")(embed)("hi") == [1.0, 2.0]
    assert daemon.params_of("cache.fail") == {
        "namespace": "embeddings",
        "key": f'{__name__}.embed(text="hi")',
        "token": "t1",
        "error": None,
        "pass_on": False,
    }


def test_where_too_many_fetch_already_a_caller_fetches_for_itself(
    client: Client, daemon: FakeDaemon
) -> None:
    daemon.answers["cache.get"] = wire.CacheAnswer(status="miss")
    assert client.cached("embeddings")(embed)("hi") == [1.0, 2]
    assert not daemon.asked("cache.set")


@pytest.mark.parametrize(("status", "token"), [("hit", None), ("stale", "t3")])
def test_what_another_version_of_the_program_stored_is_replaced(
    client: Client, daemon: FakeDaemon, status: str, token: str | None
) -> None:
    """Where it is stale and this caller leads, those who wait are given the new value, too."""
    daemon.answers["cache.get"] = hit(status, '{"vector":[1]}', token)
    assert client.cached("embeddings")(embed)("hi") == [1.0, 2.0]
    stored = daemon.params_of("cache.set")
    assert (stored["text"], stored["token"]) == ("[1.0,2]", token)


def test_a_stale_value_is_returned_at_once_and_refreshed_by_a_thread(
    client: Client, daemon: FakeDaemon
) -> None:
    daemon.answers["cache.get"] = hit("stale", '"old"', token="t2")
    go = threading.Event()
    by: list[str] = []

    @client.cached("answers", grace=60, key=str)
    def ask(_text: str) -> Any:
        by.append(threading.current_thread().name)
        assert go.wait(10)
        return "new"

    assert ask("hi") == "old"
    assert not daemon.asked("cache.set")
    go.set()
    client.close()
    assert by == ["superezio-refresh"]
    stored = daemon.params_of("cache.set")
    assert (stored["text"], stored["token"]) == ('"new"', "t2")
    assert daemon.connections == 1, "the lead is told of on the connection that it belongs to"


def test_no_more_than_a_few_threads_refresh_and_the_others_leave_it_to_the_next(
    client: Client, daemon: FakeDaemon
) -> None:
    daemon.answers["cache.get"] = hit("stale", '"old"', token="t2")
    go = threading.Event()

    @client.cached("answers", grace=60, key=str)
    def ask(_text: str) -> Any:
        assert go.wait(10)

    assert [ask(str(number)) for number in range(6)] == ["old"] * 6
    assert [each["params"]["error"] for each in daemon.asked("cache.fail")] == [None, None]
    go.set()


def test_a_refresh_that_fails_is_logged_and_told(
    client: Client, daemon: FakeDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    daemon.answers["cache.get"] = hit("stale", "old", token="t2")
    with caplog.at_level(logging.WARNING, "superezio"):
        assert client.cached("answers", grace=60)(failing)("hi") == "old"
        client.close()
    assert daemon.params_of("cache.fail")["error"] == "LookupError"
    assert "could not refresh" in caplog.text


def test_a_function_without_a_key_is_told_when_it_is_decorated(client: Client) -> None:
    with pytest.raises(TypeError, match="key="):
        client.cached("answers")(lambda text: text)
    with pytest.raises(TypeError, match="option tll"):
        client.cached("answers", tll=5)  # type: ignore[call-arg]


async def test_what_makes_no_key_is_told_when_a_function_is_decorated(
    client: Client, aclient: AsyncClient
) -> None:
    text: Any = "text"
    with pytest.raises(TypeError, match=r"key is what makes the key .* not 'text'"):
        client.cached("answers", key=text)
    with pytest.raises(TypeError, match=r"key is what makes the key .* not 'text'"):
        aclient.cached("answers", key=text)
    number: Any = 4
    with pytest.raises(TypeError, match=r"cache_key is the key, or what makes it .* not 4"):
        client.guard("answers", cache_key=number)(embed)


async def test_asyncio_leads_hits_and_fails_alike(aclient: AsyncClient, daemon: FakeDaemon) -> None:
    assert await aclient.cached("embeddings")(embed_async)("hi") == [1.0, 2.0]
    assert daemon.params_of("cache.set")["text"] == "[1.0,2]"
    with pytest.raises(LookupError, match=r"^hi$"):
        await aclient.cached("answers")(failing_async)("hi")
    assert daemon.params_of("cache.fail")["error"] == "LookupError"
    with pytest.raises(LookupError, match=r"^hi$"):
        await aclient.cached("answers", tell_errors=True)(failing_async)("hi")
    assert daemon.params_of("cache.fail")["error"] == "LookupError: hi"
    daemon.answers["cache.fail"] = wire.CacheFailed(accepted=True, text="old")
    assert await aclient.cached("answers")(failing_async)("hi") == "old"
    daemon.answers["cache.get"] = wire.CacheAnswer(status="miss")
    assert await aclient.cached("embeddings")(embed_async)("hi") == [1.0, 2]
    daemon.answers["cache.get"] = hit("hit", "[0.5]")
    assert await aclient.cached("embeddings")(embed_async)("hi") == [0.5]
    daemon.answers["cache.get"] = hit("hit", "{")
    assert await aclient.cached("embeddings")(embed_async)("hi") == [1.0, 2]
    assert daemon.params_of("cache.set")["token"] is None


async def test_a_cancelled_leader_lets_the_next_in_line_fetch(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    fetching = asyncio.Event()

    @aclient.cached("answers", key=str)
    async def ask(_text: str) -> str:
        fetching.set()
        await asyncio.Event().wait()
        return ""

    task = asyncio.ensure_future(ask("hi"))
    await fetching.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert daemon.params_of("cache.fail")["error"] is None


async def test_a_lead_that_comes_when_its_caller_has_left_is_given_back(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    lead, go = daemon.answers["cache.get"], threading.Event()

    def late(_: object) -> object:
        go.wait(10)
        return lead

    daemon.answers["cache.get"] = late
    task = asyncio.ensure_future(aclient.cached("embeddings")(embed_async)("hi"))
    await asyncio.to_thread(daemon.await_asked, "cache.get")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await asyncio.to_thread(daemon.await_asked, "cache.fail")
    assert daemon.params_of("cache.fail")["token"] == "t1"
    assert CALLS == []


async def test_a_stale_value_is_refreshed_by_a_task_of_the_client(
    aclient: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["cache.get"] = hit("stale", "[0.5]", token="t2")
    assert await aclient.cached("embeddings", grace=60)(embed_async)("hi") == [0.5]
    await asyncio.to_thread(daemon.await_asked, "cache.set")
    assert daemon.params_of("cache.set")["token"] == "t2"


async def test_closing_gives_up_what_is_being_refreshed(daemon: FakeDaemon) -> None:
    daemon.answers["cache.get"] = hit("stale", '"old"', token="t2")
    async with AsyncClient(str(daemon.path)) as client:
        fetching = asyncio.Event()

        @client.cached("answers", grace=60, key=str)
        async def ask(_text: str) -> Any:
            fetching.set()
            await asyncio.Event().wait()

        assert await ask("hi") == "old"
        await fetching.wait()
    assert daemon.params_of("cache.fail")["error"] is None
    assert not [each for each in asyncio.all_tasks() if each.get_name() == "superezio-refresh"]
