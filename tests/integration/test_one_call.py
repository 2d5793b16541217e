"""One id through a guarded call of a real daemon: limit, breaker, cache, event, journal, error."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from live_daemon import LiveDaemon
from plain_client import PlainClient, RefusedError, call_once, plain_client
from superezio import AsyncClient, Client
from superezio.errors import BreakerOpenError, RateLimitedError

CONFIG = """
[breaker]
minimum_calls = 1
open = "1m"
[limit.shared.paid]
everyone = true
[limit.shared.paid.host]
tokens = "1000/1h"
concurrency = 1
"""
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path_factory.mktemp("one-call") / "d", config=CONFIG).start()
    yield live
    live.close()


@pytest.fixture
def client(daemon: LiveDaemon) -> Iterator[Client]:
    with daemon.client() as made:
        yield made


def ctl(
    daemon: LiveDaemon, *words: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "superezioctl", "--socket", str(daemon.socket_path), *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=30,
        env=environment,
    )  # fmt: skip


def told(daemon: LiveDaemon, id_: str) -> list[tuple[str, str, list[str]]]:
    """Return method, outcome and marks of the requests of an id, as `superezioctl trace` has them.

    The marks are written as one reads them: the name, then what it was about.
    """
    done = ctl(daemon, "--json", "trace", id_)
    assert done.returncode == 0, done.stderr
    return [
        (each["method"], each["outcome"], [_words(mark) for mark in each["marks"]])
        for each in json.loads(done.stdout)["records"]
    ]


def _words(mark: Json) -> str:
    name: str = mark["name"]
    return name if mark["detail"] is None else f"{name}: {mark['detail']}"


def journal(daemon: LiveDaemon, id_: str) -> list[str]:
    """Return the events of the journal's lines of an id; a breaker has opened."""
    log = daemon.await_log('"breaker.opened"')
    lines = [json.loads(line) for line in log.splitlines()]
    return [line["event"] for line in lines if line.get("correlation_id") == id_]


def events(daemon: LiveDaemon, id_: str) -> list[str]:
    """Return the types of the events of an id."""
    answer = call_once(daemon.socket_path, "events.subscribe", types=[], replay=1000)
    return [each["type"] for each in answer["replay"] if each["correlation_id"] == id_]


def test_one_id_is_followed_through_limit_breaker_cache_event_journal_error_and_trace(
    daemon: LiveDaemon, client: Client
) -> None:
    guard = client.guard(
        "svc", tokens=100, rates={"tokens": "1000/1h"}, cache_key="k", ttl=60,
    )  # fmt: skip
    with suppress(OSError), guard as call:
        raise OSError("down")
    first = call.correlation_id
    with pytest.raises(BreakerOpenError) as refused, guard:
        pytest.fail("it ran")
    second = refused.value.correlation_id
    assert second not in {None, first}
    assert told(daemon, first) == [
        ("cache.get", "ok", ["miss", "lead"]),
        ("limit.acquire", "ok", ["granted"]),
        ("breaker.acquire", "ok", ["permit"]),
        ("breaker.settle", "ok", ["settled: failure"]),
        ("limit.settle", "ok", ["settled"]),
        ("cache.fail", "ok", ["settled: error", "reply"]),
    ]
    assert told(daemon, str(second)) == [
        ("cache.get", "ok", ["miss", "lead"]),
        ("limit.acquire", "ok", ["granted"]),
        ("breaker.acquire", "breaker_open", ["rejected: open", "reply"]),
        ("limit.settle", "ok", ["settled"]),
        ("cache.fail", "ok", ["settled: error", "reply"]),
    ]
    assert events(daemon, first) == journal(daemon, first) == ["breaker.opened"]
    assert events(daemon, str(second)) == journal(daemon, str(second)) == []
    drawn = ctl(daemon, "trace", str(second)).stdout
    for words in (
        "breaker.acquire svc breaker_open",
        "rejected: open",
        "granted",
        "settled: error",
    ):
        assert words in drawn


