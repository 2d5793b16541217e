"""Every block of docs/python.md is a program that runs, with a daemon on simulated GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_daemon import LiveDaemon
from markdown_blocks import blocks
from superezio.calls import LeaseOptions

pytestmark = pytest.mark.installed

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
BLOCKS = list(blocks(PAGE, "python"))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDaemon]:
    daemon = LiveDaemon(tmp_path_factory.mktemp("daemon"))
    daemon.start()
    yield daemon
    daemon.close()


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_runs_by_itself(daemon: LiveDaemon, number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKS[number]],
        env={**os.environ, "SUPEREZIO_SOCKET": str(daemon.socket_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout, "a reader who runs it sees something"


def test_the_blocks_leave_nothing_behind(daemon: LiveDaemon) -> None:
    with daemon.client() as client:
        found = client.lease_list()
    assert (found.leases, found.queue) == ([], [])


def test_every_option_of_a_lease_is_on_the_page() -> None:
    options = LeaseOptions.__optional_keys__ | LeaseOptions.__required_keys__
    assert {option for option in options if f"`{option}`" not in PAGE.read_text()} == set()
