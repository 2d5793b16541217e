"""trace.*: what one may ask for and add, within which bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from superezio.errors import BusyError
from superezio.flight.layout import plain_head
from superezio.flight.reading import LOOKED_AT_A_SLICE
from supereziod.rpc.commands.trace import SpanBudget
from unit.rpc.built import Daemon, daemon
from unit.rpc.serving import Client


@pytest.fixture
async def built(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with daemon(tmp_path, role="user") as each:
        yield each


async def result(client: Client, method: str, /, **params: Any) -> Any:
    answer = await client.call(method, params)
    assert "result" in answer, answer
    return answer["result"]


async def kind(client: Client, method: str, /, **params: Any) -> str:
    told: str = (await client.call(method, params))["error"]["data"]["kind"]
    return told


async def test_the_requests_of_an_id_come_in_the_order_of_time(built: Daemon) -> None:
    client = await built.client()
    for name in ("system.ping", "health.get", "gpu.list", "system.ping"):
        await client.call(name, meta={"correlation_id": "c"})
    await client.call("system.ping")
    trace = await result(client, "trace.get", id="c")
    methods = [each["method"] for each in trace["records"]]
    assert methods == ["system.ping", "health.get", "gpu.list", "system.ping"]
    assert [each["number"] for each in trace["records"]] == [1, 2, 3, 4]
    connection = trace["records"][0]["connection"]
    (fifth,) = (await result(client, "trace.get", id=f"{connection}.5"))["records"]
    assert (fifth["method"], fifth["outcome"], fifth["duration_ms"]) == ("system.ping", "ok", None)
    assert (await result(client, "trace.get", id=f"{connection}.500"))["records"] == []


async def test_find_goes_by_all_that_is_given(built: Daemon) -> None:
    client = await built.client()
    for name, params in (
        ("system.ping", {}),
        ("gpu.get", {"gpu": "9"}),
        ("lease.list", {}),
        ("lease.get", {"lease": "x"}),
        ("gpu.get", {"gpu": "8"}),
    ):
        await client.call(name, params)

    async def found(**params: Any) -> list[str]:
        requests = (await result(client, "trace.find", **params))["requests"]
        return [each["method"] for each in requests]

    assert await found(failed=True) == ["gpu.get", "gpu.get"]
    assert await found(last=2, method="gpu.") == ["gpu.get", "gpu.get"]
    assert await found(method="lease.get", since_s=60) == ["lease.get"]
    assert await found(slow_ms=60_000) == []
    assert (await found(last=5))[:2] == ["trace.find", "trace.find"]
    assert "system.ping" in await found(last=100)
    others = await found(last=4, omit=["system.ping", "trace.find"])
    assert others == ["gpu.get", "lease.get", "lease.list", "gpu.get"]
    many = [f"a.{number}" for number in range(17)]
    assert await kind(client, "trace.find", omit=many) == "invalid_params"
    assert await found(since_s=0) in ([], ["trace.find"])


async def test_many_searches_of_one_user_are_refused(built: Daemon) -> None:
    client = await built.client()
    calls = [
        {"jsonrpc": "2.0", "id": number, "method": "trace.find", "params": {"last": 1}}
        for number in range(12)
    ]
    await client.send(*calls)
    answers = [await client.receive() for _ in calls]
    kinds = [each["error"]["data"]["kind"] for each in answers if "error" in each]
    assert kinds.count("busy") == 11
    assert await result(client, "trace.find", last=1)


async def test_a_search_lets_others_be_answered_meanwhile(built: Daemon) -> None:
    """Again and again, whatever is searched for, where each record tells of 256 requests."""
    recorder = built.server.dispatcher.recorder
    head = plain_head(recorder.marks_of("system.ping").number, 256)
    records = recorder.plain.size // 64
    for number in range(records):
        recorder.plain.write(head, b"\x01" * 32, 256 * number + 1, number)
    searcher, other = await built.client(), await built.client()
    await searcher.call("system.ping")
    for params, slices in (
        ({"last": 1000}, 1000 // LOOKED_AT_A_SLICE),
        ({"last": 1000, "method": "no.such"}, records // LOOKED_AT_A_SLICE),
    ):
        search = asyncio.create_task(searcher.call("trace.find", params))
        answered = 0
        while not search.done():
            assert "result" in await other.call("system.ping")
            answered += 1
        assert "result" in await search
        assert answered >= min(slices // 8, 20), params


async def test_a_span_has_its_times_and_attributes(built: Daemon) -> None:
    client = await built.client()
    await client.call("system.ping", meta={"correlation_id": "c"})
    attributes = {"file": "llama.gguf", "layers": 33, "ratio": 0.5, "warm": True}
    for times in ({"duration_ms": 20_500}, {}, {"started_ms_ago": 600_000, "duration_ms": 20_000}):
        span = {"correlation_id": "c", "name": "load", "attributes": attributes, **times}
        assert (await result(client, "trace.annotate", **span))["done"]
    trace = await result(client, "trace.get", id="c")
    by_length = sorted(trace["spans"], key=lambda each: each["duration_ms"] or 0)
    assert [each["duration_ms"] for each in by_length] == [None, 20_000, 20_500]
    assert all(each["attributes"] == attributes for each in trace["spans"])
    assert by_length[1]["started_ns"] < by_length[2]["started_ns"] < by_length[0]["started_ns"]


@pytest.mark.parametrize(
    "bad",
    [
        {"correlation_id": "not an id"},
        {"correlation_id": ""},
        {"name": ""},
        {"name": "x" * 65},
        {"name": "a\nb"},
        {"duration_ms": -1},
        {"started_ms_ago": 1e15},
        {"attributes": {f"a{number}": 1 for number in range(17)}},
        {"attributes": {"a": "x" * 257}},
        {"attributes": {"a\x1b": 1}},
        {"attributes": {"a": "\x00"}},
        {"attributes": {"a": 2**60}},
        {"attributes": {"a": [1]}},
    ],
)
async def test_a_span_beyond_its_bounds_is_refused(built: Daemon, bad: dict[str, Any]) -> None:
    client = await built.client()
    span = {"correlation_id": "c", "name": "load", **bad}
    assert await kind(client, "trace.annotate", **span) == "invalid_params"
    assert (await result(client, "trace.get", id="c"))["spans"] == []


async def test_the_largest_span_fits_into_a_record(built: Daemon) -> None:
    """Within the bounds, in the letters that take most bytes."""
    client = await built.client()
    attributes = {f"{chr(0x1F600 + number) * 64}": "\U0001f600" * 40 for number in range(6)}
    span = {"correlation_id": "c" * 64, "name": "\U0001f600" * 64, "attributes": attributes}
    assert (await result(client, "trace.annotate", **span))["done"]
    (found,) = (await result(client, "trace.get", id="c" * 64))["spans"]
    assert found["attributes"] == attributes


async def test_a_span_too_large_for_a_record_is_refused_and_not_lost(built: Daemon) -> None:
    client = await built.client()
    attributes = {f"{number}": "\U0001f600" * 256 for number in range(16)}
    span = {"correlation_id": "c", "name": "x", "attributes": attributes}
    assert await kind(client, "trace.annotate", **span) == "invalid_params"


def test_spans_are_bounded_by_id_and_by_user() -> None:
    now = [0]
    budget = SpanBudget(lambda: now[0])
    for _ in range(256):
        budget.take(1, "c")
    with pytest.raises(BusyError) as refused:
        budget.take(1, "c")
    assert refused.value.data == {"limit": "spans_per_id"}
    budget.take(2, "c")
    for number in range(1000 - 256):
        budget.take(1, f"other{number}")
    with pytest.raises(BusyError) as refused:
        budget.take(1, "one more")
    assert refused.value.retry_after_ms == 10
    now[0] += 10_000_000
    budget.take(1, "one more")


@pytest.mark.parametrize("bad", [{"last": 0}, {"last": 1001}, {"slow_ms": -1}, {"since_s": 1e300}])
async def test_a_search_beyond_its_bounds_is_refused(built: Daemon, bad: dict[str, Any]) -> None:
    assert await kind(await built.client(), "trace.find", **bad) == "invalid_params"


async def test_an_id_that_is_none_is_refused(built: Daemon) -> None:
    for bad in ("", "x" * 65, 'a"b'):
        assert await kind(await built.client(), "trace.get", id=bad) == "invalid_params"


async def test_more_records_than_an_answer_holds_are_the_newest_and_it_says_so(
    built: Daemon,
) -> None:
    client = await built.client()
    ping = {"jsonrpc": "2.0", "id": 1, "method": "system.ping", "meta": {"correlation_id": "c"}}
    recorder = built.server.dispatcher.recorder
    marks = recorder.marks_of("system.ping")
    await client.ask(ping)
    (first,) = (await result(client, "trace.get", id="c"))["records"]
    uid = first["uid"]
    who = uid.to_bytes(4, "little") + b"\x01" * 28
    capacity = len(recorder._ring.lanes.full) // 128
    for number in range(min(capacity, 3000)):
        recorder.named(marks, who, uid, number + 1, number, "c")
    trace = await result(client, "trace.get", id="c")
    if capacity > 1000:
        assert trace["truncated"]
        assert len(trace["records"]) == 1000
    else:
        assert not trace["truncated"]
