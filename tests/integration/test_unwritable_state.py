"""What goes on while a file cannot be written, and what a life after it may believe."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from live_daemon import LiveDaemon
from plain_client import RefusedError, call_once

CONFIG = """
[limit.shared.daily]
everyone = true
[limit.shared.daily.host]
requests = "5/24h"
"""
MONEY = """
[limit.shared.paid]
everyone = true
[limit.shared.paid.host]
money_per_day = "1.00"
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path / "d", config=CONFIG).start()
    yield live
    live.close()


def _left(daemon: LiveDaemon) -> int:
    (budget,) = call_once(daemon.socket_path, "limit.peek", name="daily")["budgets"]
    return int(budget["available"])


def test_kill_nine_of_a_life_that_could_not_write_gives_no_fresh_burst(daemon: LiveDaemon) -> None:
    """Semantics 2."""
    assert _left(daemon) == 5
    assert daemon.stop() == 0
    daemon.start()
    assert _left(daemon) == 5, "what a life that ended in order said last is so"
    assert daemon.stop() == 0
    with closing(sqlite3.connect(daemon.directory / "state" / "state.db")) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")  # as a disk that is full: what is there can be read
        daemon.start()
        assert _left(daemon) == 0, "it cannot say that it was here"
        daemon.kill()
    daemon.start()
    assert _left(daemon) == 0, "it was here, and may have granted what there was"


def _conditions(daemon: LiveDaemon) -> set[str]:
    reasons = call_once(daemon.socket_path, "health.get")["reasons"]
    return {each["check"] for each in reasons if each["severity"] == "warning"}


def test_a_lease_needs_the_runtime_directory_and_money_the_state_directory(
    daemon: LiveDaemon,
) -> None:
    """Semantics 7: no new grants where they cannot be recorded, and existing leases stand."""
    daemon.configure(MONEY)
    assert daemon.stop() == 0
    wanted: dict[str, Any] = {"vram_bytes": 1 << 30, "mode": "ttl", "ttl_ms": 600_000}
    with closing(sqlite3.connect(daemon.directory / "state" / "state.db")) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")  # as above
        daemon.start()
        lease = call_once(daemon.socket_path, "lease.acquire", **wanted)["id"]
        assert _conditions(daemon) == {"state_not_kept"}
        with pytest.raises(RefusedError) as refused:
            call_once(daemon.socket_path, "limit.acquire", name="paid", money_micros=1)
        assert refused.value.kind == "state_not_writable"
        answer = call_once(daemon.socket_path, "gpu.cordon", gpu="1", reason="fan")
        assert (answer["done"], answer["recorded"]) == (True, False)
        daemon.kill()
        daemon.start()
        assert _leases(daemon) == [lease], "nothing of a lease is in the state directory"
        assert _cordoned(daemon) == [False, True], "it is kept in the runtime directory meanwhile"
        assert daemon.stop() == 0
    with closing(sqlite3.connect(daemon.runtime_dir / "leases.db")) as other:
        other.isolation_level = None
        daemon.start()
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RefusedError) as refused:
            call_once(daemon.socket_path, "lease.acquire", **wanted)
        assert refused.value.kind == "state_not_writable"
        assert _conditions(daemon) == {"state_not_writable"}
        call_once(daemon.socket_path, "limit.acquire", name="paid", money_micros=1)
        assert _leases(daemon) == [lease]
        assert _cordoned(daemon) == [False, True]


def _cordoned(daemon: LiveDaemon) -> list[bool]:
    return [each["cordoned"] for each in call_once(daemon.socket_path, "gpu.list")["gpus"]]


def _leases(daemon: LiveDaemon) -> list[str]:
    return [each["id"] for each in call_once(daemon.socket_path, "lease.list")["leases"]]
