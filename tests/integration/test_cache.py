"""The cache over the real socket: a crowd at a cold key, leaders that are killed, other users."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import cache_victim
from cache_callers import NAMESPACE
from live_daemon import LiveDaemon
from other_users import being
from plain_client import Json, call_once, plain_client

TESTS = Path(__file__).parent.parent
PROCESSES, CONNECTIONS, REQUESTS = 5, 10, 20
CALLERS = PROCESSES * CONNECTIONS * REQUESTS
WITHIN_S = 60.0
ANNA, BEN, CREW = 51001, 51002, 52000
CONFIG = f"""
[access]
user_groups = ["{CREW}"]
[cache.shared.common]
users = ["{ANNA}"]
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[LiveDaemon]:
    """A daemon whose socket other users can reach."""
    with tempfile.TemporaryDirectory(prefix="superezio-cache-") as name:
        Path(name).chmod(0o755)
        live = LiveDaemon(Path(name) / "d", config=CONFIG)
        try:
            yield live.start("--log-level", "debug")
        finally:
            live.close()


class Crowd:
    """A thousand callers in a few processes, over fifty connections."""

    def __init__(self, socket_path: Path, stack: ExitStack) -> None:
        command = [sys.executable, str(TESTS / "cache_callers.py"), str(socket_path)]
        self._processes = [
            stack.enter_context(_process([*command, str(CONNECTIONS), str(REQUESTS)]))
            for _ in range(PROCESSES)
        ]

    def ask(self, key: str, *, hold: bool = False) -> None:
        for each in self._processes:
            _say(each, json.dumps({"key": key, "hold": hold}))

    def may_fetch(self) -> None:
        for each in self._processes:
            _say(each, "go")

    def logs(self) -> tuple[list[tuple[str, str | None]], list[str]]:
        """Return what each caller was told, and what was fetched."""
        told: list[tuple[str, str | None]] = []
        fetched: list[str] = []
        for each in self._processes:
            log = json.loads(_hear(each))
            told += [(status, text) for status, text in log["told"]]
            fetched += log["fetched"]
        assert len(told) == CALLERS
        return told, fetched


@pytest.fixture(scope="module")
def crowd(daemon: LiveDaemon) -> Iterator[Crowd]:
    with ExitStack() as stack:
        yield Crowd(daemon.socket_path, stack)


@contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it ended"
    return line.strip()


def _victim(daemon: LiveDaemon, key: str, point: str, stack: ExitStack) -> subprocess.Popen[str]:
    """Start one that asks; it has asked when this returns."""
    script = str(TESTS / "cache_victim.py")
    command = [sys.executable, script, str(daemon.socket_path), key, point]
    victim = stack.enter_context(_process(command))
    assert _hear(victim) == "asked"
    _await(daemon, "fills", 1)
    return victim


def _kill_at(victim: subprocess.Popen[str], point: str) -> None:
    """Let one that leads come to its point, then SIGKILL it."""
    if point != "before it is told":
        assert _hear(victim) == "told"
    if point == "in the middle of the frame":
        _say(victim, "go")
        assert _hear(victim) == "sending"
    elif point == "after the frame":
        _say(victim, "go")
        assert _hear(victim) == "sent"
    victim.kill()
    victim.wait()


def _crowd_stats(daemon: LiveDaemon) -> Json:
    namespaces = call_once(daemon.socket_path, "cache.stats")["namespaces"]
    found: Json = next((each for each in namespaces if each["namespace"] == NAMESPACE), {})
    return found


def _await(daemon: LiveDaemon, what: str, count: int) -> None:
    deadline = time.monotonic() + WITHIN_S
    while (seen := _crowd_stats(daemon).get(what)) != count:
        assert time.monotonic() < deadline, f"{what}: {seen}, not {count}"


def _await_waiting(daemon: LiveDaemon, count: int) -> None:
    _await(daemon, "waiting", count)


def _led_by_one(told: list[tuple[str, str | None]], fetched: list[str]) -> None:
    """One was told to fetch, fetched once, and all others were given that."""
    assert len(fetched) == 1
    assert sorted(told, key=str) == sorted(
        [("lead", None)] + [("filled", fetched[0])] * (CALLERS - 1), key=str
    )


# --- a thousand callers of one cold key -----------------------------------------------------------


