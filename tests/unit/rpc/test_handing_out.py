"""What hands something out has to have an id, for nobody would hear what a notification got."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from supereziod.rpc.replies import encode
from supereziod.rpc.requests import RequestContext
from unit.rpc.built import daemon
from unit.rpc.serving import Client, Numbers, Served, method, serving


class Desk:
    """Hands something out where `a` is not 0, and remembers to whom."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def hand_out(self, _request: RequestContext, params: Numbers) -> bytes:
        self.asked.append(params.a)
        return encode(params.a)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def served(tmp_path: Path, desk: Desk) -> AsyncIterator[Served]:
    methods = [
        method("take", Numbers, desk.hand_out, hot=True, hands_out=lambda params: params.a != 0),
        method("plain", Numbers, lambda _request, params: params.a),
    ]
    async with serving(tmp_path, methods) as served:
        yield served


def notification(method: str, params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params}


def request(method: str, params: Any, id_: object) -> dict[str, Any]:
    return {**notification(method, params), "id": id_}


async def nothing_is_answered(client: Client) -> bool:
    """Tell whether the next answer is that to the next request."""
    return bool((await client.call("plain", id="next"))["id"] == "next")


@pytest.mark.parametrize(
    "message",
    [
        notification("take", {"a": 1}),
        notification("take", [1]),
        {**notification("take", {"a": 1}), "meta": {"correlation_id": "c"}},
        [notification("take", {"a": 1})],
    ],
)
async def test_a_notification_is_handed_nothing_and_told_nothing(
    served: Served, desk: Desk, message: Any
) -> None:
    client = await served.client()
    await client.send(message)
    assert await nothing_is_answered(client)
    assert desk.asked == []


async def test_it_counts_as_an_error_of_its_session(served: Served) -> None:
    client = await served.client()
    await client.send(notification("take", {"a": 1}))
    assert await nothing_is_answered(client)
    (connection,) = served.server._connections
    assert (connection.session.errors, connection.requests) == (1, 2)


@pytest.mark.parametrize("id_", [1, 0, 1.5, "x", "", None])
async def test_with_an_id_of_any_kind_it_is_handed_out(
    served: Served, desk: Desk, id_: object
) -> None:
    client = await served.client()
    assert await client.ask(request("take", {"a": 1}, id_)) == {
        "jsonrpc": "2.0",
        "result": 1,
        "id": id_,
    }
    assert desk.asked == [1]


async def test_where_nothing_is_handed_out_a_notification_is_carried_out(
    served: Served, desk: Desk
) -> None:
    client = await served.client()
    await client.send(notification("take", {"a": 0}))
    assert await nothing_is_answered(client)
    assert desk.asked == [0]


async def test_those_beside_it_in_one_read_are_handed_theirs(served: Served, desk: Desk) -> None:
    client = await served.client()
    await client.send(
        request("take", {"a": 1}, 1), notification("take", {"a": 2}), request("take", {"a": 3}, 3)
    )
    assert [(await client.receive())["id"] for _ in range(2)] == [1, 3]
    assert desk.asked == [1, 3]


async def test_permits_reservations_and_leads_are_not_handed_to_notifications(
    tmp_path: Path,
) -> None:
    key = {"namespace": "n", "key": "k"}
    async with daemon(tmp_path, role="user") as built:
        client = await built.client()
        for name, params in (
            ("breaker.acquire", {"name": "b"}),
            ("limit.acquire", {"name": "l"}),
            ("cache.get", {**key, "fill": True}),
            ("cache.get", {"namespace": "n", "key": "waits", "fill": True}),
        ):
            await client.send(notification(name, params))
        assert (await client.call("system.ping"))["result"]
        assert (built.breakers.calls, built.limits.calls, built.caches.calls) == ([], [], [])
        await client.send(notification("cache.get", key))
        assert (await client.call("system.ping"))["result"]
        assert [name for name, _, _ in built.caches.calls] == ["get"]
        for name, params in (("breaker.acquire", {"name": "b"}), ("limit.acquire", {"name": "l"})):
            assert "result" in await client.call(name, params)
