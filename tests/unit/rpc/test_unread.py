"""What clients leave unread is bounded by user and in all (semantics 9, cases 20 and 21)."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from supereziod.rpc.limits import Limits
from supereziod.rpc.unread import Unread
from unit.rpc.serving import Parking, Served, serving

ANN, BEN = 1000, 1001


class Deaf:
    """A connection with something to read."""

    def __init__(self) -> None:
        self.unread_bytes = 0
        self.why = ""

    def drop(self, why: str) -> None:
        self.why = why


class Clients:
    """Many of two users, over one account of what they leave: 160 bytes each, 240 in all."""

    def __init__(self) -> None:
        self.unread = Unread(max_per_uid_bytes=160, max_bytes=240)

    def leaves(self, uid: int, size: int, deaf: Deaf | None = None) -> Deaf:
        deaf = deaf or Deaf()
        deaf.unread_bytes = size
        self.unread.note(deaf, uid, size)
        return deaf


@pytest.fixture
def clients() -> Clients:
    return Clients()


def test_of_a_user_with_too_much_unread_the_connection_with_most_is_closed(
    clients: Clients,
) -> None:
    small, large, other = (clients.leaves(ANN, size) for size in (40, 60, 60))
    ben = clients.leaves(BEN, 70)
    assert not large.why
    clients.leaves(ANN, 61, other)
    assert other.why == "uid 1000 left too many answers unread over all its connections"
    assert [small.why, large.why, ben.why] == ["", "", ""]
    assert clients.unread.noted_bytes == 170


def test_who_has_most_of_all_is_closed_where_all_together_have_too_much(clients: Clients) -> None:
    ben = [clients.leaves(BEN, 70)]
    ann = [clients.leaves(ANN, size) for size in (30, 50, 50)]
    ben.append(clients.leaves(BEN, 41))
    assert ann[1].why == (
        "all clients together left too many answers unread, and most of it is uid 1000's"
    )
    assert [each.why for each in (ann[0], ann[2], *ben)] == [""] * 4
    assert clients.unread.noted_bytes == 191


def test_what_has_been_read_since_counts_no_more(clients: Clients) -> None:
    quick, slow = clients.leaves(ANN, 100), clients.leaves(ANN, 50)
    quick.unread_bytes = 10
    clients.leaves(ANN, 90, slow)
    assert [quick.why, slow.why] == ["", ""]
    assert clients.unread.noted_bytes == 100


def test_who_takes_data_again_is_forgotten(clients: Clients) -> None:
    deaf = clients.leaves(ANN, 150)
    clients.unread.forget(deaf, ANN)
    clients.unread.forget(deaf, ANN)
    assert clients.unread.noted_bytes == 0
    assert not clients.leaves(ANN, 160).why


def test_a_sixteenth_is_free_after_some_were_closed(clients: Clients) -> None:
    many = [clients.leaves(ANN, 4) for _ in range(41)]
    assert clients.unread.noted_bytes == 148
    assert sum(bool(each.why) for each in many) == 4


def test_other_bounds_hold_from_the_next_note_on(clients: Clients) -> None:
    first = clients.leaves(ANN, 100)
    clients.unread.set_bounds(max_per_uid_bytes=100, max_bytes=1000)
    clients.leaves(ANN, 1)
    assert first.why


# --- real connections -----------------------------------------------------------------------------


@pytest.fixture
def deaf_sockets() -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        sockets = []
        for _ in range(40):
            each = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            each.settimeout(0)
            sockets.append(each)
        yield sockets


def _held(served: Served) -> int:
    return sum(each.unread_bytes for each in served.server._connections)


async def test_answers_that_many_connections_waited_for_are_bounded_together(
    tmp_path: Path, deaf_sockets: list[socket.socket]
) -> None:
    parking = Parking()
    limits = Limits(write_buffer_per_uid_bytes=4 << 20, connections_per_uid=100)
    async with serving(tmp_path, parking.methods(), limits=limits) as served:
        reads = await served.client()
        await reads.send({"jsonrpc": "2.0", "id": 1, "method": "park"})
        await parking.wait_for(1)
        for each in deaf_sockets:
            each.connect(str(served.path))
            each.send(b'{"jsonrpc":"2.0","id":1,"method":"park"}\n')
        await parking.wait_for(41)
        parking.waiting[0].set_result("x" * 1_000_000)
        assert len((await reads.receive())["result"]) == 1_000_000
        most = 0
        for future in parking.waiting[1:]:
            future.set_result("x" * 1_000_000)
            await asyncio.sleep(0)
            most = max(most, _held(served))
        await served.closed(30)
        await reads.send({"jsonrpc": "2.0", "id": 2, "method": "park"})
        await parking.wait_for(42)
        parking.waiting[-1].set_result("who reads is served")
        assert (await reads.receive())["result"] == "who reads is served"
        assert most < (4 << 20) + 2_000_000
        told = served.events.recent(1)[0]
        assert told.type == "connection.dropped"
        assert told.uid == os.getuid()
        assert f"uid {os.getuid()} left too many answers unread" in told.message


async def test_where_all_read_nothing_is_counted(tmp_path: Path) -> None:
    parking = Parking()
    async with serving(tmp_path, parking.methods()) as served:
        client = await served.client()
        for count in range(1, 4):
            await client.send({"jsonrpc": "2.0", "id": 1, "method": "park"})
            await parking.wait_for(count)
            parking.waiting[-1].set_result("x" * 2_000_000)
            assert len((await client.receive())["result"]) == 2_000_000
        assert served.server.unread.noted_bytes == 0