@pytest.mark.timeout(180)
def test_a_thousand_callers_of_a_cold_key_cause_one_fill(daemon: LiveDaemon, crowd: Crowd) -> None:
    crowd.ask("cold", hold=True)
    _await_waiting(daemon, CALLERS - 1)
    crowd.may_fetch()
    _led_by_one(*crowd.logs())


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "point", ["before it is told", "after it is told", "in the middle of the frame"]
)
def test_where_the_leader_is_killed_one_waiter_leads_and_all_others_get_the_value(
    daemon: LiveDaemon, crowd: Crowd, point: str
) -> None:
    with ExitStack() as stack:
        victim = _victim(daemon, point, point, stack)
        crowd.ask(point)
        _await_waiting(daemon, CALLERS)
        _kill_at(victim, point)
        _led_by_one(*crowd.logs())


@pytest.mark.timeout(180)
def test_a_leader_that_is_killed_after_it_has_sent_the_value_has_given_it_to_all(
    daemon: LiveDaemon, crowd: Crowd
) -> None:
    with ExitStack() as stack:
        victim = _victim(daemon, "sent", "after the frame", stack)
        crowd.ask("sent")
        _await_waiting(daemon, CALLERS)
        _kill_at(victim, "after the frame")
        told, fetched = crowd.logs()
    assert fetched == [], "nobody has to fetch it again"
    assert set(told) == {("filled", cache_victim.VALUE)}


@pytest.mark.timeout(180)
def test_leaders_that_are_killed_one_after_another_are_followed_each_by_one(
    daemon: LiveDaemon, crowd: Crowd
) -> None:
    """Those who take over die, too: at each point, and before they were even told."""
    points = [
        "after it is told",
        "before it is told",
        "in the middle of the frame",
        "before it is told",
        "after it is told",
    ]
    with ExitStack() as stack:
        victims = []
        for number, point in enumerate(points):
            victims.append(_victim(daemon, "chain", point, stack))
            _await_waiting(daemon, number)
        crowd.ask("chain")
        _await_waiting(daemon, len(points) - 1 + CALLERS)
        for number, (victim, point) in enumerate(zip(victims, points, strict=True), 1):
            _kill_at(victim, point)
            if number < len(points):
                _await_waiting(daemon, len(points) - 1 - number + CALLERS)
        _led_by_one(*crowd.logs())
    assert _crowd_stats(daemon)["fills"] == 0


# --- requests that are cancelled ------------------------------------------------------------------


async def test_a_request_past_its_deadline_or_cancelled_is_passed_over(daemon: LiveDaemon) -> None:
    async with (
        plain_client(daemon.socket_path) as leader,
        plain_client(daemon.socket_path) as other,
        plain_client(daemon.socket_path) as last,
    ):
        at: Json = {"namespace": "gone", "key": "k", "fill": True}
        assert (await leader.call("cache.get", **at))["status"] == "lead"
        late = other.send("cache.get", {"deadline_ms": 20}, **at)
        cancelled = other.send("cache.get", **at)
        waiting = last.send("cache.get", **at)
        with pytest.raises(Exception, match="within the deadline of 20 ms"):
            await late
        assert (await other.call("rpc.cancel", id=2))["done"]
        with pytest.raises(Exception, match=r"rpc\.cancel"):
            await cancelled
        await leader.close()
        assert (await waiting)["status"] == "lead"


async def test_a_message_of_a_leader_reaches_all_who_wait(daemon: LiveDaemon) -> None:
    async with (
        plain_client(daemon.socket_path) as leader,
        plain_client(daemon.socket_path) as other,
    ):
        at: Json = {"namespace": "failing", "key": "k"}
        token = (await leader.call("cache.get", **at, fill=True))["token"]
        waiting = [other.send("cache.get", **at, fill=True) for _ in range(20)]
        while (await leader.call("cache.stats"))["namespaces"][-1]["waiting"] < 20:
            pass
        assert (await leader.call("cache.fail", **at, token=token, error="HTTP 503"))["accepted"]
        for each in waiting:
            with pytest.raises(Exception, match="could not: HTTP 503") as failed:
                await each
            assert getattr(failed.value, "kind") == "fill_failed"  # noqa: B009 - of any error


def test_no_value_is_in_the_log(daemon: LiveDaemon) -> None:
    attempts: tuple[dict[str, Any], ...] = (
        {"text": "THE-VALUE"},
        {"text": "THE-VALUE", "data": "AAAA"},
        {"text": "THE-VALUE", "ttl_ms": "soon"},
        {"text": "THE-VALUE", "tags": 7},
        {"data": "THE-VALUE"},
    )
    for params in attempts:
        _call(daemon, "cache.set", namespace="secret", key="k", **params)
    _call(daemon, "cache.get", namespace="secret", key="k")
    _call(daemon, "cache.clear", namespace="secret")
    deadline = time.monotonic() + WITHIN_S
    while "cache.cleared" not in (log := daemon.log()):
        assert time.monotonic() < deadline
    assert "request.failed" in log, "at debug, where most is told"
    assert "THE-VALUE" not in log


