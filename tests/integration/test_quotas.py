"""Quotas over the real socket: users and groups as the kernel tells them, a reload, a restart."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from live_daemon import LiveDaemon
from other_users import being
from plain_client import call_once

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")

GIB = 1 << 30
#: Users and groups by number, so that the host need not know them.
ANNA, BEN, STUDENTS = 51001, 51002, 52000
CONFIG = f"""
[access]
user_groups = ["{STUDENTS}"]
[leases.quota.default]
leases = 2
[leases.quota.user.{ANNA}]
vram = "6GiB"
[leases.quota.group.{STUDENTS}]
vram = "8GiB"
"""
SCENARIO = '[[gpu]]\nprofile = "RTX 3090"\n'


@pytest.fixture
def daemon() -> Iterator[LiveDaemon]:
    """A daemon whose socket other users can reach."""
    with tempfile.TemporaryDirectory(prefix="superezio-quotas-") as name:
        Path(name).chmod(0o755)
        daemon = LiveDaemon(Path(name) / "d", config=CONFIG, scenario=SCENARIO).start()
        yield daemon
        daemon.close()


@contextmanager
def connected_as(daemon: LiveDaemon, uid: int) -> Iterator[socket.socket]:
    """Connect as a user of the group, which the kernel notes; then be root again."""
    with socket.socket(socket.AF_UNIX) as connection:
        with being(uid, [STUDENTS]):
            connection.connect(str(daemon.socket_path))
        connection.settimeout(10)
        yield connection


def ask(connection: socket.socket, method: str, **params: Any) -> dict[str, Any]:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    connection.sendall(json.dumps(request).encode() + b"\n")
    reply: dict[str, Any] = json.loads(connection.makefile("rb").readline())
    return reply


def acquire(connection: socket.socket, gib: int) -> str:
    """Return the id of a new lease, or the kind of the error."""
    reply = ask(connection, "lease.acquire", vram_bytes=gib * GIB)
    answer: str = reply["result"]["id"] if "result" in reply else reply["error"]["data"]["kind"]
    return answer


def test_users_and_groups_are_held_to_their_quotas_as_the_kernel_knows_them(
    daemon: LiveDaemon,
) -> None:
    with connected_as(daemon, ANNA) as anna, connected_as(daemon, BEN) as ben:
        assert ask(anna, "system.info")["result"]["role"] == "user"
        mine = acquire(anna, 5)
        found = ask(anna, "lease.quota")["result"]
        assert not found["exempt"]
        own, shared = found["quotas"]
        assert (own["scope"], own["name"]) == ("user", str(ANNA))
        assert (own["vram_limit_bytes"], own["vram_used_bytes"]) == (6 * GIB, 5 * GIB)
        assert own["leases_used"] == 1
        assert (shared["scope"], shared["name"]) == ("group", str(STUDENTS))
        assert (shared["vram_limit_bytes"], shared["vram_used_bytes"]) == (8 * GIB, 5 * GIB)
        assert ask(ben, "lease.quota")["result"]["quotas"][1] == shared
        assert call_once(daemon.socket_path, "lease.quota")["exempt"]
        assert acquire(anna, 2) == "quota_exceeded"
        assert acquire(ben, 4) == "quota_exceeded"  # 3 of the 8 GiB of the group are left
        assert acquire(ben, 2) != "quota_exceeded"
        refused = ask(ben, "lease.acquire", vram_bytes=2 * GIB)["error"]
        assert refused["data"]["name"] == str(STUDENTS)
        assert f"the quota of group {STUDENTS} is 8.0 GiB" in refused["message"]
        explained = ask(ben, "placement.explain", vram_bytes=2 * GIB)["result"]
        assert (explained["decision"], explained["quota"]) == ("wait", explained["summary"])
        # Root administers, and is held to none.
        assert call_once(daemon.socket_path, "lease.acquire", vram_bytes=12 * GIB)["id"]
        assert ask(anna, "lease.release", lease=mine)["result"]["released"]


def test_quotas_change_with_a_reload_and_hold_over_kill_nine(daemon: LiveDaemon) -> None:
    with connected_as(daemon, ANNA) as anna:
        acquire(anna, 5)
        (daemon.directory / "superezio.toml").write_text(
            CONFIG.replace('vram = "6GiB"', 'vram = "7GiB"')
        )
        reloaded = call_once(daemon.socket_path, "system.reload")
        daemon.await_notification("READY=1")
        assert reloaded["applied"] == [f"leases.quota.user.{ANNA}.vram"]
        assert acquire(anna, 3) == "quota_exceeded"
        assert acquire(anna, 2) != "quota_exceeded"
    daemon.kill()
    daemon.start()
    with connected_as(daemon, ANNA) as anna, connected_as(daemon, BEN) as ben:
        assert acquire(anna, 1) == "quota_exceeded"
        assert acquire(ben, 2) == "quota_exceeded"
        assert acquire(ben, 1) != "quota_exceeded"
