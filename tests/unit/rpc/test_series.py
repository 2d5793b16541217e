"""Requests of one connection and method that follow each other closely share a record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from supereziod.observability.plain_lane import SERIES_NS
from unit.rpc.test_recording import Recording, ask, receive_all, recording


class Now:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
async def served(tmp_path: Path, now: Now) -> AsyncIterator[Recording]:
    async with recording(tmp_path, clock=now) as each:
        yield each


async def test_one_record_says_of_each_request_of_a_series_that_it_came(
    served: Recording, now: Now
) -> None:
    client = await served.client()
    await client.call("plain")
    for count in range(1, 6):
        await client.call("other")
        assert served.recorder.written == 2
        assert served.told()[1:] == [(each, "other", "ok") for each in range(2, count + 2)]
        now.ns += SERIES_NS // 10
    notes = served.notes()
    assert {note.received_ns for note in notes} == {1_000_000_000}
    assert [note.correlation_id for note in notes] == [f"{n.connection}.{n.number}" for n in notes]


async def test_one_that_comes_later_begins_a_record_of_its_own(served: Recording, now: Now) -> None:
    client = await served.client()
    await client.call("plain")
    await client.call("other")
    now.ns += SERIES_NS - 1
    await client.call("other")
    assert served.recorder.written == 2
    now.ns += 1
    await client.call("other")
    await client.call("other")
    assert served.recorder.written == 3
    assert served.told()[1:] == [(number, "other", "ok") for number in (2, 3, 4, 5)]
    assert [note.received_ns for note in served.notes()][2:4] == [1_000_000_000, now.ns]


@pytest.mark.parametrize(
    ("between", "told"),
    [
        (ask("hot"), ("hot", "ok")),
        (ask("hot", params={"a": 1}), ("hot", "not_found")),
        (ask("other", meta={"correlation_id": "mine"}), ("other", "ok")),
        (ask("other", meta={"deadline_ms": 1000}), ("other", "ok")),
        (ask("other", meta={"deadline_ms": 0}), ("other", "deadline_exceeded")),
        (ask("plain"), ("plain", "ok")),
        (ask("refuses"), ("refuses", "no_capacity")),
        (ask("nothing"), (None, "method_not_found")),
        ([ask("other")], ("other", "ok")),
    ],
    ids=str,
)
async def test_nothing_else_is_counted_into_a_series(
    served: Recording, between: Any, told: tuple[str | None, str]
) -> None:
    client = await served.client()
    await client.call("other")
    await client.call("other")
    await client.send(between)
    await client.receive()
    await client.call("other")
    await client.call("other")
    others = [(number, "other", "ok") for number in (1, 2, 4, 5)]
    assert served.told() == [*others[:2], (3, *told), *others[2:]]


async def test_one_that_has_to_wait_is_not_counted_into_a_series(served: Recording) -> None:
    client = await served.client()
    for number in (1, 2):
        await client.call("either", {"b": number})
    await client.send(ask("either", 3, params={"a": 1}))
    await served.parking.wait_for(1)
    await client.call("either")
    assert served.told() == [
        (1, "either", "ok"), (2, "either", "ok"), (3, "either", "in_flight"), (4, "either", "ok"),
    ]  # fmt: skip


async def test_a_read_of_many_between_reads_of_one_is_told_in_full(served: Recording) -> None:
    """Whether its requests are alike or not, and wherever among them one fails or waits."""
    client = await served.client()
    number = 0
    for chunk in (
        ["other"], ["other", "other"], ["other"], ["other", "hot", "other"], ["other"], ["hot"],
        ["hot", "fails", "hot"], ["fails", "hot"], ["hot"], ["hot", "hot", "fails"], ["hot"],
        ["hot"], ["hot", "hot"], ["hot"],
    ):  # fmt: skip
        sent = [
            ask("hot", params={"a": 1}) if name == "fails" else ask(name)
            for number, name in enumerate(chunk, number + 1)
        ]
        number += len(chunk)
        await client.send(*sent)
        await receive_all(client, len(sent))
    told = [
        *["other"] * 4, "other", "hot", "other", "other", "hot",
        "hot", None, "hot", None, *["hot"] * 4, None, *["hot"] * 5,
    ]  # fmt: skip
    assert served.told() == [
        (at, name or "hot", "ok" if name else "not_found") for at, name in enumerate(told, 1)
    ]


async def test_none_joins_a_series_from_before_a_read_of_many(served: Recording, now: Now) -> None:
    client = await served.client()
    for _ in range(3):
        await client.call("other")
    now.ns += SERIES_NS // 2
    await client.send(ask("other", 4), ask("other", 5))
    await receive_all(client, 2)
    for _ in range(2):
        await client.call("other")
    assert served.told() == [(number, "other", "ok") for number in range(1, 8)]
    before_ns = now.ns - SERIES_NS // 2
    assert [note.received_ns for note in served.notes()] == [before_ns] * 3 + [now.ns] * 4


async def test_nothing_is_kept_of_the_series_of_a_connection_that_has_ended(
    served: Recording,
) -> None:
    client = await served.client()
    for _ in range(3):
        await client.call("other")
    assert len(served.recorder.plain._series) == 1
    await client.aclose()
    await served.closed(1)
    assert not served.recorder.plain._series


async def test_notifications_are_counted_into_a_series_and_not_answered(served: Recording) -> None:
    client = await served.client()
    await client.call("other")
    await client.send({"jsonrpc": "2.0", "method": "other"})
    await client.call("other")
    await client.send(
        {"jsonrpc": "2.0", "method": "other"}, ask("other", 9), {"jsonrpc": "2.0", "method": "hot"}
    )
    assert (await client.receive())["id"] == 9
    await client.call("other")
    told = served.told()
    assert [number for number, _, _ in told] == [1, 2, 3, 4, 5, 6, 7]
    assert [name for _, name, _ in told] == [*["other"] * 5, "hot", "other"]


async def test_connections_that_take_turns_have_a_series_each(served: Recording) -> None:
    clients = [await served.client() for _ in range(3)]
    for client in clients:
        await client.call("plain")
    for _ in range(4):
        for client in clients:
            await client.call("other")
    assert served.recorder.written == 3 + 3
    told = [note for note in served.notes() if note.method == "other"]
    for connection in {note.connection for note in told}:
        assert [n.number for n in told if n.connection == connection] == [2, 3, 4, 5]


async def test_a_connection_that_has_ended_is_kept_by_nobody(served: Recording) -> None:
    for ended in range(1, 4):
        client = await served.client()
        await client.call("other")
        await client.aclose()
        await served.closed(ended)
        await asyncio.sleep(0)
        assert not served.recorder.plain._series
