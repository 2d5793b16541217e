"""Bodies that a real HTTP server sends by and by, breaks off, or never ends."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import openai
import pytest

from fake_daemon import FakeDaemon
from superezio import AsyncClient, Client
from superezio.adapters.httpx_transport import AsyncGuardedTransport, GuardedTransport

pytestmark = pytest.mark.timeout(20)

CHUNK = (
    b'data: {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices":'
    b' [{"index": 0, "delta": {"content": "hi"}, "finish_reason": null}]}\n\n'
)
SETTLED = ["breaker.settle", "limit.settle"]


class Service(ThreadingHTTPServer):
    """Sends the first half of a body, and the rest when it may."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.goes_on = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that closes early is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind = self.path.rpartition("/")[2]
        status = int(kind) if kind.isdigit() else 200
        self.send_response(status)
        if kind == "empty":
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.send_header("content-length", "8")
        self.end_headers()
        if status in {204, 304} or self.command == "HEAD":
            return
        self.wfile.write(b"half")
        if kind == "broken":
            self._break_off()
            return
        if kind != "whole":
            self.server.goes_on.wait()
        self.wfile.write(b"half")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self._chunk(CHUNK)
        if self.path.startswith("/broken"):
            self._break_off()
            return
        self._chunk(b"data: [DONE]\n\n")
        self.server.goes_on.wait()

    def _chunk(self, text: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(text), text))

    def _break_off(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.goes_on.set()
        made.shutdown()
        thread.join()


@pytest.fixture
def http(client: Client, service: Service) -> Iterator[httpx.Client]:
    transport = GuardedTransport(client, "openai", rates={"concurrency": 2})
    with httpx.Client(transport=transport, base_url=service.url) as made:
        yield made


def outcomes(daemon: FakeDaemon) -> list[str]:
    return [each["params"]["outcome"] for each in daemon.asked("breaker.settle")]


def test_a_body_that_breaks_off_is_a_failure(http: httpx.Client, answering: FakeDaemon) -> None:
    for _ in range(3):
        with pytest.raises(httpx.RemoteProtocolError):
            http.get("/broken")
    assert outcomes(answering) == ["failure"] * 3
    assert len(answering.asked("limit.settle")) == 3


def test_a_body_that_does_not_come_in_time_is_a_failure(
    http: httpx.Client, answering: FakeDaemon
) -> None:
    with pytest.raises(httpx.ReadTimeout):
        http.get("/slow", timeout=0.05)
    assert outcomes(answering) == ["failure"]


def test_permit_and_slot_are_held_until_the_end_of_the_body(
    http: httpx.Client, answering: FakeDaemon, service: Service
) -> None:
    with http.stream("GET", "/slow") as response:
        parts = response.iter_raw()
        assert next(parts) == b"half"
        assert not any(map(answering.asked, SETTLED))
        service.goes_on.set()
        assert list(parts) == [b"half"]
        assert outcomes(answering) == ["success"], "before anybody closes it"
    assert [len(answering.asked(method)) for method in SETTLED] == [1, 1], "once"


def test_a_body_that_is_closed_early_says_nothing_of_the_service(
    http: httpx.Client, answering: FakeDaemon
) -> None:
    with http.stream("GET", "/slow") as response:
        next(response.iter_raw())
    assert outcomes(answering) == ["ignore"]
    with http.stream("GET", "/503"):
        """Its status says enough."""
    with http.stream("GET", "/429"):
        pass
    assert outcomes(answering) == ["ignore", "failure", "throttled"]
    assert len(answering.asked("limit.settle")) == 3


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/empty"), ("GET", "/204"), ("GET", "/304"), ("HEAD", "/whole")]
)
def test_a_response_without_a_body_is_settled_with_its_headers(
    http: httpx.Client, answering: FakeDaemon, method: str, path: str
) -> None:
    with http.stream(method, path):
        assert outcomes(answering) == ["success"]
    assert len(answering.asked("limit.settle")) == 1


