from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from fake_daemon import FakeDaemon
from superezio import AsyncClient, Client, wire
from superezio.adapters.httpx_transport import (
    AsyncGuardedTransport,
    GuardedTransport,
    RequestBlockedError,
    RequestLimitedError,
)
from superezio.errors import (
    BreakerOpenError,
    DaemonNotRunningError,
    RateLimitedError,
    SuperezioError,
)

URL = "http://service.test/v1/answers"


class Service:
    """What a test says that the service does, and the requests that reached it."""

    def __init__(self) -> None:
        self.does: httpx.Response | Exception = httpx.Response(200, text="hi")
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.does, Exception):
            raise self.does
        return self.does


@pytest.fixture
def service() -> Service:
    return Service()


def http(client: Client, service: Service, **options: Any) -> httpx.Client:
    transport = httpx.MockTransport(service)
    return httpx.Client(
        transport=GuardedTransport(client, "openai", transport=transport, **options)
    )


def outcome(daemon: FakeDaemon) -> object:
    return daemon.params_of("breaker.settle")["outcome"]


def test_a_request_goes_by_limit_and_breaker(
    client: Client, answering: FakeDaemon, service: Service
) -> None:
    with http(client, service, tokens=900) as made:
        assert made.get(URL).text == "hi"
    assert [request["method"] for request in answering.requests] == [
        "limit.acquire",
        "breaker.acquire",
        "breaker.settle",
        "limit.settle",
    ]
    assert answering.params_of("limit.acquire")["tokens"] == 900
    assert outcome(answering) == "success"


@pytest.mark.parametrize("rules", [{"open_s": 5}, wire.BreakerRules(open_s=5)])
def test_rules_reach_the_breaker(
    client: Client, answering: FakeDaemon, service: Service, rules: object
) -> None:
    with http(client, service, rules=rules) as made:
        made.get(URL)
    assert answering.params_of("breaker.acquire")["rules"]["open_s"] == 5


def test_a_server_error_is_handed_on_and_a_failure(
    client: Client, answering: FakeDaemon, service: Service
) -> None:
    service.does = httpx.Response(503)
    with http(client, service) as made:
        assert made.get(URL).status_code == 503
    assert outcome(answering) == "failure"


@pytest.mark.parametrize(
    ("error", "counts_as"),
    [
        (httpx.ConnectError("refused"), "failure"),
        (httpx.ReadTimeout("slow"), "failure"),
        (httpx.RemoteProtocolError("cut"), "failure"),
        (httpx.PoolTimeout("busy"), "ignore"),
        (httpx.UnsupportedProtocol("ftp"), "ignore"),
    ],
)
def test_errors_of_the_connection_are_failures_where_something_was_sent(
    client: Client, answering: FakeDaemon, service: Service, error: Exception, counts_as: str
) -> None:
    service.does = error
    with http(client, service) as made, pytest.raises(type(error)) as caught:
        made.get(URL)
    assert caught.value is error
    assert outcome(answering) == counts_as


def test_429_blocks_both_and_is_handed_on(
    client: Client, answering: FakeDaemon, service: Service
) -> None:
    service.does = httpx.Response(
        429, headers={"Retry-After": "7", "X-RateLimit-Remaining-Requests": "0"}
    )
    with http(client, service) as made:
        assert made.get(URL).status_code == 429
    assert answering.params_of("breaker.settle")["retry_after_ms"] == 7000
    assert outcome(answering) == "throttled"
    settled = answering.params_of("limit.settle")
    assert (settled["retry_after_ms"], settled["remaining"]["requests"]) == (7000, 0)


@pytest.mark.parametrize(
    ("method", "refusal", "raised", "kind"),
    [
        (
            "breaker.acquire",
            BreakerOpenError("it is open", retry_after_ms=1500, data={"state": "open"}),
            RequestBlockedError,
            BreakerOpenError,
        ),
        (
            "limit.acquire",
            RateLimitedError("it is full", retry_after_ms=1500, data={"state": "open"}),
            RequestLimitedError,
            RateLimitedError,
        ),
    ],
)
def test_what_is_turned_away_is_an_error_of_both_packages_with_retry_after(
    client: Client,
    answering: FakeDaemon,
    service: Service,
    method: str,
    refusal: SuperezioError,
    raised: type[RequestBlockedError],
    kind: type[SuperezioError],
) -> None:
    answering.answers[method] = refusal
    with http(client, service) as made, pytest.raises(raised) as caught:
        made.get(URL)
    error = caught.value
    assert isinstance(error, httpx.TransportError)
    assert isinstance(error, kind)
    assert (error.retry_after, error.retry_after_ms, str(error)) == (1.5, 1500, refusal.message)
    assert (error.kind, error.data, error.correlation_id) == (kind.kind, refusal.data, "c0ffee")
    assert error.request.url == URL
    assert not service.requests


def test_a_request_may_cost_what_it_says(
    client: Client, answering: FakeDaemon, service: Service
) -> None:
    with http(
        client, service, tokens=1, key="acme", cost=lambda r: {"tokens": len(r.content)}
    ) as h:
        h.post(URL, content=b"x" * 40)
    asked = answering.params_of("limit.acquire")
    assert (asked["tokens"], asked["key"]) == (40, "acme")


def test_options_for_a_cache_or_with_a_typo_are_refused_at_once(
    client: Client, service: Service
) -> None:
    for option in ("ttl", "token"):
        with pytest.raises(TypeError, match=f"option {option}"):
            http(client, service, **{option: 60})


def test_without_a_daemon_the_client_decides(tmp_path: Path, service: Service) -> None:
    client = Client(str(tmp_path / "s"), timeout_s=0.05)
    with http(client, service, when_absent="open") as made:
        assert made.get(URL).text == "hi"
    with http(client, service) as made, pytest.raises(DaemonNotRunningError):
        made.get(URL)


async def test_asyncio_does_the_same(
    aclient: AsyncClient, answering: FakeDaemon, service: Service
) -> None:
    transport = AsyncGuardedTransport(
        aclient, "openai", transport=httpx.MockTransport(service), tokens=9
    )
    async with httpx.AsyncClient(transport=transport) as made:
        assert (await made.get(URL)).text == "hi"
        assert outcome(answering) == "success"
        service.does = httpx.PoolTimeout("busy")
        with pytest.raises(httpx.PoolTimeout):
            await made.get(URL)
        assert outcome(answering) == "ignore"
        service.does = httpx.Response(500)
        assert (await made.get(URL)).status_code == 500
        assert outcome(answering) == "failure"
        answering.answers["breaker.acquire"] = BreakerOpenError("open", retry_after_ms=20)
        with pytest.raises(RequestBlockedError) as caught:
            await made.get(URL)
        assert caught.value.retry_after == 0.02
    assert answering.params_of("limit.settle")["requests"] == 0
    costing = AsyncGuardedTransport(
        aclient, "openai", transport=httpx.MockTransport(service), cost=lambda _: {"tokens": 3}
    )
    async with httpx.AsyncClient(transport=costing) as made:
        with pytest.raises(RequestBlockedError):
            await made.get(URL)
    assert answering.params_of("limit.acquire")["tokens"] == 3
