"""What clients leave unread, or undone, is bounded by user and in all (semantics 9: 20, 21)."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from supereziod.rpc.buffers import Buffers
from supereziod.rpc.intake import LEFT_UNDONE, SHORT_BYTES
from supereziod.rpc.limits import Limits
from supereziod.rpc.unread import LEFT_UNREAD
from unit.rpc.serving import Parking, Served, serving

ANN, BEN = 1000, 1001


class Deaf:
    """A connection with something to read."""

    def __init__(self) -> None:
        self.kept_bytes = 0
        self.why = ""

    def drop(self, why: str) -> None:
        self.why = why


class Clients:
    """Many of two users, over one account of what they leave: 160 bytes each, 240 in all."""

    def __init__(self) -> None:
        self.unread = Buffers(max_per_uid_bytes=160, max_bytes=240, left=LEFT_UNREAD)

    def leaves(self, uid: int, size: int, deaf: Deaf | None = None) -> Deaf:
        deaf = deaf or Deaf()
        deaf.kept_bytes = size
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
    quick.kept_bytes = 10
    clients.leaves(ANN, 90, slow)
    assert [quick.why, slow.why] == ["", ""]
    assert clients.unread.noted_bytes == 100


def test_what_grows_is_counted_once(clients: Clients) -> None:
    deaf = clients.leaves(ANN, 50)
    clients.leaves(ANN, 60, deaf)
    assert clients.unread.noted_bytes == 60
    assert not deaf.why


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
    return sum(each._unread.kept_bytes for each in served.server._connections)


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


# --- what has no end yet ------------------------------------------------------------------------


def test_of_a_user_with_too_much_that_does_not_end_the_longest_line_is_cut_off() -> None:
    unfinished = Buffers(max_per_uid_bytes=160, max_bytes=240, left=LEFT_UNDONE)
    parts = [Deaf(), Deaf(), Deaf()]
    for part, size in zip(parts, (90, 60, 80), strict=True):
        part.kept_bytes = size
        unfinished.note(part, ANN if part is not parts[2] else BEN, size)
    assert [part.why for part in parts] == ["", "", ""]
    parts[1].kept_bytes = 75
    unfinished.note(parts[1], ANN, 75)
    assert parts[0].why == f"uid 1000 {LEFT_UNDONE} over all its connections"
    parts[1].kept_bytes = parts[2].kept_bytes = 150
    unfinished.note(parts[1], ANN, 150)
    unfinished.note(parts[2], BEN, 150)
    assert (parts[1].why or parts[2].why).startswith(
        f"all clients together {LEFT_UNDONE}, and most"
    )


async def test_lines_that_do_not_end_are_bounded_over_all_connections_of_a_user(
    tmp_path: Path, deaf_sockets: list[socket.socket]
) -> None:
    limits = Limits(read_buffer_per_uid_bytes=1 << 20, connections_per_uid=100)
    async with serving(tmp_path, Parking().methods(), limits=limits) as served:
        loop = asyncio.get_running_loop()
        for each in deaf_sockets[:20]:
            await loop.sock_connect(each, str(served.path))
            await loop.sock_sendall(each, b"x" * 100_000)
        await served.closed(10)
        assert served.server.unfinished.noted_bytes == 1_000_000
        told = served.events.recent(1)[0]
        assert told.type == "connection.dropped"
        assert f"uid {os.getuid()} {LEFT_UNDONE}" in told.message


async def test_a_line_that_ends_or_whose_connection_ends_counts_no_more(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    parking = Parking()
    line = b'{"jsonrpc":"2.0","id":1,"method":"nothing","params":{"x":"' + b"x" * 100_000
    async with serving(tmp_path, parking.methods()) as served:
        unfinished = served.server.unfinished
        with socket.socket(socket.AF_UNIX) as sock:
            sock.setblocking(False)  # noqa: FBT003 - as the standard library has it
            await loop.sock_connect(sock, str(served.path))
            for end in (b'"}}\n', b'"}}\n', b""):
                await loop.sock_sendall(sock, line)
                while unfinished.noted_bytes < len(line):  # noqa: ASYNC110 - it is read, no more
                    await asyncio.sleep(0)
                if end:
                    await loop.sock_sendall(sock, end)
                    assert b"method_not_found" in await loop.sock_recv(sock, 65536)
                    assert unfinished.noted_bytes == 0
        await served.closed(1)
        assert unfinished.noted_bytes == 0


async def test_a_short_beginning_of_a_line_is_not_counted(tmp_path: Path) -> None:
    async with serving(tmp_path, Parking().methods()) as served:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.setblocking(False)  # noqa: FBT003 - as the standard library has it
            await loop.sock_connect(sock, str(served.path))
            asked = b'{"jsonrpc":"2.0","id":1,"method":"nothing"}\n'
            await loop.sock_sendall(sock, asked + b"x" * SHORT_BYTES)
            assert b"method_not_found" in await loop.sock_recv(sock, 65536)
            assert served.server.unfinished.noted_bytes == 0


async def test_requests_that_wait_are_bounded_over_all_connections_of_a_user(
    tmp_path: Path, deaf_sockets: list[socket.socket]
) -> None:
    limits = Limits(read_buffer_per_uid_bytes=1 << 20, connections_per_uid=100, requests_per_turn=1)
    asks = b'{"jsonrpc":"2.0","id":1,"method":"nothing"}\n' * 2500
    async with serving(tmp_path, Parking().methods(), limits=limits) as served:
        loop = asyncio.get_running_loop()
        for each in deaf_sockets[:20]:
            await loop.sock_connect(each, str(served.path))
            await loop.sock_sendall(each, asks)
        await served.closed(5)
        assert served.server.unfinished.noted_bytes <= 1 << 20
        assert f"uid {os.getuid()} {LEFT_UNDONE}" in served.events.recent(1)[0].message
        assert 0 < len(list(served.server._connections)) <= 15, "not all of them are closed"


async def test_requests_that_were_worked_off_count_no_more(tmp_path: Path) -> None:
    asks = b'{"jsonrpc":"2.0","id":1,"method":"nothing"}\n' * 300
    limits = Limits(requests_per_turn=10)
    async with serving(tmp_path, Parking().methods(), limits=limits) as served:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.setblocking(False)  # noqa: FBT003 - as the standard library has it
            await loop.sock_connect(sock, str(served.path))
            await loop.sock_sendall(sock, asks)
            answers, most = 0, 0
            while answers < 300:
                answers += (await loop.sock_recv(sock, 1 << 16)).count(b"\n")
                most = max(most, served.server.unfinished.noted_bytes)
            assert most == len(asks)
            await loop.sock_sendall(sock, asks[: len(asks) // 300])
            await loop.sock_recv(sock, 1 << 16)
            assert served.server.unfinished.noted_bytes == 0
