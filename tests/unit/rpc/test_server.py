"""Connections: limits, deadlines, cancellation, back-pressure, and the end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from superezio.errors import ConflictError
from superezio.wire import CancelParams, Done, Params
from supereziod.observability.correlation import correlation_id, current_scope
from supereziod.observability.log_fields import SCOPE_FIELDS
from supereziod.rpc.access import AccessPolicy
from supereziod.rpc.dispatcher import MAX_BATCH_ANSWER_BYTES
from supereziod.rpc.limits import Limits
from supereziod.rpc.method import Method
from supereziod.rpc.replies import encode
from supereziod.rpc.requests import RequestContext
from unit.rpc.built import OneRole
from unit.rpc.serving import (
    Client,
    Nothing,
    Numbers,
    Parking,
    Served,
    example_methods,
    method,
    serving,
)

SECOND = 1_000_000_000


class Size(Params):
    size: int


def cancel(request: RequestContext, params: CancelParams) -> Done:
    return Done(done=request.origin.cancel(params.id))


def scope_fields() -> dict[str, object]:
    scope = current_scope.get()
    return {name: getattr(scope, name) for name in SCOPE_FIELDS}


def refuse(_request: RequestContext, _params: Params) -> None:
    raise ConflictError(str(correlation_id()))


def table(parking: Parking) -> list[Method]:
    return [
        *example_methods(),
        *parking.methods(),
        method(
            "hot.park",
            Numbers,
            lambda _request, p: encode(p.a) if p.a else None,
            hot=True,
            waiting=parking.park,
        ),
        method("hot.no_wait", Nothing, lambda _request, _p: None, hot=True, waiting=refuse),
        method("rpc.cancel", CancelParams, cancel),
        method("big", Size, lambda _request, p: "x" * p.size),
        method("fault", Nothing, lambda _request, _p: 1 / 0),
        method("unencodable", Nothing, lambda _request, _p: object()),
        method("scope", Nothing, lambda _request, _p: scope_fields()),
        method("refuse", Nothing, refuse),
        method("hot.refuse", Nothing, refuse, hot=True),
        method("hot.scope", Nothing, lambda _request, _p: encode(scope_fields()), hot=True),
        method("hot.admin", Nothing, lambda _request, _p: b"null", role="admin", hot=True),
        method("hot.fault", Nothing, lambda _request, _p: 1 / 0, hot=True),
    ]


@pytest.fixture
def parking() -> Parking:
    return Parking()


@pytest.fixture
async def served(tmp_path: Path, parking: Parking) -> AsyncIterator[Served]:
    async with serving(tmp_path, table(parking)) as served:
        yield served


def kind(answer: dict[str, Any]) -> str:
    return str(answer["error"]["data"]["kind"])


# --- requests -----------------------------------------------------------------------------------


async def test_many_lines_of_one_write_are_answered_in_order(served: Served) -> None:
    client = await served.client()
    await client.send(
        *({"jsonrpc": "2.0", "id": n, "method": "sum", "params": [n]} for n in range(3000))
    )
    for n in range(3000):
        assert await client.receive() == {"jsonrpc": "2.0", "result": n, "id": n}


async def test_a_request_that_waits_holds_up_no_other(served: Served, parking: Parking) -> None:
    client = await served.client()
    await client.send({"jsonrpc": "2.0", "id": "slow", "method": "park"})
    assert (await client.call("sum", [1, 2]))["result"] == 3
    parking.waiting[0].set_result("there")
    assert await client.receive() == {"jsonrpc": "2.0", "result": "there", "id": "slow"}


async def test_a_batch_is_worked_on_until_its_answer_is_long_enough(served: Served) -> None:
    client = await served.client()
    size = MAX_BATCH_ANSWER_BYTES // 2
    members = [
        {"jsonrpc": "2.0", "id": number, "method": "big", "params": {"size": size}}
        for number in range(5)
    ]
    answers = {each["id"]: each for each in await client.ask(members)}
    assert [len(answers[number].get("result", "")) for number in range(5)] == [size, size, 0, 0, 0]
    assert {answers[number]["error"]["data"]["limit"] for number in (2, 3, 4)} == {
        "batch_answer_bytes"
    }


async def test_a_hot_method_may_have_to_wait_and_then_is_as_any_other(
    served: Served, parking: Parking
) -> None:
    client = await served.client()
    assert (await client.call("hot.park", [7]))["result"] == 7
    await client.send({"jsonrpc": "2.0", "id": "w", "method": "hot.park"})
    assert (await client.call("hot.park", [8]))["result"] == 8
    parking.waiting[0].set_result("there")
    assert await client.receive() == {"jsonrpc": "2.0", "result": "there", "id": "w"}
    await client.send({"jsonrpc": "2.0", "id": "x", "method": "hot.park"})
    await parking.wait_for(2)
    assert (await client.call("rpc.cancel", {"id": "x"}))["result"] == {"done": True}
    assert kind(await client.receive()) == "cancelled"
    refused = await client.call("hot.no_wait", meta={"correlation_id": "its-own"})
    assert refused["error"]["message"] == "its-own"


async def test_a_hot_method_that_waits_is_waited_for_by_its_batch(
    served: Served, parking: Parking
) -> None:
    client = await served.client()
    await client.send(
        [
            {"jsonrpc": "2.0", "id": 1, "method": "hot.park"},
            {"jsonrpc": "2.0", "id": 2, "method": "hot.no_wait"},
            {"jsonrpc": "2.0", "id": 3, "method": "hot.park", "params": [9]},
        ]
    )
    await parking.wait_for(1)
    parking.waiting[0].set_result("late")
    answers = {each["id"]: each for each in await client.receive()}
    assert answers[1]["result"] == "late"
    assert kind(answers[2]) == "conflict"
    assert answers[3]["result"] == 9


async def test_a_batch_is_answered_when_its_last_member_is(
    served: Served, parking: Parking
) -> None:
    client = await served.client()
    await client.send(
        [
            {"jsonrpc": "2.0", "id": 1, "method": "park"},
            {"jsonrpc": "2.0", "id": 2, "method": "sum", "params": [5]},
            {"jsonrpc": "2.0", "method": "park"},
        ]
    )
    await parking.wait_for(2)
    parking.waiting[0].set_result("late")
    parking.waiting[1].set_result("nobody asked")
    answers = {each["id"]: each["result"] for each in await client.receive()}
    assert answers == {1: "late", 2: 5}


async def test_a_deadline_cancels_the_handler(served: Served, parking: Parking) -> None:
    client = await served.client()
    answer = await client.call("park", meta={"deadline_ms": 20})
    assert kind(answer) == "deadline_exceeded"
    assert parking.cancelled == 1


async def test_a_deadline_that_has_passed_is_not_begun(served: Served, parking: Parking) -> None:
    client = await served.client()
    answer = await client.call("park", meta={"deadline_ms": 0})
    assert kind(answer) == "deadline_exceeded"
    assert parking.waiting == []


async def test_an_answer_in_time_takes_the_deadline_away(served: Served, parking: Parking) -> None:
    client = await served.client()
    await client.send(
        {"jsonrpc": "2.0", "id": 1, "method": "park", "meta": {"deadline_ms": 60_000}}
    )
    await parking.wait_for(1)
    parking.waiting[0].set_result("in time")
    assert (await client.receive())["result"] == "in time"


@pytest.mark.parametrize(
    "meta", [{"idempotency_key": "with space"}, {"deadline_ms": 10**12}, {"idempotency_key": ""}]
)
async def test_meta_that_cannot_be_honoured_is_refused(
    served: Served, meta: dict[str, object]
) -> None:
    client = await served.client()
    assert kind(await client.call("sum", [1], meta=meta)) == "invalid_request"


@pytest.mark.parametrize("request_id", [1, "one"])
async def test_a_request_is_cancelled_by_its_id(
    served: Served, parking: Parking, request_id: object
) -> None:
    client = await served.client()
    await client.send({"jsonrpc": "2.0", "id": request_id, "method": "park"})
    await client.send(
        {"jsonrpc": "2.0", "id": "c", "method": "rpc.cancel", "params": {"id": request_id}}
    )
    answers = {each["id"]: each for each in [await client.receive(), await client.receive()]}
    assert answers["c"]["result"] == {"done": True}
    assert kind(answers[request_id]) == "cancelled"
    assert parking.cancelled == 1


async def test_cancelling_what_is_not_in_flight_does_nothing(served: Served) -> None:
    client, other = await served.client(), await served.client()
    await other.send({"jsonrpc": "2.0", "id": 7, "method": "park"})
    assert (await client.call("rpc.cancel", {"id": 7}))["result"] == {"done": False}


async def test_an_id_in_flight_is_not_given_twice(served: Served) -> None:
    client = await served.client()
    await client.send({"jsonrpc": "2.0", "id": 1, "method": "park"})
    assert kind(await client.call("park")) == "invalid_request"


async def test_a_fault_of_a_handler_is_told_without_its_details(served: Served) -> None:
    client = await served.client()
    for name in ("fault", "unencodable"):
        answer = await client.call(name, meta={"correlation_id": "abc"})
        assert answer["error"]["code"] == -32603
        assert answer["error"]["data"] == {"kind": "internal_error", "correlation_id": "abc"}
        assert "division" not in answer["error"]["message"]


async def test_a_fault_of_what_waits_is_told_alike(served: Served, parking: Parking) -> None:
    client = await served.client()
    await client.send({"jsonrpc": "2.0", "id": 1, "method": "park"})
    await parking.wait_for(1)
    parking.waiting[0].set_exception(ZeroDivisionError())
    assert kind(await client.receive()) == "internal_error"
    await client.send({"jsonrpc": "2.0", "id": 1, "method": "park"})
    await parking.wait_for(2)
    parking.waiting[1].cancel()
    assert kind(await client.receive()) == "shutting_down"


async def test_the_scope_of_a_request_is_current_while_it_is_handled(served: Served) -> None:
    client = await served.client()
    answer = await client.call("scope", meta={"correlation_id": "mine-1"})
    scope = answer["result"]
    assert scope["correlation_id"] == "mine-1"
    assert (scope["uid"], scope["pid"], scope["method"]) == (os.getuid(), os.getpid(), "scope")
    assert current_scope.get() is None


@pytest.mark.parametrize("given", ["with space", "x" * 65, "", "new\nline"])
async def test_a_malformed_correlation_id_is_replaced(served: Served, given: str) -> None:
    client = await served.client()
    scope = (await client.call("scope", meta={"correlation_id": given}))["result"]
    assert scope["correlation_id"] not in (given, "")


@pytest.mark.parametrize("name", ["refuse", "hot.refuse"])
async def test_a_request_has_one_correlation_id_wherever_it_is_told(
    served: Served, name: str
) -> None:
    client = await served.client()
    told = []
    for given in (None, "not one", "one", "not one", None):
        meta = {} if given is None else {"correlation_id": given}
        error = (await client.call(name, meta=meta))["error"]
        assert error["message"] == error["data"]["correlation_id"]
        told.append(error["message"])
    assert told[2] == "one"
    assert "not one" not in told
    assert len(set(told)) == 5


async def test_a_hot_request_is_nobody_elses(served: Served) -> None:
    """It is an object that is used again: nothing of one request may show in the next."""
    client, other = await served.client(), await served.client()
    opened = served.sessions.open(uid=os.getuid(), pid=1, name=None, token=None, joined=set())
    meta = {"correlation_id": "mine", "session_id": opened.session_id, "deadline_ms": 1000}
    first = (await client.call("hot.scope", meta=meta))["result"]
    assert (first["correlation_id"], first["session_id"]) == ("mine", opened.session_id)
    for each in (other, client):
        again = (await each.call("hot.scope"))["result"]
        assert again["correlation_id"] != "mine"
        assert again["session_id"] != opened.session_id
    served.server.set_access(OneRole(own_uid=-1, role="observer"))
    denied = (await client.call("hot.admin", meta={"correlation_id": "next"}))["error"]
    assert denied["data"]["correlation_id"] == "next"
    await client.send({"jsonrpc": "2.0", "method": "hot.scope"})
    assert (await client.call("scope"))["result"]["method"] == "scope"
    assert (await client.call("hot.scope"))["result"]["method"] == "hot.scope"
    assert (await client.call("hot.fault"))["error"]["code"] == -32603


async def test_a_hot_request_works_in_its_own_scope_after_a_turn_of_others(
    tmp_path: Path, parking: Parking
) -> None:
    """A turn runs in another context than a read: what is current in one is not in the other."""
    limits = Limits(requests_per_turn=1)
    async with serving(tmp_path, table(parking), limits=limits) as served:
        client = await served.client()
        names = ["scope", "hot.scope", "scope", "hot.scope"]
        told = []
        for _ in range(4):
            await client.send(*({"jsonrpc": "2.0", "id": 1, "method": name} for name in names))
            told += [(await client.receive())["result"] for _ in names]
            told += [(await client.call("hot.scope"))["result"] for _ in range(2)]
        ids = [each["correlation_id"].rpartition(".")[2] for each in told]
        assert ids == [str(number) for number in range(1, len(told) + 1)]


async def test_requests_without_correlation_id_get_one_each(served: Served) -> None:
    client = await served.client()
    ids = {(await client.call("scope"))["result"]["correlation_id"] for _ in range(3)}
    assert len(ids) == 3


# --- limits -------------------------------------------------------------------------------------


async def test_a_line_over_the_cap_is_refused_and_the_connection_goes_on(
    tmp_path: Path, parking: Parking
) -> None:
    async with serving(tmp_path, table(parking), limits=Limits(max_frame_bytes=1000)) as served:
        client = await served.client()
        await client.send_raw(b"x" * 5000)
        answer = await client.receive()
        assert kind(answer) == "frame_too_large"
        assert answer["error"]["data"]["limit"] == 1000
        await client.send_raw(b"x" * 5000 + b"\n")
        assert (await client.call("sum", [2]))["result"] == 2


async def test_requests_over_the_rate_are_told_when_to_come_back(
    tmp_path: Path, parking: Parking
) -> None:
    now = SECOND
    limits = Limits(requests_per_second=2, requests_burst=2)
    async with serving(tmp_path, table(parking), limits=limits, clock=lambda: now) as served:
        client, other = await served.client(), await served.client()
        assert "result" in await client.call("sum", [1])
        assert "result" in await other.call("sum", [1])
        answer = await client.call("sum", [1])
        assert kind(answer) == "busy"
        assert answer["error"]["data"]["retry_after_ms"] == 500
        await client.send("nonsense")
        assert kind(await client.receive()) == "busy"
        now += SECOND // 2
        assert "result" in await client.call("sum", [1])


async def test_what_comes_in_one_read_is_charged_like_what_comes_singly(
    tmp_path: Path, parking: Parking
) -> None:
    limits = Limits(requests_per_second=1, requests_burst=5)
    async with serving(tmp_path, table(parking), limits=limits, clock=lambda: SECOND) as served:
        client = await served.client()
        request = {"jsonrpc": "2.0", "id": 1, "method": "sum"}
        await client.send(*[request] * 3)
        assert ["result" in await client.receive() for _ in range(3)] == [True] * 3
        await client.send(*[request] * 3)
        assert ["result" in await client.receive() for _ in range(3)] == [True, True, False]


async def test_reconnecting_does_not_bring_the_burst_back(tmp_path: Path, parking: Parking) -> None:
    limits = Limits(requests_per_second=1, requests_burst=1)
    async with serving(tmp_path, table(parking), limits=limits, clock=lambda: SECOND) as served:
        first = await served.client()
        assert "result" in await first.call("sum", [1])
        await first.aclose()
        await served.closed(1)
        assert kind(await (await served.client()).call("sum", [1])) == "busy"


async def test_requests_in_flight_are_bounded_per_connection(
    tmp_path: Path, parking: Parking
) -> None:
    limits = Limits(in_flight_per_connection=2)
    async with serving(tmp_path, table(parking), limits=limits) as served:
        client, other = await served.client(), await served.client()
        for n in range(2):
            await client.send({"jsonrpc": "2.0", "id": n, "method": "park"})
        answer = await client.call("park", id=9)
        assert (kind(answer), answer["error"]["data"]["limit"]) == (
            "busy",
            "in_flight_per_connection",
        )
        assert (await client.call("sum", [1]))["result"] == 1
        await other.send({"jsonrpc": "2.0", "id": 1, "method": "park"})
        await parking.wait_for(3)


async def test_requests_in_flight_are_bounded_per_uid_over_all_its_connections(
    tmp_path: Path, parking: Parking, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(in_flight_per_uid=1)
    async with serving(tmp_path, table(parking), limits=limits) as served:
        admin = await served.client()
        assert (await admin.call("sum", [1]))["result"] == 1
        monkeypatch.setattr(AccessPolicy, "role_of", lambda _self, _peer: "user")
        client, other = await served.client(), await served.client()
        await client.send({"jsonrpc": "2.0", "id": 1, "method": "park"})
        await parking.wait_for(1)
        assert (await other.call("park"))["error"]["data"]["limit"] == "in_flight_per_uid"
        await admin.send({"jsonrpc": "2.0", "id": 1, "method": "park"})
        await parking.wait_for(2)
        for parked in parking.waiting:
            parked.set_result("done")
        await client.receive()
        await admin.receive()
        await other.send({"jsonrpc": "2.0", "id": 1, "method": "park"})
        await parking.wait_for(3)


async def test_requests_in_flight_are_bounded_in_all(tmp_path: Path, parking: Parking) -> None:
    async with serving(tmp_path, table(parking), limits=Limits(in_flight=1)) as served:
        client, other = await served.client(), await served.client()
        await client.send({"jsonrpc": "2.0", "id": 1, "method": "park"})
        await parking.wait_for(1)
        assert (await other.call("park"))["error"]["data"]["limit"] == "in_flight"
        parking.waiting[0].set_result("done")
        await client.receive()
        await other.send({"jsonrpc": "2.0", "id": 1, "method": "park"})
        await parking.wait_for(2)


async def test_connections_are_bounded_and_one_over_is_told_so(
    tmp_path: Path, parking: Parking
) -> None:
    limits = Limits(connections=2, connections_reserved=0)
    async with serving(tmp_path, table(parking), limits=limits) as served:
        first, _second = await served.client(), await served.client()
        await first.call("sum", [1])
        third = await served.client()
        answer = await third.receive()
        assert (kind(answer), answer["id"]) == ("busy", None)
        assert await third.closed()
        assert served.server.is_full
        await first.aclose()
        await served.closed(1)
        assert (await (await served.client()).call("sum", [1]))["result"] == 1
        assert len(served.closed_connections) == 1, "one that was refused never was a connection"


async def test_admins_find_room_when_others_do_not(
    tmp_path: Path, parking: Parking, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(connections=3, connections_reserved=2)
    async with serving(tmp_path, table(parking), limits=limits) as served:
        monkeypatch.setattr(AccessPolicy, "role_of", lambda _self, _peer: "user")
        await (await served.client()).call("sum", [1])
        assert kind(await (await served.client()).receive()) == "busy"
        monkeypatch.undo()
        assert (await (await served.client()).call("sum", [1]))["result"] == 1


async def test_connections_are_bounded_per_uid_but_not_for_admins(
    tmp_path: Path, parking: Parking, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(connections_per_uid=1)
    async with serving(tmp_path, table(parking), limits=limits) as served:
        monkeypatch.setattr(AccessPolicy, "role_of", lambda _self, _peer: "user")
        await (await served.client()).call("sum", [1])
        answer = await (await served.client()).receive()
        assert answer["error"]["data"]["limit"] == "connections_per_uid"
        monkeypatch.undo()
        assert (await (await served.client()).call("sum", [1]))["result"] == 1


async def test_the_daemon_itself_is_outside_all_limits(tmp_path: Path, parking: Parking) -> None:
    limits = Limits(
        connections=1, connections_reserved=1, requests_per_second=1, requests_burst=1, in_flight=1
    )
    async with serving(tmp_path, table(parking), limits=limits, own_pid=os.getpid()) as served:
        for _ in range(3):
            client = await served.client()
            for _ in range(3):
                assert (await client.call("sum", [1]))["result"] == 1
        assert served.server.traffic.connections == 0


# --- clients that do not read, or only a little -------------------------------------------------


async def unread(client: Client, size: int, count: int) -> None:
    """Ask for much and read nothing. The socket's own buffers take about 200 KiB."""
    request = {"jsonrpc": "2.0", "id": 1, "method": "big", "params": [size]}
    await client.send(*[request] * count)


