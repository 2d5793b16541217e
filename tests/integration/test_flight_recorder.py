"""The flight recorder of a real daemon: one id through everything, and what a death leaves."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from live_daemon import LiveDaemon
from other_users import being
from plain_client import PlainClient, RefusedError, call_once, plain_client
from superezio.flight.reading import Entry, RingReader, latest
from superezio.flight.records import RequestNote

pytestmark = pytest.mark.installed

GIB = 1 << 30
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ANNA, BEN = 51001, 51002


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path / "daemon").start()
    yield live
    live.close()


def ring_of(daemon: LiveDaemon) -> Path:
    return daemon.directory / "state" / "flight.ring"


def ctl(daemon: LiveDaemon, *words: str) -> str:
    command = [sys.executable, "-m", "superezioctl", "--socket", str(daemon.socket_path), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_one_id_is_followed_through_journal_error_trace_and_lease(
    daemon: LiveDaemon,
) -> None:
    meta = {"correlation_id": "job-17", "traceparent": f"00-{TRACE}-{PARENT}-01"}
    async with plain_client(daemon.socket_path) as client:
        lease = await client.call("lease.acquire", meta, vram_bytes=5 * GIB, wait_ms=5000)
        with pytest.raises(RefusedError) as refusal:
            await client.call("lease.acquire", meta, vram_bytes=9000 * GIB)
        await client.call(
            "trace.annotate", {}, correlation_id="job-17", name="load the model",
            duration_ms=2.5, attributes={"file": "llama.gguf", "layers": 33},
        )  # fmt: skip
        trace = await client.call("trace.get", id="job-17")
        by_trace_id = await client.call("trace.get", id=TRACE)
    # the lease
    assert lease["correlation_id"] == "job-17"
    # the error
    assert refusal.value.error["data"]["correlation_id"] == "job-17"
    # the journal
    log = daemon.await_log('"lease.granted"')
    lines = [json.loads(line) for line in log.splitlines()]
    granted = next(line for line in lines if line["event"] == "lease.granted")
    assert (granted["correlation_id"], granted["lease"]) == ("job-17", lease["id"])
    assert granted["trace_id"] == TRACE
    # the trace
    first, second = trace["records"]
    assert (first["method"], first["outcome"], first["lease"]) == (
        "lease.acquire",
        "ok",
        lease["id"],
    )
    marked = [mark["name"] for mark in first["marks"]]
    assert marked[-2:] == ["granted", "reply"]
    afters = [mark["after_ms"] for mark in first["marks"]]
    assert 0 <= afters[0] <= afters[-1] <= first["duration_ms"]
    assert (first["trace_id"], first["parent_id"]) == (TRACE, PARENT)
    (gpu,) = first["gpus"]
    assert gpu["uuid"] == lease["gpus"][0]["uuid"] == first["gpu"]
    assert gpu["temperature_c"] > 0
    assert second["outcome"] == refusal.value.kind
    assert len(second["gpus"]) == 2, "a lease that failed is told with all GPUs"
    (span,) = trace["spans"]
    assert span["attributes"] == {"file": "llama.gguf", "layers": 33}
    assert by_trace_id["records"] == trace["records"]
    # people, and those without a daemon
    drawn = ctl(daemon, "trace", "job-17")
    for words in ("lease.acquire ok", "granted", "load the model", lease["id"], "llama.gguf"):
        assert words in drawn
    daemon.kill()
    left = json.loads(ctl(daemon, "--json", "trace", "--ring", str(ring_of(daemon)), "job-17"))
    assert left == trace


class Log:
    """What one client sent and got, in the order of its connection. The judge goes by it alone."""

    def __init__(self, number: int) -> None:
        self.first = f"first-{number}"
        self.sent: list[tuple[str, str | None]] = []
        self.answered: dict[int, str] = {}


async def ask_until_it_dies(
    daemon: LiveDaemon, log: Log, seed: int, answered: asyncio.Semaphore
) -> None:
    """Send one read of requests after the other, and note what was answered, until it is gone."""
    choice = random.Random(seed)
    reader, writer = await asyncio.open_unix_connection(str(daemon.socket_path), limit=1 << 22)
    try:
        while True:
            burst = []
            for _ in range(choice.choice((1, 1, 2, 7, 20))):
                number = len(log.sent) + 1
                method = choice.choice(("system.ping", "system.ping", "health.get", "lease.get"))
                name = log.first if number == 1 else None
                if name is None and choice.random() < 0.2:
                    name = f"{log.first}.{number}"
                request: dict[str, Any] = {"jsonrpc": "2.0", "id": number, "method": method}
                if method == "lease.get":
                    request["params"] = {"lease": "gone"}
                if name is not None:
                    request["meta"] = {"correlation_id": name}
                log.sent.append((method, name))
                burst.append(json.dumps(request).encode() + b"\n")
            writer.write(b"".join(burst))
            for _ in burst:
                line = await reader.readline()
                if not line.endswith(b"\n"):
                    return
                answer = json.loads(line)
                failed = answer.get("error", {}).get("data", {}).get("kind")
                log.answered[answer["id"]] = failed or "ok"
                answered.release()
    except ConnectionError:
        return
    finally:
        writer.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_kill_nine_in_the_middle_of_1000_requests_leaves_the_right_last_records(
    daemon: LiveDaemon, seed: int
) -> None:
    logs = [Log(number) for number in range(5)]
    answered = asyncio.Semaphore(0)
    clients = [
        asyncio.create_task(ask_until_it_dies(daemon, log, seed * 10 + number, answered))
        for number, log in enumerate(logs)
    ]
    for _ in range(1000 + random.Random(seed).randrange(200)):
        await answered.acquire()
    daemon.kill()
    await asyncio.gather(*clients)
    assert sum(len(log.sent) - len(log.answered) for log in logs) > 0, "nothing was under way"
    recorded = by_connection(ring_of(daemon))
    for log in logs:
        (connection,) = [
            each for each, notes in recorded.items() if notes[1].correlation_id == log.first
        ]
        notes = recorded[connection]
        for number, outcome in log.answered.items():
            method, name = log.sent[number - 1]
            note = notes[number]
            assert (note.method, note.outcome) == (method, outcome)
            assert note.correlation_id == (name or f"{connection}.{number}")
        assert max(notes) <= len(log.sent), "one was recorded that was never sent"
        assert sorted(notes) == list(range(1, max(notes) + 1))
    ring = str(ring_of(daemon))
    told = json.loads(ctl(daemon, "--json", "trace", "--all", "--ring", ring, "--last", "9"))
    newest = [each["correlation_id"] for each in told["requests"]]
    assert len(newest) == 9
    # Of each connection they are the last there are, answered or under way.
    last = {
        notes[number].correlation_id for notes in recorded.values() for number in sorted(notes)[-9:]
    }
    assert set(newest) <= last


def by_connection(ring: Path) -> dict[str, dict[int, RequestNote]]:
    """Each request in a ring, by its connection and number; those of these clients alone."""
    reader = RingReader.of(memoryview(ring.read_bytes()))
    entries: list[Entry] = []
    for full in (True, False):
        entries += [each for each in reader.newest_first(full=full) if each is not None]
    found: dict[str, dict[int, RequestNote]] = defaultdict(dict)
    for entry in latest(entries):
        if isinstance(entry.note, RequestNote):
            found[entry.note.connection][entry.note.number] = entry.note
    return {connection: notes for connection, notes in found.items() if 1 in notes}


async def queued(client: PlainClient) -> dict[str, Any]:
    event: dict[str, Any] = (await client.notifications.get())["params"]["event"]
    return event


async def of_leases(client: PlainClient, **params: Any) -> list[dict[str, Any]]:
    found = (await client.call("trace.find", **params))["requests"]
    return [each for each in found if each["method"] == "lease.acquire"]


async def test_what_was_recorded_before_a_death_is_found_in_the_next_life(
    daemon: LiveDaemon,
) -> None:
    async with plain_client(daemon.socket_path) as client:
        await client.call("events.subscribe", types=["lease.queued"])
        await client.call(
            "lease.acquire", {"correlation_id": "a"}, vram_bytes=11 * GIB, wait_ms=20_000
        )
        waiting = client.send(
            "lease.acquire", {"correlation_id": "b"}, vram_bytes=11 * GIB, wait_ms=60_000
        )
        while (await queued(client))["data"]["wait_ms"] != 60_000:
            pass
        assert await of_leases(client, failed=True) == [], "one that waits has not failed"
        daemon.kill()
        with pytest.raises(ConnectionError):
            await waiting
    await asyncio.to_thread(daemon.start)
    async with plain_client(daemon.socket_path) as client:
        (cut_off,) = await of_leases(client, failed=True)
        assert (cut_off["correlation_id"], cut_off["outcome"]) == ("b", "in_flight")
        (record,) = (await client.call("trace.get", id="a"))["records"]
        assert record["outcome"] == "ok"
        slow = await of_leases(client, slow_ms=0)
        assert {each["correlation_id"] for each in slow} == {"a", "b"}
        assert (await client.call("health.get"))["verdict"] in {"healthy", "degraded"}
    assert "b" in ctl(daemon, "trace", "--failed", "--method", "lease.")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")
def test_a_user_sees_its_own_records_and_an_admin_all() -> None:
    with tempfile.TemporaryDirectory(prefix="superezio-records-") as name:
        Path(name).chmod(0o755)
        daemon = LiveDaemon(Path(name) / "d").start()
        try:
            with connected_as(daemon, ANNA) as anna, connected_as(daemon, BEN) as ben:
                assert ask(anna, "system.ping", correlation_id="annas")
                assert ask(anna, "lease.get", correlation_id="annas", lease="x") is None
                assert ask(anna, "trace.annotate", correlation_id="annas", name="a secret")["done"]
                assert ask(anna, "system.ping")
                found = ask(anna, "trace.get", id="annas")
                assert [each["method"] for each in found["records"]] == [
                    "system.ping",
                    "lease.get",
                ]
                assert [each["name"] for each in found["spans"]] == ["a secret"]
                hidden = ask(ben, "trace.get", id="annas")
                assert (hidden["records"], hidden["spans"]) == ([], [])
                assert {each["uid"] for each in ask(ben, "trace.find")["requests"]} <= {BEN}
                connection = found["records"][0]["connection"]
                numbered = f"{connection}.4"
                assert ask(ben, "trace.get", id=numbered)["records"] == []
                (own,) = ask(anna, "trace.get", id=numbered)["records"]
                assert own["method"] == "system.ping"
                # What one says of another's id is one's own.
                assert ask(ben, "trace.annotate", correlation_id="annas", name="forged")["done"]
                assert len(ask(anna, "trace.get", id="annas")["spans"]) == 1
            admin = call_once(daemon.socket_path, "trace.get", id="annas")
            assert {each["uid"] for each in admin["records"]} == {ANNA}
            assert {each["uid"] for each in admin["spans"]} == {ANNA, BEN}
            assert ring_of(daemon).stat().st_mode & 0o077 == 0
        finally:
            daemon.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")
def test_what_others_did_survives_a_users_flood_and_the_daemon() -> None:
    """An admin's act and a failed lease: as they were, with the GPUs; read after a kill, too."""
    config = f'[recorder]\nsize = "256KiB"\n[access]\nusers = ["{ANNA}", "{BEN}"]\n'
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        daemon = LiveDaemon(Path(directory) / "daemon", config=config).start()
        try:
            with connected_as(daemon, ANNA) as anna:
                assert ask(anna, "lease.acquire", vram_bytes=9000 * GIB) is None
            call_once(daemon.socket_path, "gpu.cordon", gpu="0")
            with connected_as(daemon, BEN) as ben:
                for _ in range(3000):
                    assert ask(ben, "lease.get", correlation_id="x" * 64, lease="y") is None
            daemon.kill()
            ring = str(ring_of(daemon))
            found = json.loads(
                ctl(daemon, "--json", "trace", "--all", "--ring", ring, "--last", "10000")
            )["requests"]
        finally:
            daemon.close()
    (failed,) = [each for each in found if each["uid"] == ANNA]
    assert (failed["method"], failed["outcome"]) == ("lease.acquire", "never_fits")
    assert [each["outcome"] for each in found if each["method"] == "gpu.cordon"] == ["ok"]
    of_ben = [each for each in found if each["uid"] == BEN]
    assert {(each["method"], each["outcome"]) for each in of_ben} == {("lease.get", "stale_lease")}
    assert len(of_ben) > 1000, "the flood is told, in short"


