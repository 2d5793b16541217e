"""cache.* over the socket: what is asked of the cache, and for whom."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from superezio.wire import (
    CacheAnswer,
    CacheDeleteParams,
    CacheFailParams,
    CacheGetParams,
    CacheNamespaceParams,
    CacheSetParams,
)
from unit.rpc.built import daemon

AT = {"namespace": "n", "key": "k"}


async def test_each_method_asks_the_cache_in_the_callers_name(tmp_path: Path) -> None:
    wanted: list[tuple[str, dict[str, Any], object]] = [
        ("get", AT, CacheGetParams("n", "k")),
        ("set", {**AT, "data": "AAE="}, CacheSetParams("n", "k", data=b"\0\1")),
        ("fail", {**AT, "token": "t"}, CacheFailParams("n", "k", "t")),
        ("delete", {"namespace": "n", "tag": "t"}, CacheDeleteParams("n", tag="t")),
        ("clear", {"namespace": "n", "uid": 5}, CacheNamespaceParams("n", 5)),
        ("stats", {}, None),
    ]
    async with daemon(tmp_path, role="user") as built:
        client = await built.client()
        for name, params, _ in wanted:
            assert "result" in await client.call(f"cache.{name}", params)
        assert [(name, asked) for name, _, asked in built.caches.calls] == [
            (name, asked) for name, _, asked in wanted
        ]
        callers = [caller for _, caller, _ in built.caches.calls]
        assert {caller.peer.uid for caller in callers} == {os.getuid()}
        assert len({caller.connection for caller in callers}) == 1
        assert not any(caller.is_admin for caller in callers)
        built.become("admin")
        await (await built.client()).call("cache.stats")
        assert built.caches.calls[-1][1].is_admin


async def test_who_has_to_wait_is_answered_when_there_is_something(tmp_path: Path) -> None:
    async with daemon(tmp_path, role="user") as built:
        client = await built.client()
        params = {"namespace": "n", "key": "waits", "fill": True}
        await client.send({"jsonrpc": "2.0", "id": 7, "method": "cache.get", "params": params})
        assert (await client.call("system.ping"))["result"], "others are answered meanwhile"
        assert [name for name, _, _ in built.caches.calls] == ["get", "wait"]
        built.caches.answers.put_nowait(CacheAnswer(status="filled", data=b"\0\1"))
        answer = await client.receive()
        assert (answer["id"], answer["result"]["data"]) == (7, "AAE=")


async def test_the_cache_hears_of_connections_that_end(tmp_path: Path) -> None:
    async with daemon(tmp_path, role="user") as built:
        client = await built.client()
        await client.call("cache.get", AT)
        ((_, caller, _),) = built.caches.calls
        await client.aclose()
        other = await built.client()
        while caller.connection not in built.caches.closed:
            await other.call("system.ping")
