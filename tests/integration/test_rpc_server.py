"""The control plane over parts that are data, and clients that are other processes and users.

The server runs on the stock loop here, and on uvloop in the unit tests: it has to do on both.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from superezio.aio import AsyncClient
from superezio.errors import PermissionDeniedError
from supereziod.rpc.access import AccessPolicy
from supereziod.rpc.limits import Limits
from unit.rpc.built import Daemon, daemon

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users")
USERS_GID, ADMINS_GID = 6001, 6002
POLICY = AccessPolicy(
    own_uid=-1, user_gids=frozenset({USERS_GID}), admin_gids=frozenset({ADMINS_GID})
)
PATIENCE_S = 20.0

#: A pipe between standard streams and the socket, as another user.
RELAY = """
import os, select, socket, sys
uid, groups, path = sys.argv[1:]
os.setgroups([int(each) for each in groups.split(",") if each])
os.setresgid(int(uid), int(uid), int(uid))
os.setresuid(int(uid), int(uid), int(uid))
sock = socket.socket(socket.AF_UNIX)
sock.connect(path)
while True:
    for ready in select.select([sock, 0], [], [])[0]:
        data = sock.recv(65536) if ready is sock else os.read(0, 65536)
        if not data:
            sys.exit()
        if ready is sock:
            os.write(1, data)
        else:
            sock.sendall(data)
"""


class OtherUser:
    """A client that is a process of another user."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def connect(cls, path: Path, *, uid: int, groups: tuple[int, ...] = ()) -> Self:
        for directory in path.parents:
            if directory.stat().st_mode & 0o011 != 0o011:
                directory.chmod(directory.stat().st_mode | 0o011)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-ISc", RELAY, str(uid), ",".join(map(str, groups)), str(path)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def send(self, name: str, params: Any = None) -> None:
        request = {"jsonrpc": "2.0", "id": name, "method": name, "params": params or {}}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        await self.process.stdin.drain()

    async def receive(self) -> Any:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            return json.loads(await self.process.stdout.readline())

    async def call(self, name: str, params: Any = None) -> Any:
        await self.send(name, params)
        return await self.receive()

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


def kind(answer: Any) -> str:
    return str(answer["error"]["data"]["kind"])


@AS_ROOT
@pytest.mark.parametrize(
    ("uid", "groups", "role"),
    [
        (6100, (), "observer"),
        (6100, (USERS_GID,), "user"),
        (6100, (USERS_GID, ADMINS_GID), "admin"),
        (0, (), "admin"),
    ],
)
async def test_the_groups_of_a_real_peer_decide_its_role(
    tmp_path: Path, uid: int, groups: tuple[int, ...], role: str
) -> None:
    async with daemon(tmp_path, access=POLICY) as built:
        other = await OtherUser.connect(built.path, uid=uid, groups=groups)
        info = (await other.call("system.info"))["result"]
        acquired = await other.call("lease.acquire", {"vram_bytes": 1})
        cordoned = await other.call("gpu.cordon", {"gpu": "0"})
        await other.kill()
    assert (info["uid"], info["role"]) == (uid, role)
    assert ("result" in acquired) == (role != "observer")
    assert ("result" in cordoned) == (role == "admin")


@AS_ROOT
async def test_a_lease_is_asked_for_by_the_process_that_connected(tmp_path: Path) -> None:
    async with daemon(tmp_path, access=POLICY) as built:
        other = await OtherUser.connect(built.path, uid=6100, groups=(USERS_GID,))
        lease = (await other.call("lease.acquire", {"vram_bytes": 1}))["result"]
        ((_, caller, _),) = built.leases.calls
        if caller.pidfd is not None:
            described = Path(f"/proc/self/fdinfo/{caller.pidfd}").read_text()
            assert f"Pid:\t{other.process.pid}\n" in described
        await other.kill()
    assert (lease["uid"], caller.pid) == (6100, other.process.pid)


@AS_ROOT
async def test_personal_events_and_sessions_stay_with_their_uid(tmp_path: Path) -> None:
    async with daemon(tmp_path, access=POLICY) as built:
        owner = await OtherUser.connect(built.path, uid=6100)
        stranger = await OtherUser.connect(built.path, uid=6200)
        admin = await OtherUser.connect(built.path, uid=6300, groups=(ADMINS_GID,))
        everyone = (owner, stranger, admin)
        for each in everyone:
            await each.call("events.subscribe")
        token = (await owner.call("session.open"))["result"]["token"]
        assert kind(await stranger.call("session.open", {"token": token})) == "not_found"
        sessions = [(await each.call("session.list"))["result"]["sessions"] for each in everyone]
        built.events.emit("lease.granted", "yours", uid=6100)
        built.events.emit("gpu.level", "everyone's")
        first = [(await each.receive())["params"]["event"]["message"] for each in everyone]
        for each in everyone:
            await each.kill()
    assert first == ["yours", "everyone's", "yours"]
    assert [{each["uid"] for each in seen} for seen in sessions] == [
        {6100},
        {6200},
        {6100, 6200, 6300},
    ]


