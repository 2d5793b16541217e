"""traceparent (W3C Trace Context) from the caller to the service, and in the daemon's trace."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from live_daemon import LiveDaemon
from superezio import AsyncClient, Client
from superezio.adapters.httpx_transport import AsyncGuardedTransport, GuardedTransport

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GUARDED = ["limit.acquire", "breaker.acquire", "breaker.settle", "limit.settle"]


class Service(ThreadingHTTPServer):
    """An HTTP server that keeps the traceparent of each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Service)
        self.server.seen.append(self.headers["traceparent"])
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path_factory.mktemp("daemon")).start()
    yield live
    live.close()


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def header(number: int) -> tuple[str, str]:
    """Return a traceparent that no other test has, and its trace-id."""
    trace = f"{number:032x}"
    return f"00-{trace}-{SPAN}-01", trace


def methods_of(daemon: LiveDaemon, id_: str) -> list[str]:
    with daemon.client() as client:
        return [each.method or "" for each in client.trace_get(id_).records]


def test_one_id_goes_through_the_shell_a_program_and_its_requests(
    daemon: LiveDaemon, service: Service, tmp_path: Path
) -> None:
    """From a script by `guard` and a Python program, with httpx, to the service: one trace."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, httpx\n"
        "from superezio import Client\n"
        "from superezio.adapters.httpx_transport import GuardedTransport\n"
        "with Client(sys.argv[1]) as client:\n"
        "    http = httpx.Client(transport=GuardedTransport(client, 'inner', rates='60/1m'))\n"
        "    http.get(sys.argv[2], headers={'traceparent': os.environ['TRACEPARENT']})\n"
    )
    given, trace = header(1)
    guard = [sys.executable, "-m", "superezioctl", "--socket", str(daemon.socket_path), "guard"]
    command = [sys.executable, str(program), str(daemon.socket_path), service.url]
    subprocess.run(
        [*guard, "outer", "--rate", "60/1m", "--", *command],
        env={**os.environ, "TRACEPARENT": given},
        check=True,
        timeout=30,
    )
    assert service.seen == [given]
    outer = ["limit.acquire", "breaker.acquire"]
    settled = ["breaker.settle", "limit.settle"]
    assert methods_of(daemon, trace) == [*outer, *GUARDED, *settled]


def test_a_block_is_part_of_the_trace_that_it_is_given(daemon: LiveDaemon) -> None:
    given, trace = header(2)
    with daemon.client() as client:
        with client.guard("given", rates="60/1m", cache_key="k", traceparent=given) as call:
            call.value = 1
        assert call.traceparent == given
        with client.limit("given", traceparent=given), client.breaker("given", traceparent=given):
            pass

        @client.cached("given", key=lambda: "other", traceparent=given)
        def fetch() -> int:
            return 1

        assert fetch() == 1
    cached = ["cache.get", "cache.set"]
    assert methods_of(daemon, trace) == [cached[0], *GUARDED, cached[1], *GUARDED, *cached]


async def test_a_client_may_say_of_which_trace_its_calls_are_a_part(daemon: LiveDaemon) -> None:
    given, trace = header(3)
    traceparents = iter([given, None, "nonsense"])
    path = str(daemon.socket_path)
    async with AsyncClient(path, traceparent=lambda: next(traceparents)) as client:
        seen = []
        for _ in range(3):
            async with client.guard("said", rates="60/1m") as call:
                seen.append((call.traceparent, call.correlation_id))
    assert seen[0][0] == given
    for own, id_ in seen[1:]:
        assert own.split("-")[1] == id_, "what is none counts as none, and one of its own is made"
    found = await asyncio.to_thread(methods_of, daemon, trace)
    assert found == GUARDED


def test_what_is_no_traceparent_is_refused_where_it_is_written(daemon: LiveDaemon) -> None:
    with daemon.client() as client, pytest.raises(ValueError, match="it is like 00-"):
        client.guard("x", traceparent=f"00-{TRACE}-{SPAN}")


def test_a_request_without_one_gets_one_that_has_the_id_of_its_guarded_call(
    daemon: LiveDaemon, service: Service
) -> None:
    with daemon.client() as client:
        transport = GuardedTransport(client, "made", rates="60/1m")
        with httpx.Client(transport=transport) as http:
            for headers in ({}, {"traceparent": "nonsense"}):
                http.get(service.url, headers=headers)
    for seen in service.seen:
        assert seen is not None
        version, trace, _, flags = seen.split("-")
        assert (version, flags) == ("00", "01")
        assert methods_of(daemon, trace) == GUARDED
    assert len(set(service.seen)) == 2


async def test_calls_that_have_ids_of_their_own_are_found_by_those(
    daemon: LiveDaemon, service: Service
) -> None:
    async with (
        AsyncClient(str(daemon.socket_path), correlation_id=lambda: "order-66") as client,
        httpx.AsyncClient(transport=AsyncGuardedTransport(client, "named", rates="60/1m")) as http,
    ):
        await http.get(service.url)
    (seen,) = service.seen
    assert seen is not None, "the service gets one, that the daemon does not know"
    assert await asyncio.to_thread(methods_of, daemon, "order-66") == GUARDED


def test_both_transports_hand_on_what_a_request_has(daemon: LiveDaemon, service: Service) -> None:
    given, trace = header(4)

    async def send() -> None:
        async with (
            AsyncClient(str(daemon.socket_path)) as client,
            httpx.AsyncClient(
                transport=AsyncGuardedTransport(client, "both", rates="60/1m")
            ) as http,
        ):
            await http.get(service.url, headers={"traceparent": given})

    asyncio.run(send())
    with Client(str(daemon.socket_path)) as client:
        transport = GuardedTransport(client, "both", cost=lambda _request: {"requests": 2})
        with httpx.Client(transport=transport) as http:
            http.get(service.url, headers={"traceparent": given})
    assert service.seen == [given, given]
    assert methods_of(daemon, trace) == GUARDED * 2