def test_bodies_end_in_any_order_and_in_any_thread(
    http: httpx.Client, answering: FakeDaemon
) -> None:
    first = http.send(http.build_request("GET", "/whole"), stream=True)
    second = http.send(http.build_request("GET", "/503"), stream=True)
    reading = threading.Thread(target=first.read)
    reading.start()
    reading.join()
    assert outcomes(answering) == ["success"]
    second.close()
    assert outcomes(answering) == ["success", "failure"]


def test_a_response_that_nobody_closes_is_settled_with_the_next_request(
    http: httpx.Client, answering: FakeDaemon
) -> None:
    response = http.send(http.build_request("GET", "/whole"), stream=True)
    del response
    gc.collect()
    assert outcomes(answering) == [], "nothing is sent while garbage is collected"
    http.get("/whole")
    assert outcomes(answering) == ["ignore", "success"]


async def test_asyncio_holds_all_until_the_end_of_the_body(
    aclient: AsyncClient, answering: FakeDaemon, service: Service
) -> None:
    transport = AsyncGuardedTransport(aclient, "openai")
    async with httpx.AsyncClient(transport=transport, base_url=service.url) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/broken")
        assert outcomes(answering) == ["failure"]
        async with http.stream("GET", "/slow") as response:
            parts = response.aiter_raw()
            assert await anext(parts) == b"half"
            assert outcomes(answering) == ["failure"]
        assert outcomes(answering) == ["failure", "ignore"], "it was closed early"
        async with http.stream("GET", "/empty"):
            assert outcomes(answering)[2:] == ["success"]
        response = await http.send(http.build_request("GET", "/slow"), stream=True)
        reading = asyncio.ensure_future(response.aread())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await response.aclose()
        assert outcomes(answering)[3:] == ["ignore"], "who reads it was cancelled"
        response = await http.send(http.build_request("GET", "/whole"), stream=True)
        del response
        gc.collect()
        service.goes_on.set()
        assert (await http.get("/slow")).content == b"halfhalf"
        assert outcomes(answering)[4:] == ["ignore", "success"]
    assert len(answering.asked("limit.settle")) == 6


def test_the_streams_of_openai_are_settled_by_how_they_end(
    client: Client, answering: FakeDaemon, service: Service
) -> None:
    """It closes a stream at its last event, and does not wait for the end of the body."""
    for path, outcome in (("/v1", "success"), ("/broken", "failure")):
        answering.requests.clear()
        with httpx.Client(transport=GuardedTransport(client, "openai")) as http:
            sends: Any = http
            ai = openai.OpenAI(
                base_url=service.url + path, api_key="none", max_retries=0, http_client=sends
            )
            stream = ai.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hi"}], stream=True
            )
            assert next(stream).choices[0].delta.content == "hi"
            assert outcomes(answering) == []
            if outcome == "success":
                assert list(stream) == []
            else:
                with pytest.raises((openai.APIConnectionError, httpx.RemoteProtocolError)):
                    next(stream)
        assert outcomes(answering) == [outcome]
        assert len(answering.asked("limit.settle")) == 1


async def test_the_streams_of_async_openai_are_settled_by_how_they_end(
    aclient: AsyncClient, answering: FakeDaemon, service: Service
) -> None:
    for path, outcome in (("/v1", "success"), ("/broken", "failure")):
        answering.requests.clear()
        async with httpx.AsyncClient(transport=AsyncGuardedTransport(aclient, "openai")) as http:
            sends: Any = http
            ai = openai.AsyncOpenAI(
                base_url=service.url + path, api_key="none", max_retries=0, http_client=sends
            )
            stream = await ai.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hi"}], stream=True
            )
            assert (await anext(stream)).choices[0].delta.content == "hi"
            assert outcomes(answering) == []
            if outcome == "success":
                assert [each async for each in stream] == []
            else:
                with pytest.raises((openai.APIConnectionError, httpx.RemoteProtocolError)):
                    await anext(stream)
        assert outcomes(answering) == [outcome]