def transport_of(client: Client) -> asyncio.Transport:
    return cast("asyncio.Transport", client.writer.transport)


def slow_client(served: Served) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(str(served.path))
    sock.settimeout(0)
    return sock


async def test_a_client_that_does_not_read_is_read_no_further(
    tmp_path: Path, parking: Parking
) -> None:
    limits = Limits(write_high_water_bytes=64 * 1024)
    async with serving(tmp_path, table(parking), limits=limits) as served:
        client = await served.client()
        transport_of(client).pause_reading()
        await unread(client, 10_000, 1000)
        other = await served.client()
        await other.call("sum", [1])
        answered = served.server.traffic.requests - 1
        assert answered * 10_000 < 2_000_000
        transport_of(client).resume_reading()
        for _ in range(1000):
            assert len((await client.receive())["result"]) == 10_000


async def test_a_client_that_reads_nothing_for_long_is_closed_and_told_of(
    tmp_path: Path, parking: Parking
) -> None:
    limits = Limits(write_high_water_bytes=1024, stall_timeout_s=0.05)
    async with serving(tmp_path, table(parking), limits=limits) as served:
        with slow_client(served) as sock:
            sock.send(b'{"jsonrpc":"2.0","id":1,"method":"big","params":[5000000]}\n')
            await served.closed(1)
        told = [each for each in served.events.recent(9) if each.type == "connection.dropped"]
        assert len(told) == 1
        assert "read nothing" in told[0].message
        assert told[0].uid == os.getuid()
        assert told[0].correlation_id is None