async def test_an_asyncio_call_goes_by_the_id_that_its_caller_has(daemon: LiveDaemon) -> None:
    async with AsyncClient(str(daemon.socket_path), correlation_id=lambda: "job-7") as client:
        async with client.guard("good", limit=None, cache_key="k", ttl=60) as call:
            call.value = "v"
        async with client.guard("good", limit=None, cache_key="k", ttl=60) as again:
            assert again.hit
    assert (call.correlation_id, again.correlation_id) == ("job-7", "job-7")
    assert await asyncio.to_thread(told, daemon, "job-7") == [
        ("cache.get", "ok", ["miss", "lead"]),
        ("breaker.acquire", "ok", ["permit"]),
        ("breaker.settle", "ok", ["settled: success"]),
        ("cache.set", "ok", ["settled: value", "reply"]),
        ("cache.get", "ok", ["hit"]),
    ]


def test_who_waits_for_a_limit_is_told_what_was_short_and_when_it_came(
    daemon: LiveDaemon, client: Client
) -> None:
    ids: list[str] = []

    def wait() -> None:
        with daemon.client() as other, other.limit("paid", concurrency=1, wait=20) as slot:
            ids.append(slot.correlation_id)

    with client.limit("paid", concurrency=1):
        with pytest.raises(RateLimitedError) as refused, client.limit("paid", concurrency=1):
            pytest.fail("it ran")
        thread = threading.Thread(target=wait)
        thread.start()
        _until(lambda: _waiters(client, "paid") == 1)
    thread.join()
    (waited, settled) = told(daemon, ids[0])
    assert waited == (
        "limit.acquire",
        "ok",
        ["queued", "limited: concurrency of host", "granted", "reply"],
    )
    assert settled == ("limit.settle", "ok", ["settled"])
    assert told(daemon, str(refused.value.correlation_id)) == [
        ("limit.acquire", "rate_limited", ["limited: concurrency of host", "reply"])
    ]


async def test_who_waits_for_a_value_is_told_how_that_ended(daemon: LiveDaemon) -> None:
    async with plain_client(daemon.socket_path) as leads, plain_client(daemon.socket_path) as waits:
        place: Json = {"namespace": "answers", "fill": True, "wait_ms": 20_000, "lead_ms": 20_000}
        tokens = {key: (await leads.call("cache.get", key=key, **place))["token"] for key in "abcd"}
        joined = {
            key: waits.send("cache.get", {"correlation_id": f"join-{key}"}, key=key, **place)
            for key in "abc"
        }
        brief = waits.send(
            "cache.get", {"correlation_id": "join-d"}, key="d", **(place | {"wait_ms": 1})
        )
        with pytest.raises(RefusedError):
            await brief
        while await _waiting(leads, "answers") < 3:
            pass
        there: Json = {"namespace": "answers"}
        await leads.call("cache.set", key="a", text="v", ttl_ms=9000, token=tokens["a"], **there)
        await leads.call("cache.fail", key="b", error="down", token=tokens["b"], **there)
        await leads.call("cache.fail", key="c", token=tokens["c"], **there)
        assert (await joined["a"])["status"] == "filled"
        with pytest.raises(RefusedError):
            await joined["b"]
        assert (await joined["c"])["status"] == "lead"
    ends = {
        "a": ("ok", "filled"),
        "b": ("fill_failed", "failed"),
        "c": ("ok", "lead"),
        "d": ("fill_timeout", "timed_out"),
    }
    for key, (outcome, mark) in ends.items():
        found = await asyncio.to_thread(told, daemon, f"join-{key}")
        assert found == [("cache.get", outcome, ["miss", "queued", mark, "reply"])]