def _call(daemon: LiveDaemon, method: str, **params: Any) -> Json:
    """Return the answer, be it an error."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(daemon.socket_path))
        return _ask(connection, method, **params)


def _ask(connection: socket.socket, method: str, **params: Any) -> Json:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    connection.sendall(json.dumps(request).encode() + b"\n")
    answer: Json = json.loads(connection.makefile("rb").readline())
    return answer


# --- other users ----------------------------------------------------------------------------------

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")


@contextmanager
def _connected_as(daemon: LiveDaemon, uid: int) -> Iterator[socket.socket]:
    """Connect as a user of the group, which the kernel notes; then be root again."""
    with socket.socket(socket.AF_UNIX) as connection:
        with being(uid, [CREW]):
            connection.connect(str(daemon.socket_path))
        connection.settimeout(10)
        yield connection


@needs_root
def test_a_user_cannot_read_or_disturb_anothers_cache(daemon: LiveDaemon) -> None:
    at = {"namespace": "mine", "key": "k"}
    with _connected_as(daemon, ANNA) as anna, _connected_as(daemon, BEN) as ben:
        assert _ask(anna, "cache.set", **at, text="anna's")["result"]["stored"]
        for name in ("mine", f"{ANNA}:mine"):
            asked = {"namespace": name, "key": "k"}
            assert _ask(ben, "cache.get", **asked)["result"]["status"] == "miss"
        assert _ask(ben, "cache.delete", **at)["result"]["entries"] == 0
        assert _ask(ben, "cache.clear", namespace="mine")["result"]["entries"] == 0
        refused = _ask(ben, "cache.clear", namespace="mine", uid=ANNA)["error"]
        assert refused["data"]["kind"] == "permission_denied"
        lead = _ask(ben, "cache.get", **at, fill=True)["result"]
        assert lead["status"] == "lead", "and not a waiter for what anna fetches"
        stolen = _ask(anna, "cache.set", **at, text="x", token=lead["token"])["result"]
        assert not stolen["accepted"]
        assert _ask(anna, "cache.get", **at)["result"]["text"] == "anna's"
        seen = {each["uid"] for each in _ask(ben, "cache.stats")["result"]["namespaces"]}
        assert seen == {BEN}


@needs_root
def test_who_shares_a_namespace_changes_with_a_reload(daemon: LiveDaemon) -> None:
    at = {"namespace": "common", "key": "k"}
    with _connected_as(daemon, ANNA) as anna, _connected_as(daemon, BEN) as ben:
        assert _ask(anna, "cache.set", **at, data="AAE=")["result"]["stored"]
        refused = _ask(ben, "cache.get", **at)["error"]
        assert refused["data"]["kind"] == "permission_denied"
        assert "cannot use the namespace common" in refused["message"]
        config = daemon.directory / "superezio.toml"
        config.write_text(f'{CONFIG}groups = ["{CREW}"]\nsize = "1MiB"\n')
        reloaded = call_once(daemon.socket_path, "system.reload")
        assert reloaded["applied"] == ["cache.shared.common.groups", "cache.shared.common.size"]
        found = _ask(ben, "cache.get", **at)["result"]
        assert (found["data"], found["shared"]) == ("AAE=", True)
        (told,) = (
            each
            for each in _ask(ben, "cache.stats")["result"]["namespaces"]
            if each["namespace"] == "common"
        )
        assert told["max_bytes"] == 1 << 20
        config.write_text(CONFIG.partition("[cache")[0])
        call_once(daemon.socket_path, "system.reload")
        assert _ask(anna, "cache.get", **at)["result"]["status"] == "miss", "now it is anna's own"


@needs_root
def test_more_than_there_is_cannot_be_guaranteed_by_a_reload(daemon: LiveDaemon) -> None:
    config = daemon.directory / "superezio.toml"
    before = config.read_text()
    config.write_text(
        '[cache]\nsize = "1GiB"\n[cache.shared.large]\nsize = "512MiB"\nguaranteed = "512MiB"\n'
    )
    answer = _call(daemon, "system.reload")["error"]
    assert answer["data"]["kind"] == "conflict"
    assert "until a restart" in answer["message"]
    config.write_text(before)
    assert call_once(daemon.socket_path, "system.reload")["applied"] == []