@AS_ROOT
async def test_a_user_who_fills_every_limit_leaves_the_others_served(tmp_path: Path) -> None:
    limits = Limits(connections_per_uid=2, requests_per_second=1, requests_burst=3)
    async with daemon(tmp_path, access=POLICY, limits=limits) as built:
        greedy = [await OtherUser.connect(built.path, uid=6100) for _ in range(2)]
        answers = [await greedy[n % 2].call("system.ping") for n in range(4)]
        assert ["error" in each for each in answers] == [False, False, False, True]
        assert answers[3]["error"]["data"]["retry_after_ms"] > 0
        one_more = await OtherUser.connect(built.path, uid=6100)
        assert kind(await one_more.receive()) == "busy"
        modest = await OtherUser.connect(built.path, uid=6200)
        assert "result" in await modest.call("system.ping")
        for each in (*greedy, one_more, modest):
            await each.kill()


@AS_ROOT
async def test_a_killed_client_is_gone_for_the_lease_manager(tmp_path: Path) -> None:
    async with daemon(tmp_path, access=POLICY) as built:
        other = await OtherUser.connect(built.path, uid=6100, groups=(USERS_GID,))
        await other.call("lease.acquire", {"vram_bytes": 1, "mode": "connection"})
        await other.kill()
        await eventually(lambda: bool(built.leases.closed))
        assert built.leases.closed == [built.leases.calls[0][1].connection]


async def test_the_published_client_is_served_and_refused(tmp_path: Path) -> None:
    async with daemon(tmp_path, role="observer") as built, AsyncClient(str(built.path)) as client:
        assert (await client.system_ping()).pid == os.getpid()
        assert len((await client.gpu_list()).gpus) == 2
        with pytest.raises(PermissionDeniedError, match="log in again"):
            await client.gpu_cordon("0", reason="dust")


async def test_a_thousand_connect_before_the_first_is_served(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        connecting = [asyncio.open_unix_connection(built.path) for _ in range(1000)]
        pairs = await asyncio.gather(*connecting)
        for number, (_, writer) in enumerate(pairs):
            writer.write(b'{"jsonrpc":"2.0","id":%d,"method":"system.ping"}\n' % number)
        for number, (reader, writer) in enumerate(pairs):
            assert json.loads(await reader.readline())["id"] == number
            writer.close()


async def test_no_frame_brings_it_down(tmp_path: Path) -> None:
    """Good requests with random damage: each is answered or closed, the next client is served."""
    chance = random.Random(20261122)
    good = [
        b'{"jsonrpc":"2.0","id":1,"method":"gpu.list","params":{}}',
        b'{"jsonrpc":"2.0","id":"a","method":"lease.acquire","params":{"vram_bytes":1}}',
        b'[{"jsonrpc":"2.0","id":1,"method":"system.ping"},{"jsonrpc":"2.0","method":"x"}]',
        b'{"jsonrpc":"2.0","id":1,"method":"system.ping","meta":{"deadline_ms":100}}',
        b'{"jsonrpc":"2.0","id":1,"method":"rpc.cancel","params":[1]}',
    ]
    async with daemon(tmp_path, limits=Limits(max_frame_bytes=2000)) as built:
        frames = [damaged(chance, chance.choice(good)) for _ in range(3000)]
        client = await built.client()
        reading = asyncio.ensure_future(drain(client.reader))
        for frame in frames:
            await client.send_raw(frame + b"\n")
        await client.send_raw(b'\n{"jsonrpc":"2.0","id":"last","method":"system.ping"}\n')
        assert await asyncio.wait_for(reading, PATIENCE_S) > 0
        assert await answers(built)


def damaged(chance: random.Random, frame: bytes) -> bytes:
    damage = bytearray(frame)
    for _ in range(chance.randrange(1, 6)):
        place = chance.randrange(len(damage))
        match chance.randrange(4):
            case 0:
                damage[place] = chance.randrange(256)
            case 1:
                del damage[place : place + chance.randrange(1, 9)]
            case 2:
                damage[place:place] = chance.randbytes(chance.randrange(1, 20))
            case _:
                damage[place:place] = damage[: chance.randrange(1, 2000)] * chance.randrange(1, 40)
        damage = damage or bytearray(b"{")
    return bytes(damage)


async def drain(reader: asyncio.StreamReader) -> int:
    """Read answers up to the one with id `last`; every line is a JSON-RPC answer."""
    count = 0
    while True:
        answer = json.loads(await reader.readline())
        for each in answer if isinstance(answer, list) else [answer]:
            assert each["jsonrpc"] == "2.0"
            assert ("result" in each) != ("error" in each)
            if each["id"] == "last":
                return count
        count += 1


async def answers(built: Daemon) -> bool:
    return "result" in await (await built.client()).call("system.ping")


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait for what no event tells of, because the fake behind the server only records."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)
