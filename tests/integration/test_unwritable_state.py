"""A life that cannot write its state and is killed: the next gives no fresh burst (semantics 2)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from live_daemon import LiveDaemon
from plain_client import call_once

CONFIG = """
[limit.shared.daily]
everyone = true
[limit.shared.daily.host]
requests = "5/24h"
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
