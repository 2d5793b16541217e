"""Every request leaves one record, whichever way it goes: on a real socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from superezio.errors import BreakerOpenError, NoCapacityError, NotFoundError, RateLimitedError
from superezio.flight.reading import latest
from superezio.flight.records import GpuNote, RequestNote
from supereziod.observability.flight_recorder import FlightRecorder
from supereziod.observability.marks import count_use, mark
from supereziod.rpc.limits import Limits
from supereziod.rpc.replies import encode
from supereziod.rpc.requests import RequestContext
from unit.rpc.serving import Client, Nothing, Numbers, Parking, Served, method, serving

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def hot(_request: RequestContext, params: Numbers) -> bytes:
    if params.a == 1:
        raise NotFoundError("there is none")
    return encode(params.b)


def hot_that_comes_to(request: RequestContext, params: Numbers) -> bytes:
    if params.a == 1:
        data = {"dimension": "tokens", "scope": "host", "scope_name": "", "blocked": False}
        raise RateLimitedError("no room", data=data)
    if params.a == 2:
        raise BreakerOpenError("it is open", data={"state": "half_open"})
    if params.a == 3:
        data = {"dimension": "tokens", "scope": "key", "scope_name": "k", "blocked": True}
        raise RateLimitedError("no room", data=data)
    request.came_to = "miss,lead" if params.b else "settled failure"
    return encode(params.b)


def hot_or_waits(_request: RequestContext, params: Numbers) -> bytes | None:
    return encode(params.b) if not params.a else None


def marks(_request: RequestContext, _params: Nothing) -> str:
    mark("granted", lease="1ea5e", gpus=["GPU-1"])
    count_use("leases")
    return "done"


def refuses(_request: RequestContext, _params: Nothing) -> str:
    raise NoCapacityError("no")


def faults(_request: RequestContext, _params: Nothing) -> str:
    raise RuntimeError("a bug")


class Recording(Served):
    """A server with all kinds of methods, and the records that its requests left."""

    parking: Parking

    @property
    def recorder(self) -> FlightRecorder:
        return self.server.dispatcher.recorder

    def notes(self) -> list[RequestNote]:
        """Each request, in the order of time, as its last record says."""
        reader = self.recorder._ring.reader()
        entries = [
            entry
            for full in (False, True)
            for entry in reader.newest_first(full=full)
            if entry is not None
        ]
        found = [entry.note for entry in latest(entries)]
        requests = [note for note in found if isinstance(note, RequestNote)]
        return sorted(requests, key=lambda note: (note.received_ns, note.connection, note.number))

    def told(self) -> list[tuple[int, str | None, str]]:
        return [(note.number, note.method, note.outcome) for note in self.notes()]


@asynccontextmanager
async def recording(path: Path, **options: Any) -> AsyncIterator[Recording]:
    parking = Parking()
    methods = [
        method("hot", Numbers, hot, hot=True),
        method("comes_to", Numbers, hot_that_comes_to, hot=True),
        method("other", Nothing, lambda _r, _p: b"1", hot=True),
        method("hands_out", Nothing, lambda _r, _p: b"1", hot=True, hands_out=lambda _p: True),
        method("either", Numbers, hot_or_waits, hot=True, waiting=parking.park),
        method("plain", Nothing, lambda _r, _p: "x"),
        method("marks", Nothing, marks),
        method("refuses", Nothing, refuses),
        method("lease.refuses", Nothing, refuses),
        method("faults", Nothing, faults),
        method("secret", Nothing, lambda _r, _p: "x", role="admin"),
        *parking.methods(),
    ]
    async with serving(path, methods, **options) as served:
        served.__class__ = Recording
        assert isinstance(served, Recording)
        served.parking = parking
        yield served


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Recording]:
    async with recording(tmp_path) as each:
        yield each


def ask(name: str, number: int = 1, **members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": name, **members}


async def receive_all(client: Client, count: int) -> list[Any]:
    return [await client.receive() for _ in range(count)]


@pytest.mark.parametrize(
    ("name", "params", "outcome"),
    [
        ("hot", {}, "ok"),
        ("hot", {"a": 1}, "not_found"),
        ("plain", None, "ok"),
        ("refuses", None, "no_capacity"),
        ("faults", None, "internal_error"),
        ("hot", {"z": 1}, "invalid_params"),
        ("none", None, "method_not_found"),
    ],
)
async def test_a_request_leaves_one_record_of_how_it_ended(
    served: Recording, name: str, params: Any, outcome: str
) -> None:
    client = await served.client()
    answer = await client.call(name, params)
    (note,) = served.notes()
    assert note.outcome == outcome
    assert note.method == (name if outcome != "method_not_found" else None)
    if "error" in answer:
        assert answer["error"]["data"]["correlation_id"] == note.correlation_id
    assert note.correlation_id == f"{note.connection}.{note.number}"
    assert (note.duration_ns is None) == (name == "hot" and outcome == "ok")


async def test_a_read_of_many_leaves_each_its_own_record_in_order(served: Recording) -> None:
    """Those of one method that are answered at once share one; nothing else is in it."""
    client = await served.client()
    sent = [
        ask("hot", 1), ask("hot", 2), ask("hot", 3, params={"a": 1}), ask("hot", 4),
        ask("plain", 5), ask("hot", 6), ask("other", 7), ask("other", 8),
        ask("hot", 9, meta={"correlation_id": "c"}), ask("hot", 10),
        ask("secret", 11), {"jsonrpc": "2.0"}, ask("hot", 13), ask("faults", 14),
    ]  # fmt: skip
    await client.send(*sent)
    await receive_all(client, len(sent))
    assert served.told() == [
        (1, "hot", "ok"), (2, "hot", "ok"), (3, "hot", "not_found"), (4, "hot", "ok"),
        (5, "plain", "ok"), (6, "hot", "ok"), (7, "other", "ok"), (8, "other", "ok"),
        (9, "hot", "ok"), (10, "hot", "ok"), (11, "secret", "ok"), (12, None, "invalid_request"),
        (13, "hot", "ok"), (14, "faults", "internal_error"),
    ]  # fmt: skip


async def test_members_of_a_batch_and_notifications_leave_records_too(served: Recording) -> None:
    client = await served.client()
    batch = [ask("hot", 1), ask("hot", 2), ask("refuses", 3), {"jsonrpc": "2.0", "method": "hot"}]
    await client.send(batch)
    await client.receive()
    await client.send({"jsonrpc": "2.0", "method": "plain"}, ask("hot", 4))
    await client.receive()
    assert served.told() == [
        (1, "hot", "ok"), (2, "hot", "ok"), (3, "refuses", "no_capacity"), (4, "hot", "ok"),
        (5, "plain", "ok"), (6, "hot", "ok"),
    ]  # fmt: skip


async def test_a_notification_that_is_handed_nothing_is_recorded_as_refused(
    served: Recording,
) -> None:
    client = await served.client()
    await client.send({"jsonrpc": "2.0", "method": "hands_out"}, ask("hands_out", 2))
    await client.receive()
    assert served.told() == [(1, "hands_out", "invalid_request"), (2, "hands_out", "ok")]


async def test_a_request_that_waits_is_recorded_when_it_begins_and_when_it_ends(
    served: Recording,
) -> None:
    client = await served.client()
    await client.send(ask("park", 1), ask("either", 2, params={"a": 1}))
    await served.parking.wait_for(2)
    assert served.told() == [(1, "park", "in_flight"), (2, "either", "in_flight")]
    served.parking.waiting[0].set_result("there")
    await client.receive()
    served.parking.waiting[1].set_exception(NotFoundError("gone"))
    await client.receive()
    assert served.told() == [(1, "park", "ok"), (2, "either", "not_found")]
    assert all((note.duration_ns or 0) > 0 for note in served.notes())


async def test_one_whose_caller_hangs_up_ends_as_cancelled(served: Recording) -> None:
    client = await served.client()
    await client.send(ask("park", 1))
    await served.parking.wait_for(1)
    await client.aclose()
    await served.closed(1)
    for _ in range(3):  # the future's callback comes with the next turn of the loop
        await asyncio.sleep(0)
    assert served.told() == [(1, "park", "cancelled")]


async def test_a_record_says_what_was_marked_and_the_session_counts_it(served: Recording) -> None:
    client = await served.client()
    await client.call("marks")
    (note,) = served.notes()
    assert [name for name, _ in note.marks] == ["granted"]
    assert (note.lease, note.gpu) == ("1ea5e", "GPU-1")
    (session,) = served.sessions.visible_to(0, everyone=True)
    assert session.used == {"leases": 1}
    assert session.session_id == note.session


@pytest.mark.parametrize("name", ["hot", "plain"])
async def test_the_callers_id_and_trace_are_in_the_record(served: Recording, name: str) -> None:
    client = await served.client()
    traced = {"correlation_id": "job-17", "traceparent": f"00-{TRACE}-{PARENT}-01"}
    await client.call(name, meta=traced)
    await client.call(name, meta={"correlation_id": "job-18", "traceparent": "00-nonsense"})
    await client.call(name, meta={"correlation_id": "job-19"})
    await client.call(name, meta={"correlation_id": "not one of mine!"})
    notes = served.notes()
    assert [note.correlation_id for note in notes[:3]] == ["job-17", "job-18", "job-19"]
    assert [(note.trace_id, note.parent_id) for note in notes[:2]] == [
        (TRACE, PARENT),
        (None, None),
    ]
    assert len(notes[3].correlation_id) == 32


@pytest.mark.parametrize("name", ["hot", "plain"])
async def test_the_session_that_a_request_names_is_in_its_record(
    served: Recording, name: str
) -> None:
    client = await served.client()
    opened = served.sessions.open(uid=os.geteuid(), pid=1, name="x", token=None, joined=set())
    await client.call(name, meta={"session_id": opened.session_id})
    await client.call(name, meta={"deadline_ms": 1000})
    first, second = served.notes()
    assert first.session == opened.session_id
    assert second.session != opened.session_id
    assert first.connection == second.connection


MISS, SETTLED = [("miss", 0), ("lead", 0)], [("settled failure", 0)]


async def test_what_one_that_is_answered_at_once_came_to_is_in_its_record(
    served: Recording,
) -> None:
    client = await served.client()
    named = {"correlation_id": "job-1"}
    await client.call("comes_to", {"b": 1}, meta=named)
    await client.call("other", meta=named)
    await client.call("comes_to", {"b": 0}, meta=named)
    await client.call("comes_to", {"b": 1}, meta=named)
    notes = served.notes()
    assert [(note.method, note.marks) for note in notes] == [
        ("comes_to", MISS), ("other", []), ("comes_to", SETTLED), ("comes_to", MISS),
    ]  # fmt: skip
    assert {note.outcome for note in notes} == {"ok"}


async def test_so_it_is_of_one_with_a_trace_of_its_callers(served: Recording) -> None:
    client = await served.client()
    traced = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    await client.call("comes_to", {"b": 1}, meta=traced)
    await client.call("other", meta=traced)
    first, second = served.notes()
    assert [name for name, _ in first.marks] == ["miss", "lead"]
    assert second.marks == []


async def test_what_came_to_nothing_new_takes_no_room_in_the_head(served: Recording) -> None:
    client = await served.client()
    for _ in range(3):
        await client.call("comes_to", {"b": 1}, meta={"correlation_id": "job-1"})
    methods = served.recorder._ring._head.methods
    assert methods.count("comes_to miss,lead") == 1


@pytest.mark.parametrize(
    ("a", "mark"),
    [(1, "limited tokens of host"), (2, "rejected half_open"), (3, "limited by the service")],
)
async def test_a_refusal_is_told_with_what_held_the_request_back(
    served: Recording, a: int, mark: str
) -> None:
    client = await served.client()
    await client.call("comes_to", {"a": a})
    await client.call("hot", {"a": 1})
    refused, failed = served.notes()
    ((name, at_ns),) = refused.marks
    assert name == mark
    assert 0 <= at_ns <= (refused.duration_ns or 0)
    assert failed.marks == []


async def test_what_the_rate_limit_refuses_is_recorded(tmp_path: Path) -> None:
    limits = Limits(requests_per_second=1, requests_burst=2)
    async with recording(tmp_path, limits=limits) as served:
        client = await served.client()
        for _ in range(4):
            await client.call("hot")
        assert served.told() == [
            (1, "hot", "ok"), (2, "hot", "ok"), (3, "hot", "busy"), (4, "hot", "busy"),
        ]  # fmt: skip


async def test_the_gpus_are_in_the_record_of_a_grant_and_of_a_lease_that_failed(
    served: Recording,
) -> None:
    asked: list[Any] = []

    def samples(uuids: Sequence[str] | None) -> list[GpuNote]:
        asked.append(uuids)
        return []

    served.recorder._samples = samples
    client = await served.client()
    for name in ("marks", "lease.refuses", "refuses", "plain", "hot"):
        await client.call(name)
    assert asked == [("GPU-1",), None]