async def test_a_client_that_reads_slowly_is_not_closed(tmp_path: Path, parking: Parking) -> None:
    limits = Limits(write_high_water_bytes=1024, stall_timeout_s=0.05)
    async with serving(tmp_path, table(parking), limits=limits) as served:
        loop = asyncio.get_running_loop()
        with slow_client(served) as sock:
            sock.send(b'{"jsonrpc":"2.0","id":1,"method":"big","params":[3000000]}\n')
            received = 0
            while received < 3_000_000:
                received += len(await loop.sock_recv(sock, 200_000))
                await asyncio.wait({loop.create_future()}, timeout=0.01)
        assert served.events.recent(9) == []


async def test_a_client_with_too_much_unread_is_closed(tmp_path: Path, parking: Parking) -> None:
    limits = Limits(write_high_water_bytes=1024, write_buffer_bytes=100_000)
    async with serving(tmp_path, table(parking), limits=limits) as served:
        with slow_client(served) as sock:
            for n in range(20):
                sock.send(b'{"jsonrpc":"2.0","id":%d,"method":"park"}\n' % n)
            await parking.wait_for(20)
            for future in parking.waiting:
                future.set_result("x" * 50_000)
            await served.closed(1)
        assert "unread" in served.events.recent(1)[0].message


@pytest.mark.parametrize("high_water", [1024, 1 << 30])
async def test_a_client_that_ends_and_never_reads_is_closed_too(
    tmp_path: Path, parking: Parking, high_water: int
) -> None:
    limits = Limits(write_high_water_bytes=high_water, stall_timeout_s=0.05)
    async with serving(tmp_path, table(parking), limits=limits) as served:
        with slow_client(served) as sock:
            sock.send(b'{"jsonrpc":"2.0","id":1,"method":"big","params":[5000000]}\n')
            sock.shutdown(socket.SHUT_WR)
            await served.closed(1)


