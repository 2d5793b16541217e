from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from supereziod.gpu.processes import (
    UNKNOWN_PROCESS,
    ProcessDescriber,
    container_of,
    unit_of,
)

ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("cgroup", "unit", "container"),
    [
        ("0::/\n", None, None),
        ("", None, None),
        ("garbage\n", None, None),
        ("0::/system.slice/ollama.service\n", "ollama.service", None),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope\n",
            "app-x.scope",
            None,
        ),
        ("0::/system.slice/ollama.service/worker\n", "ollama.service", None),
        (f"0::/system.slice/docker-{ID}.scope\n", f"docker-{ID}.scope", ID),
        (f"0::/machine.slice/libpod-{ID}.scope/container\n", f"libpod-{ID}.scope", ID),
        (f"0::/docker/{ID}\n", None, ID),
        (f"0::/kubepods/besteffort/podx/{ID}\n", None, ID),
        ("0::/machine.slice/machine-web.scope/payload\n", "machine-web.scope", "web"),
        ("0::/lxc.payload.box/system.slice/x.service\n", "x.service", "box"),
        ("0::/system.slice/not-a.services/y\n", None, None),
        (
            f"12:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/\n",
            None,
            ID,
        ),
    ],
)
def test_unit_and_container_are_read_from_the_cgroup(
    cgroup: str, unit: str | None, container: str | None
) -> None:
    assert (unit_of(cgroup), container_of(cgroup)) == (unit, container)


async def test_a_real_process_is_described() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()", "model.gguf"], stdin=subprocess.PIPE
    ) as child:
        known = (await ProcessDescriber().describe([child.pid]))[child.pid]
        child.communicate()
    assert known.uid == os.getuid()
    assert known.user == pwd.getpwuid(os.getuid()).pw_name
    assert (known.command or "").endswith("model.gguf")


async def test_a_process_that_ended_is_unknown() -> None:
    assert await ProcessDescriber().describe([2**22 + 1]) == {2**22 + 1: UNKNOWN_PROCESS}
    assert await ProcessDescriber().describe([]) == {}


def fake_process(proc: Path, pid: int, *, uid: int = 4711, cmdline: bytes = b"") -> None:
    directory = proc / str(pid)
    directory.mkdir()
    (directory / "status").write_text(f"Name:\tx\nUid:\t{uid}\t0\t0\t0\n")
    (directory / "cmdline").write_bytes(cmdline)
    (directory / "comm").write_text("kworker\n")
    (directory / "cgroup").write_text("0::/\n")


async def test_the_real_uid_counts_and_an_unknown_one_has_no_name(tmp_path: Path) -> None:
    fake_process(tmp_path, 1)
    known = (await ProcessDescriber(proc=tmp_path).describe([1]))[1]
    assert (known.uid, known.user, known.command) == (4711, None, "kworker")


async def test_names_are_asked_for_once(tmp_path: Path) -> None:
    asked: list[int] = []

    def user_name(uid: int) -> str:
        asked.append(uid)
        return "eve"

    fake_process(tmp_path, 1, cmdline=b"a\0b\0")
    fake_process(tmp_path, 2, cmdline=b"a" * 9999)
    describer = ProcessDescriber(proc=tmp_path, user_name=user_name)
    for _ in range(2):
        known = await describer.describe([1, 2, 2])
    assert asked == [4711]
    assert known[1].command == "a b"
    assert len(known[2].command or "") == 4096


async def test_a_process_that_hangs_its_reader_holds_up_nothing(tmp_path: Path) -> None:
    release = threading.Event()

    def user_name(uid: int) -> str:
        if uid == 13:
            release.wait(30)
        return str(uid)

    fake_process(tmp_path, 1, uid=12)
    fake_process(tmp_path, 2, uid=13)
    fake_process(tmp_path, 3, uid=12)
    describer = ProcessDescriber(proc=tmp_path, patience_s=0.05, max_threads=1, user_name=user_name)
    known = await describer.describe([1, 2, 3])
    assert known[1].user == "12"
    assert known[2] == known[3] == UNKNOWN_PROCESS
    assert await describer.describe([1]) == {1: UNKNOWN_PROCESS}, "no thread is free"
    release.set()
    async with asyncio.timeout(10):
        # When a thread ends is told to nobody outside.
        while (await describer.describe([1]))[1] == UNKNOWN_PROCESS:  # noqa: ASYNC110
            await asyncio.sleep(0)
