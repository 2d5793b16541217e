"""Every probe that runs, those at work and those that were told to end and have not yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from msgspec.structs import replace

from supereziod.gpu.children import Child
from supereziod.gpu.frames import ProbeSpec, Target, ToProbe
from supereziod.gpu.probe_process import Launch, ProbeHandle, ProbeListener
from supereziod.observability.events import EventLog

_SECOND: Final = 1_000_000_000


class ProbePool:
    """Starts probes, ends them, and tells of those that cannot be ended.

    While `stuck_limit` probes are stuck no more are started: each could get stuck as well.
    """

    def __init__(
        self,
        *,
        launch: Launch,
        listener: ProbeListener,
        events: EventLog,
        clock: Callable[[], int],
        stuck_limit: int,
    ) -> None:
        self._launch = launch
        self._listener = listener
        self._events = events
        self._clock = clock
        self._stuck_limit = stuck_limit
        self._at_work: dict[int, Child] = {}
        self._leaving: dict[int, tuple[ProbeHandle, int]] = {}
        self._stuck: set[int] = set()
        self._one_left = asyncio.Event()

    def __iter__(self) -> Iterator[Child]:
        return iter(tuple(self._at_work.values()))

    @property
    def stuck_pids(self) -> tuple[int, ...]:
        """Probes that were told to end and do not."""
        return tuple(sorted(self._stuck))

    def find(self, probe: ProbeHandle) -> Child | None:
        """Return the child, if it is at work."""
        return self._at_work.get(id(probe))

    def spawn(self, spec: ProbeSpec) -> Child | None:
        """Start a probe; None where that cannot be."""
        if len(self._stuck) >= self._stuck_limit:
            return None
        now_ns = self._clock()
        try:
            handle = self._launch(replace(spec, since_ns=now_ns), self._listener)
        except OSError as error:
            self._events.emit(
                "probe.lost", f"A probe cannot be started: {error}.", severity="warning"
            )
            return None
        child = Child(handle, spec, now_ns=now_ns)
        self._at_work[id(handle)] = child
        return child

    def tell_started(self, child: Child) -> None:
        """Tell of a probe, once it has opened the driver: without one they come and go."""
        spec = child.spec
        self._events.emit(
            "probe.started",
            f"A probe was started with pid {child.handle.pid}.",
            probe_pid=child.handle.pid,
            skips=_names(spec.skip),
            only=_names([spec.only] if spec.only is not None else ()),
        )

    def retire(self, child: Child) -> None:
        """Tell a probe to end."""
        if self._at_work.pop(id(child.handle), None) is not None:
            self._leaving[id(child.handle)] = child.handle, self._clock()
            child.handle.retire()

    def forget(self, probe: ProbeHandle) -> Child | None:
        """Take in that a process is gone; return the child if it should not be."""
        self._leaving.pop(id(probe), None)
        self._stuck.discard(probe.pid)
        self._one_left.set()
        return self._at_work.pop(id(probe), None)

    def tell(self, frame: ToProbe) -> None:
        """Say something to every probe at work."""
        for child in self:
            child.handle.send(frame)

    def report_stuck(self, *, after_s: float) -> None:
        """Tell, once for each, of the probes that have not ended for so long."""
        now_ns = self._clock()
        for handle, since_ns in self._leaving.values():
            if handle.pid not in self._stuck and now_ns - since_ns >= after_s * _SECOND:
                self._stuck.add(handle.pid)
                self._events.emit(
                    "probe.stuck",
                    f"The probe with pid {handle.pid} was told to end and does not:"
                    " a call of the driver holds it.",
                    severity="warning",
                    probe_pid=handle.pid,
                )

    async def stop(self, *, within_s: float) -> None:
        """End all probes and wait for that, but not for those that cannot."""
        for child in self:
            self.retire(child)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while self._leaving:
            self._one_left.clear()
            try:
                # Not wait_for: before Python 3.12 it may swallow a cancellation.
                async with asyncio.timeout_at(deadline):
                    await self._one_left.wait()
            except TimeoutError:
                self.report_stuck(after_s=0.0)
                return

    def abandon(self) -> None:
        """Let go of the probes that do not end, before the loop closes."""
        for handle, _ in self._leaving.values():
            handle.abandon()
        self._leaving.clear()


def _names(targets: Iterable[Target]) -> list[str]:
    return [target.key for target in targets]