async def test_what_is_answered_at_once_has_its_marks_under_a_trace_id_and_in_the_ring_too(
    daemon: LiveDaemon,
) -> None:
    meta = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    async with plain_client(daemon.socket_path) as client:
        await client.call("cache.get", meta, namespace="none", key="k")
        await client.call("system.ping", meta)
        await client.call("cache.get", {"correlation_id": "once"}, namespace="none", key="k")
        await client.call("system.ping", {"correlation_id": "once"})
    assert await asyncio.to_thread(told, daemon, TRACE) == [
        ("cache.get", "ok", ["miss", "reply"]),
        ("system.ping", "ok", []),
    ]
    ring = str(daemon.directory / "state" / "flight.ring")
    read = await asyncio.to_thread(ctl, daemon, "--json", "trace", "--ring", ring, "once")
    asked = await asyncio.to_thread(ctl, daemon, "--json", "trace", "once")
    assert json.loads(read.stdout) == json.loads(asked.stdout)
    assert await asyncio.to_thread(told, daemon, "once") == [
        ("cache.get", "ok", ["miss"]),
        ("system.ping", "ok", []),
    ]


def test_a_guarded_command_knows_its_id_and_a_refused_one_is_told_it(daemon: LiveDaemon) -> None:
    printed = ctl(daemon, "guard", "shell", "--", "sh", "-c", "echo $SUPEREZIO_CORRELATION_ID")
    id_ = printed.stdout.strip()
    assert told(daemon, id_) == [
        ("limit.acquire", "ok", ["unlimited"]),
        ("breaker.acquire", "ok", ["permit"]),
        ("breaker.settle", "ok", ["settled: success"]),
    ]
    given = ctl(daemon, "--correlation-id", "job-8", "guard", "shell", "--", "false")
    assert given.returncode == 1
    assert [method for method, *_ in told(daemon, "job-8")][-1] == "breaker.settle"
    assert journal(daemon, "job-8") == ["breaker.opened"]
    refused = ctl(daemon, "guard", "shell", "--", "true")
    assert refused.returncode == 75
    (hint,) = [line for line in refused.stderr.splitlines() if "superezioctl trace" in line]
    assert told(daemon, hint.split()[2].rstrip("`"))[-1][1:] == (
        "breaker_open",
        ["rejected: open", "reply"],
    )
    assert os.environ.get("SUPEREZIO_CORRELATION_ID") is None


def test_a_session_shows_what_was_used_in_it(daemon: LiveDaemon, client: Client) -> None:
    opened = client.session_open(name="counting")
    client.session = opened.session_id
    for _ in range(3):
        with client.guard("counted", rates="1000/1m"):
            pass
    with client.guard("counted", limit=None, breaker=None, cache_key="k", ttl=60) as call:
        call.value = 1
    with client.guard("counted", limit=None, breaker=None, cache_key="k", ttl=60) as call:
        assert call.hit
    client.lease_release(client.lease_acquire("64MiB", wait="30s").id)
    (session,) = [each for each in client.session_list().sessions if each.name == "counting"]
    assert session.used == {
        "permits": 3,
        "reservations": 3,
        "fills": 1,
        "hits": 1,
        "leases": 1,
    }
    shown = ctl(daemon, "session", "list").stdout
    (line,) = [each for each in shown.splitlines() if "counting" in each]
    assert line.endswith("1 fills, 1 hits, 1 leases, 3 permits, 3 reservations")


def test_what_was_waited_for_counts_for_the_session_too(daemon: LiveDaemon) -> None:
    async def wait() -> Json:
        async with plain_client(daemon.socket_path) as client:
            opened = await client.call("session.open", name="waits")
            meta = {"session_id": opened["session_id"]}
            rates = {"requests": {"limit": 1000, "period_ms": 1000, "burst": 1}}
            asked = [
                client.send("limit.acquire", meta, name="brief", wait_ms=9000, rates=rates)
                for _ in range(3)
            ]
            await asyncio.gather(*asked)
            sessions = (await client.call("session.list"))["sessions"]
            return next(each for each in sessions if each["name"] == "waits")

    assert asyncio.run(wait())["used"] == {"reservations": 3}


async def _waiting(client: PlainClient, namespace: str) -> int:
    found = (await client.call("cache.stats"))["namespaces"]
    waiting: int = next(each["waiting"] for each in found if each["namespace"] == namespace)
    return waiting


def _waiters(client: Client, name: str) -> int:
    return client.limit_peek(name).waiters


def _until(holds: Callable[[], bool]) -> None:
    for _ in range(400):
        if holds():
            return
        threading.Event().wait(0.02)
    pytest.fail("it never came about")
