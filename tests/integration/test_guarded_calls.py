"""Guarded calls of real client processes, by a real daemon."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from live_daemon import LiveDaemon
from superezio import AsyncClient, Client
from superezio.adapters.httpx_transport import GuardedTransport
from superezio.errors import BreakerOpenError, BusyError, FillFailedError, RateLimitedError

pytestmark = pytest.mark.installed

PROGRAM = Path(__file__).parents[1] / "guarding_client.py"
RULES: Any = {
    "window_calls": 4,
    "minimum_calls": 4,
    "slow_call_s": 5,
    "open_s": 0.3,
    "open_limit_s": 6,
    "half_open_calls": 1,
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path_factory.mktemp("daemon")).start()
    yield live
    live.close()


@pytest.fixture
def client(daemon: LiveDaemon) -> Iterator[Client]:
    with daemon.client() as made:
        yield made


@contextmanager
def program(daemon: LiveDaemon, what: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(PROGRAM), str(daemon.socket_path), what]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def await_waiting(daemon: LiveDaemon, namespace: str, count: int) -> None:
    """Wait until so many wait for a value of that namespace."""
    with daemon.client() as watching:
        for _ in range(400):
            waiting = {each.namespace: each.waiting for each in watching.cache_stats().namespaces}
            if waiting.get(namespace) == count:
                return
            threading.Event().wait(0.05)
    pytest.fail(f"not {count} wait for {namespace}: {waiting}")


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_what_one_client_finds_out_another_knows(daemon: LiveDaemon, client: Client) -> None:
    with daemon.client() as other:
        for each in (client, other, client, other):
            with suppress(OSError), each.breaker("one", **RULES):
                raise OSError("down")
        with pytest.raises(BreakerOpenError) as caught, client.breaker("one"):
            pytest.fail("it ran")
        assert 0 < (caught.value.retry_after_ms or 0) <= 330
        threading.Event().wait(0.35)
        with other.breaker("one") as probe:
            assert probe.state == "half_open"
            with pytest.raises(BreakerOpenError), client.breaker("one"):
                pytest.fail("it ran")
        with client.breaker("one") as permit:
            assert permit.state == "closed"


def test_429_opens_the_breaker_and_blocks_the_limit_for_all(
    daemon: LiveDaemon, client: Client
) -> None:
    with client.guard("two", rates="100/1s") as call:
        call.throttled("20s")
    with daemon.client() as other:
        with pytest.raises(BreakerOpenError), other.breaker("two"):
            pytest.fail("it ran")
        with pytest.raises(RateLimitedError) as caught, other.limit("two"):
            pytest.fail("it ran")
    assert caught.value.data["blocked"]
    assert 19_000 < (caught.value.retry_after_ms or 0) <= 20_000


def test_what_was_not_used_is_there_for_others(daemon: LiveDaemon, client: Client) -> None:
    with client.limit("three", tokens=100, rates={"tokens": "100/1h"}) as slot:
        slot.settle(tokens=40)
    with daemon.client() as other:
        with other.limit("three", tokens=60):
            pass
        with pytest.raises(RateLimitedError), other.limit("three", tokens=1):
            pytest.fail("it ran")


def test_what_the_breaker_turns_away_leaves_the_budget_whole(client: Client) -> None:
    client.breaker_force_open("four")
    for _ in range(3):
        with (
            pytest.raises(BreakerOpenError),
            client.guard("four", tokens=100, rates={"tokens": "100/1h", "requests": "1/1h"}),
        ):
            pytest.fail("it ran")
    client.breaker_reset("four")
    with client.guard("four", tokens=100):
        pass


def test_a_slot_is_free_again_when_the_program_that_has_it_is_killed(
    daemon: LiveDaemon, client: Client
) -> None:
    with program(daemon, "hold") as holder:
        assert line_of(holder) == "holds"
        with pytest.raises(RateLimitedError), client.limit("gpu", requests=0, concurrency=1):
            pytest.fail("it ran")
        holder.kill()
        with client.limit("gpu", requests=0, concurrency=1, wait="10s") as slot:
            assert slot.waited_s < 10


def test_many_processes_want_one_value_and_one_fetches_it(daemon: LiveDaemon) -> None:
    """Also where the one that leads is killed: then another does, once."""
    with program(daemon, "lead") as leader, ExitStack() as stack:
        assert line_of(leader) == "leads"
        others = [stack.enter_context(program(daemon, "fetch")) for _ in range(4)]
        await_waiting(daemon, "answers", len(others))
        leader.kill()
        values = {line_of(other) for other in others}
    assert len(values) == 1
    assert values < {f"v by {other.pid}" for other in others}


def test_an_error_is_native_for_the_one_that_leads_and_a_name_for_the_others(
    daemon: LiveDaemon,
) -> None:
    go = threading.Event()

    async def main() -> list[BaseException | str]:
        async with AsyncClient(str(daemon.socket_path)) as client:

            @client.cached("errors", key=str)
            async def ask(text: str) -> str:
                await asyncio.to_thread(go.wait, 10)
                raise LookupError(text)

            tasks = [asyncio.ensure_future(ask("v")) for _ in range(5)]
            # Those that wait share a request.
            await asyncio.to_thread(await_waiting, daemon, "errors", 1)
            go.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

    ended = asyncio.run(main())
    assert [type(each) for each in ended] == [LookupError] + [FillFailedError] * 4
    assert str(ended[-1]).endswith("LookupError")


def test_a_stale_value_is_served_while_one_caller_refreshes_it(client: Client) -> None:
    versions: list[int] = []

    @client.cached("versions", ttl="50ms", grace="1m", key=str)
    def version(_name: str) -> int:
        versions.append(len(versions))
        return len(versions)

    assert version("a") == 1
    threading.Event().wait(0.1)
    assert version("a") == 1, "it is served at once"
    client.close()  # waits for what is being refreshed
    assert version("a") == 2


def test_hits_charge_no_budget(client: Client) -> None:
    calls: list[int] = []

    @client.guard("five", rates="1/1h", ttl=60, cache_key=str)
    def ask(number: int) -> int:
        calls.append(number)
        return number

    assert [ask(1), ask(1), ask(1)] == [1, 1, 1]
    with pytest.raises(RateLimitedError):
        ask(2)
    assert calls == [1]


async def test_callers_that_leave_at_any_moment_leave_nothing_taken(daemon: LiveDaemon) -> None:
    """Cancelled before, while and after the daemon grants: slots and permits all come back."""
    chance = random.Random(4)
    async with AsyncClient(str(daemon.socket_path)) as client:
        guard = client.guard("six", requests=0, concurrency=1, wait="10s", rates={"concurrency": 3})

        async def enter() -> None:
            async with guard:
                await asyncio.sleep(chance.random() * 0.002)

        for _ in range(8):
            tasks = [asyncio.create_task(enter()) for _ in range(50)]
            for task in chance.sample(tasks, 45):
                await asyncio.sleep(chance.random() * 0.001)
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(each) for each in ended} == {type(None), asyncio.CancelledError}
        async with asyncio.timeout(10):
            while (await client.breaker_get("six")).permits:
                """The last ones are on their way back."""
        async with client.limit("six", requests=0, concurrency=3, wait="10s"):
            pass


def test_a_daemon_that_is_killed_in_the_middle_takes_no_result_along(tmp_path: Path) -> None:
    daemon = LiveDaemon(tmp_path / "daemon").start()
    with daemon.client() as client:

        @client.guard("seven", rates="100/1s", ttl=60, cache_key=str, when_absent="local")
        def ask(text: str) -> str:
            if text == "kill":
                daemon.kill()
            return text.upper()

        assert ask("kill") == "KILL"
        assert ask("alone") == "ALONE"
        daemon.start()
        with client.guard("seven", rates="100/1s") as call:
            assert call.permit is not None
            assert call.permit.side == "daemon"
    daemon.close()


def spend_requests(daemon: LiveDaemon) -> None:
    """Ask until the daemon has had enough of this user."""
    with daemon.client() as client, suppress(BusyError):
        while True:
            client.limit_list()


def test_a_slot_comes_back_where_the_daemon_is_too_busy_to_be_told_at_once(tmp_path: Path) -> None:
    slot: Any = {"requests": 0, "concurrency": 1, "rates": {"concurrency": 1}}
    limits = "[limits]\nrequests_per_second = 4\nrequests_burst = 4\n"
    live = LiveDaemon(tmp_path / "d", config=limits).start()

    async def hold() -> None:
        async with AsyncClient(str(live.socket_path)) as client:
            async with client.limit("gpu", **slot):
                await asyncio.to_thread(spend_requests, live)
            await asyncio.sleep(0.6)
            async with client.limit("gpu", **slot):
                pass

    try:
        with live.client() as client, live.client() as other:
            with client.limit("gpu", **slot):
                spend_requests(live)
            threading.Event().wait(0.6)
            with other.limit("gpu", **slot):
                pass
            threading.Event().wait(1.0)
            asyncio.run(hold())
    finally:
        live.close()


class _Slowly(BaseHTTPRequestHandler):
    """Sends half of a body, and the rest a moment later, or never: `/broken`."""

    busy: ClassVar = [0, 0]
    lock: ClassVar = threading.Lock()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "8")
        self.end_headers()
        with self.lock:
            self.busy[0] += 1
            self.busy[1] = max(self.busy)
        self.wfile.write(b"half")
        if self.path != "/broken":
            threading.Event().wait(0.05)
            with self.lock:
                self.busy[0] -= 1
            self.wfile.write(b"half")

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


def test_bodies_of_httpx_are_guarded_to_their_end(daemon: LiveDaemon) -> None:
    """No more come at a time than there are slots, and those that break off open the breaker."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slowly)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with daemon.client() as client, server:
        slots = GuardedTransport(client, "bodies", rates={"concurrency": 2}, wait="20s")
        with httpx.Client(transport=slots) as http, ThreadPoolExecutor(8) as threads:
            got = list(threads.map(lambda _: http.get(url).content, range(8)))
        assert got == [b"halfhalf"] * 8
        assert _Slowly.busy[1] <= 2
        with httpx.Client(
            transport=GuardedTransport(client, "off", limit=None, rules=RULES)
        ) as http:
            for _ in range(4):
                with pytest.raises(httpx.RemoteProtocolError):
                    http.get(url + "/broken")
            assert client.breaker_get("off").state == "open"
        server.shutdown()
