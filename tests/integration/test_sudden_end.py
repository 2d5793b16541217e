"""A daemon that was killed is told of by the next one; one that was told to stop is not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ctl_runner import Ctl
from live_daemon import LiveDaemon

_CODE = "restarted_suddenly"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path / "daemon").start()
    yield live
    live.close()


def _told(daemon: LiveDaemon) -> list[dict[str, Any]]:
    """The records that some run ended suddenly, of all runs so far."""
    lines = daemon.await_log(f'"daemon_pid":{daemon.pid}').splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    return [each for each in records if each["event"] == "daemon.ended_suddenly"]


def _conditions(daemon: LiveDaemon) -> dict[str, Any]:
    with daemon.client() as client:
        health = client.health_get()
    assert health.verdict == "healthy"
    return {reason.check: reason for reason in health.reasons}


def test_a_kill_is_told_by_the_next_run_and_a_stop_is_not(
    daemon: LiveDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    with daemon.client() as client:
        lease = client.lease_acquire(vram="1GiB", mode="ttl", ttl="10m").id
    assert _CODE not in _conditions(daemon)
    killed = daemon.pid
    daemon.kill()
    daemon.start()
    (record,) = _told(daemon)
    assert record["level"] == "warning"
    assert record["previous_pid"] == killed
    condition = _conditions(daemon)[_CODE]
    assert condition.severity == "info"
    assert condition.message in record["message"]
    assert f"(pid {killed}, started " in condition.message
    with daemon.client() as client:
        assert client.lease_get(lease).id == lease, "leases stand, as it says"
    ctl = Ctl(capsys)
    for command in ("health", "status", "doctor"):
        ctl("--socket", str(daemon.socket_path), command)
        assert f"(pid {killed}," in ctl.out, command
    assert daemon.stop() == 0
    daemon.start()
    assert _CODE not in _conditions(daemon)
    assert len(_told(daemon)) == 1


def test_a_run_that_was_stopped_while_the_state_directory_took_nothing_is_not_told_of(
    daemon: LiveDaemon,
) -> None:
    with closing(sqlite3.connect(daemon.directory / "state/state.db")) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")  # as a disk that is full
        assert daemon.stop() == 0
    daemon.start()
    assert _CODE not in _conditions(daemon)
    assert _told(daemon) == []


def test_a_run_that_ended_with_its_boot_is_told_as_the_end_of_the_host(daemon: LiveDaemon) -> None:
    daemon.kill()
    with closing(sqlite3.connect(daemon.directory / "state/state.db")) as state, state:
        (body,) = state.execute("SELECT body FROM documents WHERE name = 'run'").fetchone()
        changed = json.dumps({**json.loads(body), "boot_id": "the boot before"}).encode()
        state.execute("UPDATE documents SET body = ? WHERE name = 'run'", (changed,))
    daemon.start()
    (record,) = _told(daemon)
    assert record["level"] == "info"
    assert record["message"].startswith("the host ended suddenly under the previous run")
    assert _conditions(daemon)[_CODE].message in record["message"]
