"""The daemon's life as its service manager sees it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from superezio.errors import ConflictError
from supereziod.__main__ import EX_CONFIG
from supereziod.lifecycle import hangup_signals, on_hangup, stop_signals


class Reloads:
    """Stands for the reload: notes that it was asked, and fails as it is told."""

    def __init__(self, *failures: Exception | None) -> None:
        self.failures = list(failures)
        self.done = asyncio.Event()

    async def __call__(self) -> None:
        failure = self.failures.pop(0)
        if not self.failures:
            self.done.set()
        if failure is not None:
            raise failure


#: In a process of its own, as a thread of somebody else's would take the signal.
_WHILE_IT_STARTS = """\
import asyncio, os, signal
from supereziod import hangups
from supereziod.lifecycle import hangup_signals

async def serve():
    with hangup_signals() as asked:
        async with asyncio.timeout(5):
            await asked.wait()

hangups.hold()
os.kill(os.getpid(), signal.SIGHUP)
asyncio.run(serve())
print("was asked")
"""
_WHILE_IT_IS_REFUSED = """\
import os, signal, sys
from supereziod import hangups
from supereziod.__main__ import main

hangups.hold()
os.kill(os.getpid(), signal.SIGHUP)
sys.exit(main(["--check", "--json", "--config", "nowhere.toml"]))
"""
_WHILE_IT_ENDS = """\
import asyncio, os, signal, threading
from supereziod.lifecycle import hangup_signals

async def serve():
    with hangup_signals():
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    os.kill(os.getpid(), signal.SIGHUP)

asyncio.run(serve())
os.kill(os.getpid(), signal.SIGHUP)
print("lives")
"""


@pytest.fixture(autouse=True)
def signal_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_signal_that_comes_while_the_daemon_starts_waits_until_it_is_handled() -> None:
    assert _run(_WHILE_IT_STARTS) == (0, "was asked\n")


def test_a_signal_that_comes_while_a_bad_configuration_is_read_does_not_hide_it() -> None:
    code, said = _run(_WHILE_IT_IS_REFUSED)
    assert code == EX_CONFIG, "and not by a signal, which systemd takes for an end in order"
    assert "nowhere.toml" in said


def test_a_signal_that_comes_while_the_daemon_ends_is_not_its_end() -> None:
    assert _run(_WHILE_IT_ENDS) == (0, "lives\n")


def _run(script: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


async def test_a_signal_that_comes_before_anyone_reloads_is_not_lost_and_ends_nothing() -> None:
    with hangup_signals() as asked:
        os.kill(os.getpid(), signal.SIGHUP)
        reloads = Reloads(None)
        task = asyncio.create_task(on_hangup(asked, reloads))
        async with asyncio.timeout(5):
            await reloads.done.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_reload_that_fails_leaves_the_next_one_possible() -> None:
    with hangup_signals() as asked:
        reloads = Reloads(ConflictError("a bad file"), ValueError("a fault of our own"), None)
        task = asyncio.create_task(on_hangup(asked, reloads))
        async with asyncio.timeout(5):
            while not reloads.done.is_set():
                if not asked.is_set():
                    os.kill(os.getpid(), signal.SIGHUP)
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_sigterm_and_sigint_ask_for_the_end() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with stop_signals() as stopping:
            os.kill(os.getpid(), number)
            async with asyncio.timeout(5):
                await stopping.wait()