@contextmanager
def connected_as(daemon: LiveDaemon, uid: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        with being(uid):
            connection.connect(str(daemon.socket_path))
        connection.settimeout(10)
        yield connection


def ask(connection: socket.socket, method: str, **params: Any) -> Any:
    """Return the result, or None for an error. An id goes into meta, unless it is a parameter."""
    request: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method}
    if method != "trace.annotate" and "correlation_id" in params:
        request["meta"] = {"correlation_id": params.pop("correlation_id")}
    if params:
        request["params"] = params
    connection.sendall(json.dumps(request).encode() + b"\n")
    return json.loads(connection.makefile("rb").readline()).get("result")


def test_a_state_directory_without_room_for_it_degrades_the_health_and_nothing_else(
    tmp_path: Path,
) -> None:
    daemon = LiveDaemon(tmp_path / "daemon")
    ring_of(daemon).parent.mkdir(parents=True)
    (tmp_path / "elsewhere").write_bytes(b"")
    ring_of(daemon).symlink_to(tmp_path / "elsewhere")
    daemon.start()
    try:
        health = call_once(daemon.socket_path, "health.get")
        (reason,) = [each for each in health["reasons"] if each["check"] == "flight_recorder"]
        assert str(ring_of(daemon)) in reason["message"]
        assert health["verdict"] == "degraded"
        found = call_once(daemon.socket_path, "trace.find")["requests"]
        assert "health.get" in [each["method"] for each in found], "it records in memory"
    finally:
        daemon.close()
