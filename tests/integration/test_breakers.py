"""Breakers over the real socket: users as the kernel tells them, kill -9 of daemon and clients."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from live_daemon import LiveDaemon
from other_users import being
from superezio import wire
from superezio.client import Client
from superezio.errors import BreakerOpenError

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")
#: Users and groups by number, so that the host need not know them.
ANNA, BEN, CARL = 51001, 51002, 51003
USERS, AI = 52000, 52001
CONFIG = f"""
[access]
user_groups = ["{USERS}"]
[breaker.shared.openai]
groups = ["{AI}"]
minimum_calls = 5
open = "1m"
[breaker.shared.claude]
everyone = true
minimum_calls = 5
open = "1m"
"""
#: A client of its own: it asks for as many permits of a half-open breaker as there are, and stays.
HOLDER = """
import sys
from superezio import wire
from superezio.client import Client
client = Client(sys.argv[1])
for _ in range(2):
    print(client.breaker_acquire("mine").permit, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def daemon() -> Iterator[LiveDaemon]:
    """A daemon whose socket other users can reach."""
    with tempfile.TemporaryDirectory(prefix="superezio-breakers-") as name:
        Path(name).chmod(0o755)
        live = LiveDaemon(Path(name) / "d", config=CONFIG).start()
        yield live
        live.close()


class Connection:
    """One connection of a user."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lines = connection.makefile("rb")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the result, or the `error` object."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        reply: dict[str, Any] = json.loads(self._lines.readline())
        return reply["result"] if "result" in reply else {"error": reply["error"]}

    def call(self, outcome: str, name: str = "openai", **params: Any) -> None:
        """Make one call of the service, that ends like that."""
        permit = self.ask("breaker.acquire", name=name)["permit"]
        settled = self.ask("breaker.settle", name=name, permit=permit, outcome=outcome, **params)
        assert settled["effect"] == "settled"

    def refusal(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the `data` of the error that it has to be."""
        data: dict[str, Any] = self.ask(method, **params)["error"]["data"]
        return data


@contextmanager
def connected_as(daemon: LiveDaemon, uid: int, *groups: int) -> Iterator[Connection]:
    """Connect as a user, which the kernel notes; then be root again."""
    with socket.socket(socket.AF_UNIX) as connection:
        with being(uid, groups):
            connection.connect(str(daemon.socket_path))
        connection.settimeout(10)
        yield Connection(connection)


@ROOT_ONLY
def test_what_one_user_finds_out_another_knows_in_the_same_moment(daemon: LiveDaemon) -> None:
    with (
        connected_as(daemon, ANNA, USERS, AI) as anna,
        connected_as(daemon, BEN, USERS, AI) as ben,
        connected_as(daemon, CARL, USERS) as carl,
    ):
        ben.call("success")
        for _ in range(4):
            anna.call("failure")
        refused = ben.refusal("breaker.acquire", name="openai")
        assert (refused["kind"], refused["name"]) == ("breaker_open", "openai")
        assert refused["state"] == "open"
        assert 55_000 < refused["retry_after_ms"] <= 61_000
        assert refused["correlation_id"]
        # Not even one of them may decide over it, and a third one is told whom to ask.
        for user, name in ((anna, "its owner"), (carl, "a stranger")):
            for method in ("breaker.force_open", "breaker.reset", "breaker.disable"):
                kind = user.refusal(method, name="openai")["kind"]
                assert kind == "permission_denied", (name, method)
        for method, params in (
            ("breaker.acquire", {}),
            ("breaker.settle", {"permit": 1, "outcome": "failure"}),
            ("breaker.get", {}),
        ):
            stranger = carl.refusal(method, name="openai", **params)
            assert (stranger["kind"], stranger["groups"]) == ("permission_denied", [str(AI)])
        assert [each["name"] for each in carl.ask("breaker.list")["breakers"]] == ["claude"]
        with daemon.client() as root:
            assert root.breaker_reset("openai").state == "closed"
        ben.call("success")


@ROOT_ONLY
def test_a_name_that_is_not_shared_is_each_users_own(daemon: LiveDaemon) -> None:
    with (
        connected_as(daemon, ANNA, USERS, AI) as anna,
        connected_as(daemon, BEN, USERS, AI) as ben,
    ):
        rules = {"minimum_calls": 1}
        permit = anna.ask("breaker.acquire", name="mine", rules=rules)["permit"]
        ben.ask("breaker.acquire", name="mine", rules=rules)
        over_another = ben.ask("breaker.settle", name="mine", permit=permit, outcome="failure")
        assert over_another["effect"] == "unknown"
        assert anna.ask("breaker.get", name="mine")["permits"] == 1
        anna.ask("breaker.settle", name="mine", permit=permit, outcome="failure")
        assert anna.refusal("breaker.acquire", name="mine")["kind"] == "breaker_open"
        ben.call("success", "mine")
        denied = ben.refusal("breaker.reset", name="mine", uid=ANNA)
        assert denied["kind"] == "permission_denied"
        assert ben.ask("breaker.reset", name="mine")["uid"] == BEN
        assert anna.refusal("breaker.acquire", name="mine")["kind"] == "breaker_open"


@ROOT_ONLY
def test_a_reload_changes_rules_and_who_shares_and_loses_nothing(daemon: LiveDaemon) -> None:
    with connected_as(daemon, ANNA, USERS, AI) as anna, connected_as(daemon, CARL, USERS) as carl:
        for _ in range(3):
            anna.call("failure")
        changed = CONFIG.replace("minimum_calls = 5", "minimum_calls = 4", 1)
        changed = changed.replace(f'groups = ["{AI}"]', f'users = ["{CARL}", "{ANNA}"]')
        (daemon.directory / "superezio.toml").write_text(changed)
        with daemon.client() as root:
            applied = root.system_reload().applied
        assert applied == [
            "breaker.shared.openai.groups",
            "breaker.shared.openai.minimum_calls",
            "breaker.shared.openai.users",
        ]
        carl.call("success")
        assert anna.refusal("breaker.acquire", name="openai")["kind"] == "breaker_open"


def test_open_is_open_after_kill_nine_of_the_daemon(daemon: LiveDaemon) -> None:
    with daemon.client() as client:
        client.breaker_acquire("mine")
        for _ in range(5):
            permit = client.breaker_acquire("claude").permit
            client.breaker_settle("claude", permit, "failure")
        daemon.kill()
        daemon.start()
        with pytest.raises(BreakerOpenError) as caught:
            client.breaker_acquire("claude")
        assert caught.value.retry_after_ms is not None
        assert 30_000 < caught.value.retry_after_ms <= 61_000
        assert client.breaker_get("claude").failures == 5
        assert client.breaker_get("mine").permits == 0
        client.breaker_acquire("mine")


@pytest.mark.parametrize("order", ["force_open", "disable"])
def test_what_was_ordered_is_there_after_kill_nine(daemon: LiveDaemon, order: str) -> None:
    with daemon.client() as client:
        ordered = getattr(client, f"breaker_{order}")("mine")
        daemon.kill()
        daemon.start()
        assert client.breaker_get("mine").state == ordered.state


def test_what_was_told_last_is_there_after_a_stop(daemon: LiveDaemon) -> None:
    with daemon.client() as client:
        client.breaker_force_open("mine")
        assert daemon.stop() == 0
        daemon.start()
        assert client.breaker_get("mine").state == "forced_open"


def test_a_breaker_decides_though_the_client_with_its_permits_is_killed(
    daemon: LiveDaemon,
) -> None:
    with daemon.client() as client:
        _half_open(client)
        command = [sys.executable, "-c", HOLDER, str(daemon.socket_path)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout is not None
            permits = [int(holder.stdout.readline()) for _ in range(2)]
            assert client.breaker_get("mine").permits == 2
            with pytest.raises(BreakerOpenError) as caught:
                client.breaker_acquire("mine")
            assert caught.value.data["state"] == "half_open"
            holder.kill()
            holder.wait()
        again = [_acquire_again(client) for _ in range(2)]
        assert not set(again) & set(permits)
        for permit in again:
            client.breaker_settle("mine", permit, "success")
        assert client.breaker_get("mine").state == "closed"


def _half_open(client: Client) -> None:
    """Open a breaker for a moment; it waits long for those who are to decide."""
    rules = wire.BreakerRules(
        minimum_calls=1, open_s=0.001, half_open_calls=2, half_open_wait_s=100.0
    )
    permit = client.breaker_acquire("mine", rules=rules).permit
    client.breaker_settle("mine", permit, "failure")


def _acquire_again(client: Client) -> int:
    """Ask until the daemon has heard that the other connection ended."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return client.breaker_acquire("mine").permit
        except BreakerOpenError:
            assert time.monotonic() < deadline


def test_a_transition_is_told_to_subscribers_and_on_the_command_line(daemon: LiveDaemon) -> None:
    with daemon.client() as client:
        permit = client.breaker_acquire("claude").permit
        client.breaker_settle("claude", permit, "throttled", retry_after="90s")
    command = [sys.executable, "-m", "superezioctl", "--socket", str(daemon.socket_path)]
    shown = subprocess.run(
        [*command, "events", "--type", "breaker.", "--replay", "5", "--count", "1"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    assert "the breaker claude is open: its service asks for a pause" in shown
    shown = subprocess.run(
        [*command, "breaker", "list"], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    assert "claude" in shown
    assert "open" in shown
    daemon.await_log('"breaker.opened"')