async def test_a_byte_at_a_time_is_a_request_in_the_end(served: Served) -> None:
    client, other = await served.client(), await served.client()
    for byte in b'{"jsonrpc":"2.0","id":1,"method":"get_data"}\n':
        await client.send_raw(bytes([byte]))
        assert (await other.call("sum", [1]))["result"] == 1
    assert (await client.receive())["result"] == ["hello", 5]


# --- the end of a connection --------------------------------------------------------------------


async def test_a_disconnect_cancels_what_is_in_flight(served: Served, parking: Parking) -> None:
    client = await served.client()
    await client.send({"jsonrpc": "2.0", "id": 1, "method": "park"})
    await parking.wait_for(1)
    await client.aclose()
    await served.closed(1)
    assert parking.waiting[0].cancelled()
    assert served.server.traffic.in_flight == 0


async def test_who_stops_sending_still_gets_the_answers(served: Served, parking: Parking) -> None:
    client = await served.client()
    await client.send({"jsonrpc": "2.0", "id": 1, "method": "park"})
    await client.send_raw(b'{"jsonrpc":"2.0","id":2,"method":"get_data"}')
    client.writer.write_eof()
    assert (await client.receive())["id"] == 2
    parking.waiting[0].set_result("late")
    assert (await client.receive())["result"] == "late"
    assert await client.closed()


