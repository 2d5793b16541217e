"""Plays an input against a daemon, and judges all that came of it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fuzz.books import check_books, check_nothing_is_held, held
from fuzz.host import Host, Loop, Wire
from fuzz.judge import WrongError, expected, judge
from fuzz.script import KINDS, Cut, End, Send, Speak, Step, Wait, fill_in, parse
from soak.virtual_time import VirtualClock

#: The most that an input may cost; libFuzzer's own limit counts waiting, too.
MOST_STEPS: Final = 60
#: Processor time: far above what any input of that many steps takes, instrumented, on a slow host.
MOST_CPU_S: Final = 10.0
#: Everything that waits has a deadline before that (see CONFIG).
_PATIENCE_S: Final = 8
#: Where that is memory, so that an input costs no disk.
_SCRATCH: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def play(data: bytes) -> None:
    """Play one input against a new daemon. Raises WrongError where it is not as it must be."""
    steps = parse(data)[:MOST_STEPS]
    directory = Path(tempfile.mkdtemp(prefix="superezio-fuzz-", dir=_SCRATCH))
    began_s = time.process_time()
    clock = VirtualClock()
    try:
        with asyncio.Runner(loop_factory=lambda: Loop(clock)) as runner:
            runner.run(_play(steps, directory, clock))
    finally:
        shutil.rmtree(directory)
    took_s = time.process_time() - began_s
    if took_s > MOST_CPU_S:
        raise WrongError(f"it took {took_s:.1f} s of a processor")


async def _play(steps: list[Step], directory: Path, clock: VirtualClock) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    host = Host(directory, clock, loop)
    loop.set_exception_handler(host.note)
    with host.as_the_kernel_has_it():
        await host.start()
        conversation = _Conversation(host)
        try:
            await conversation.play(steps)
        finally:
            conversation.close()
            await host.aclose()
            for process in list(host.processes.processes.values()):
                host.end(process)
        if host.faults:
            raise WrongError("\n".join(host.faults))


class _Conversation:
    """Who speaks, and what has been told so far."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._wires: dict[int, Wire] = {}
        self._past: list[Wire] = []
        self._known: dict[str, str] = {}
        self._cut = 0
        self._speaking = 1

    async def play(self, steps: list[Step]) -> None:
        for step in steps:
            await self._take(step)
            await self._settle()
            check_books(self._host)
        for wire in self._wires.values():
            wire.end()
        await self._pass_until(lambda: not self._host.server.traffic.in_flight)
        await self._settle()
        for wire in (*self._past, *self._wires.values()):
            self._judge(wire)
        for wire in self._wires.values():
            self._host.end(wire.process)
        self.close()
        await self._pass_until(lambda: not held(self._host))
        check_nothing_is_held(self._host)

    def close(self) -> None:
        """End all connections, however it went."""
        for wire in self._wires.values():
            wire.close()

    async def _take(self, step: Step) -> None:
        if isinstance(step, Speak):
            self._speaking = step.line
            if step.line not in self._wires:
                self._wires[step.line] = await self._host.connect(step.user)
        elif isinstance(step, Cut):
            self._cut = step.size
        elif isinstance(step, Wait):
            await self._pass(step.ms / 1000)
        elif isinstance(step, End):
            await self._end(step)
        else:
            await self._send(step)

    async def _send(self, step: Send) -> None:
        wire = await self._wire()
        if wire.ended:
            return
        text = fill_in(step.text, self._known)
        wire.sent.append(text)
        data = text + b"\n"
        size = max(self._cut, len(data) // 50, 1) if self._cut else len(data)
        for at in range(0, len(data), size):
            wire.send(data[at : at + size])
            await self._settle()
        if b'"lease.acquire"' in text or b'"placement.explain"' in text:
            # For the reading of the GPUs that they wait for.
            await self._pass(0.1)

    async def _end(self, step: End) -> None:
        wire = self._wires.get(self._speaking)
        if wire is None:
            return
        wire.end()
        if step.how == "close":
            wire.read()
            wire.left = True
            wire.close()
            del self._wires[self._speaking]
            self._past.append(wire)
            self._host.end(wire.process)

    async def _wire(self) -> Wire:
        if self._speaking not in self._wires:
            self._wires[self._speaking] = await self._host.connect("user")
        return self._wires[self._speaking]

    async def _pass(self, seconds: float) -> None:
        until_ns = self._host.clock.loop_ns + round(seconds * 1e9)
        while (left_ns := until_ns - self._host.clock.loop_ns) > 0:
            await asyncio.sleep(min(left_ns / 1e9, 1.0))
            self._read()

    async def _pass_until(self, done: Callable[[], bool]) -> None:
        for _ in range(_PATIENCE_S):
            await self._settle()
            if done():
                break
            await self._pass(1)

    async def _settle(self) -> None:
        """Let everything happen that can before time goes on."""
        for _ in range(8):
            await asyncio.sleep(0)
        self._read()

    def _read(self) -> None:
        for wire in self._wires.values():
            before = len(wire.received)
            wire.read()
            for line in wire.received[before:].split(b"\n"):
                self._learn(line)

    def _learn(self, line: bytes) -> None:
        try:
            result = json.loads(line).get("result")
        except (ValueError, AttributeError):
            return
        if not isinstance(result, dict):
            return
        if isinstance(result.get("queue"), list) and result["queue"]:
            self._known["waiter"] = json.dumps(result["queue"][-1]["id"])
        for kind, member in KINDS.items():
            value = result.get(member)
            if isinstance(value, str | int) and (kind != "lease" or "mode" in result):
                self._known[kind] = json.dumps(value)

    def _judge(self, wire: Wire) -> None:
        *lines, rest = wire.received.split(b"\n")
        if rest and not (wire.left or wire.is_over):
            raise WrongError(f"half a line: {rest[:2000]!r}")
        limits = self._host.config.limits
        wanted = expected(
            b"\n".join(wire.sent).split(b"\n"),
            frame_bytes=limits.max_frame_bytes,
            batch=limits.max_batch,
        )
        if wire.sent or lines:
            # One that is refused gets one line, and is not listened to.
            refused = len(lines) == 1 and b'"limit":"connections' in lines[0]
            if not refused:
                judge(wanted, lines, complete=not wire.left)
