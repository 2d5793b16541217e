"""A probe process as the daemon holds it, with a stand-in for the program on the other end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from supereziod.gpu.frames import Batch, FromProbe, Pass, ProbeSpec, encode
from supereziod.gpu.probe_process import ProbeHandle, ProbeProcess, launch_probe

WITHIN_S = 20.0
SPEC = ProbeSpec(driver="nvml")


class Log:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))


class Listening:
    """Keeps what a probe says and how it ends."""

    def __init__(self) -> None:
        self.frames: list[FromProbe] = []
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def probe_said(self, probe: ProbeHandle, frame: FromProbe) -> None:
        del probe
        self.frames.append(frame)

    def probe_ended(self, probe: ProbeHandle, how: str) -> None:
        del probe
        self.ended.set_result(how)


Start = Callable[[str], tuple[ProbeProcess, Listening, Log]]


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Starts a shell script in the probe's place; `$4` is its end of the socketpair."""
    started: list[ProbeProcess] = []

    def run(script: str) -> tuple[ProbeProcess, Listening, Log]:
        program = tmp_path / "probe"
        program.write_text(f"#!/bin/bash\nfd=$4\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        listening, log = Listening(), Log()
        probe = ProbeProcess(SPEC, listening, logger=log)
        started.append(probe)
        return probe, listening, log

    yield run
    for probe in started:
        probe.abandon()
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(probe.pid, signal.SIGKILL)
            os.waitpid(probe.pid, 0)


def open_files() -> int:
    """Count the descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def how_it_ended(listening: Listening) -> str:
    async with asyncio.timeout(WITHIN_S):
        return await listening.ended


async def test_what_a_probe_says_last_is_heard_before_its_end(start: Start) -> None:
    octal = "".join(f"\\{byte:03o}" for byte in encode(Batch()))
    _, listening, _ = start(f"printf '{octal}' >&$fd; exit 3")
    assert await how_it_ended(listening) == "exit code 3"
    assert listening.frames == [Batch()]


async def test_what_it_writes_goes_to_the_log_line_by_line(start: Start) -> None:
    probe, listening, log = start("echo one; echo two >&2; printf three")
    await how_it_ended(listening)
    assert [(e, f["line"], f["probe_pid"]) for e, f in log.lines] == [
        ("probe.said", line, probe.pid) for line in ("one", "two", "three")
    ]


async def test_one_that_speaks_another_language_is_let_go(start: Start) -> None:
    _, listening, log = start("printf '\\000\\000\\000\\001\\301' >&$fd; read -r -u $fd")
    await how_it_ended(listening)
    assert log.lines[0][0] == "probe.garbled"
    assert listening.frames == []


async def test_one_that_closes_its_end_is_not_heard_again(start: Start) -> None:
    probe, listening, _ = start("exec {fd}>&-; sleep 0.1")
    await how_it_ended(listening)
    probe.send(Pass(id=1, uuids=frozenset()))
    assert listening.frames == []


async def test_a_probe_that_does_not_read_stops_nobody(start: Start) -> None:
    probe, _, _ = start("sleep 60")
    for number in range(200_000):
        probe.send(Pass(id=number, uuids=frozenset()))
    os.kill(probe.pid, signal.SIGKILL)


async def test_the_end_of_a_killed_one_names_the_signal(start: Start) -> None:
    probe, listening, _ = start("sleep 60")
    os.kill(probe.pid, signal.SIGKILL)
    assert await how_it_ended(listening) == "signal 9"


async def test_one_that_was_abandoned_is_not_reported(start: Start) -> None:
    probe, listening, _ = start("read -r -u $fd")
    probe.abandon()
    probe.abandon()
    os.waitid(os.P_PID, probe.pid, os.WEXITED)
    assert not listening.ended.done()


async def test_a_program_that_cannot_be_started_is_an_oserror(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    before = open_files()
    with pytest.raises(FileNotFoundError):
        launch_probe(SPEC, Listening())
    assert open_files() == before