async def test_who_stops_sending_with_nothing_asked_is_closed(served: Served) -> None:
    client = await served.client()
    client.writer.write_eof()
    assert await client.closed()


async def test_who_stops_sending_and_then_goes_is_noticed(served: Served, parking: Parking) -> None:
    client = await served.client()
    await client.send({"jsonrpc": "2.0", "id": 1, "method": "park"})
    client.writer.write_eof()
    await parking.wait_for(1)
    await client.aclose()
    await served.closed(1)
    assert parking.waiting[0].cancelled()


async def test_many_requests_before_the_end_are_all_answered(served: Served) -> None:
    client = await served.client()
    await client.send(
        *({"jsonrpc": "2.0", "id": n, "method": "sum", "params": [n]} for n in range(1500))
    )
    client.writer.write_eof()
    for n in range(1500):
        assert (await client.receive())["result"] == n
    assert await client.closed()


# --- the end of the server ----------------------------------------------------------------------


async def test_closing_waits_for_what_is_in_flight_and_refuses_what_is_new(
    served: Served, parking: Parking
) -> None:
    client = await served.client()
    await client.send({"jsonrpc": "2.0", "id": "old", "method": "park"})
    await parking.wait_for(1)
    closing = asyncio.ensure_future(served.server.aclose())
    await asyncio.sleep(0)  # the task's first step, no time passes
    answer = await client.call("sum", [1])
    assert kind(answer) == "shutting_down"
    parking.waiting[0].set_result("finished")
    assert (await client.receive())["result"] == "finished"
    assert await client.closed()
    await closing
    assert not served.path.exists()


async def test_closing_waits_no_longer_than_its_bound(tmp_path: Path, parking: Parking) -> None:
    async with serving(tmp_path, table(parking), drain_s=0.02) as served:
        client = await served.client()
        await client.send({"jsonrpc": "2.0", "id": 1, "method": "park"})
        await parking.wait_for(1)
        await served.server.aclose()
        assert kind(await client.receive()) == "shutting_down"
        assert await client.closed()


async def test_closing_does_not_wait_for_a_client_that_never_reads(
    tmp_path: Path, parking: Parking
) -> None:
    async with serving(tmp_path, table(parking)) as served:
        with slow_client(served) as sock:
            sock.send(b'{"jsonrpc":"2.0","id":1,"method":"big","params":[5000000]}\n')
            await (await served.client()).call("sum", [1])
            await served.server.aclose()
            assert len(served.closed_connections) == 2
