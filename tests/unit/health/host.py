"""A host to be judged: GPUs as values, a clock that the test turns, and systemd's end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from msgspec.structs import replace

from superezio.wire import Event, Health
from supereziod.gpu.hardware import (
    DriverInfo,
    Fault,
    GpuIdentity,
    GpuSample,
    GpuView,
    MigInstance,
    Snapshot,
)
from supereziod.health.checks import Observed, declared_checks
from supereziod.health.manager import HealthManager
from supereziod.health.notifier import Notifier
from supereziod.health.record import WatchdogRecord
from supereziod.health.self_check import SelfCheck
from supereziod.health.watchdog import Watchdog
from supereziod.observability.events import EventLog
from supereziod.storage import Database, Documents

SECOND = 1_000_000_000
NAMES = ("NVIDIA GeForce RTX 3060", "NVIDIA GeForce RTX 2060")
DRIVER = DriverInfo(driver="simulated", driver_version="1", cuda_version="13.0", gpu_count=2)
NO_DRIVER = Fault(kind="no_driver", message="the driver is not loaded")


def mig_view(whole: GpuView, index: int, **changes: Any) -> GpuView:
    """An instance that MIG has cut out of a GPU, as healthy as that is, but for the changes."""
    mig = MigInstance(
        parent=whole.uuid,
        index=index,
        gpu_instance=index + 1,
        compute_instance=0,
        profile="1g.10gb",
    )
    uuid = f"MIG-{whole.identity.index}-{index}"
    return replace(whole, identity=replace(whole.identity, uuid=uuid, mig=mig), **changes)


def gpu_view(index: int, *, temperature: int | None = 50, **changes: Any) -> GpuView:
    """A healthy GPU, but for the changes."""
    uuid = f"GPU-{index}"
    sample = GpuSample(
        uuid=uuid,
        taken_ns=0,
        vram_total_bytes=None,
        vram_used_bytes=None,
        vram_free_bytes=None,
        vram_driver_reserved_bytes=None,
        utilization_core_percent=None,
        utilization_memory_percent=None,
        temperature_c=temperature,
        margin_c=93 - temperature if temperature is not None else None,
        margin_source="threshold",
        power_w=None,
        throttle_mask=0,
    )
    identity = GpuIdentity(
        uuid=uuid,
        index=index,
        pci_bus_id=f"00000000:0{index}:00.0",
        name=NAMES[index % 2],
        compute_capability=None,
        vram_total_bytes=None,
        slowdown_temperature_c=93,
        shutdown_temperature_c=None,
        max_temperature_c=None,
        memory_max_temperature_c=None,
    )
    view = GpuView(
        identity=identity,
        status="ok",
        status_reason=None,
        sample=sample,
        last_pass=None,
        details=None,
        level="normal",
        fitness="healthy",
        cordoned=False,
        cordon_reason=None,
        block=None,
    )
    return replace(view, **changes)


class Clock:
    """Monotonic nanoseconds that pass when told to."""

    def __init__(self) -> None:
        self.now_ns = 1000 * SECOND

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)


class Metronome:
    """Stands in for asyncio.sleep: a sleeper goes on when the test says that its time is over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked: asyncio.Queue[float] = asyncio.Queue()
        self._over = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        self._asked.put_nowait(seconds)
        await self._over.acquire()

    async def resting(self) -> float:
        """Wait until the sleeper sleeps again; return for how long it means to."""
        seconds = await self._asked.get()
        self._asked.put_nowait(seconds)
        return seconds

    async def turn(self, *, late_s: float = 0.0) -> float:
        """Let the sleeper's time pass, and wait until it has done its work."""
        seconds = await self._asked.get()
        self._clock.advance(seconds + late_s)
        self._over.release()
        return await self.resting()


class Systemd:
    """The far end of NOTIFY_SOCKET: a datagram socket, as systemd has one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ = {"NOTIFY_SOCKET": str(path)}
        self._socket = self._bind()

    def _bind(self) -> socket.socket:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        end.bind(str(self.path))
        end.setblocking(False)  # noqa: FBT003 - the standard library's signature
        return end

    def messages(self) -> list[str]:
        """What has arrived since the last call, one entry a datagram."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(65536).decode())
            except BlockingIOError:
                return found

    def pings(self) -> int:
        return self.messages().count("WATCHDOG=1")

    def reexecute(self) -> None:
        """Come back with a new socket under the same name."""
        self.close()
        self._socket = self._bind()

    def close(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)


class Host:
    """Everything in health/ wired as the daemon wires it, round a snapshot that tests replace."""

    def __init__(self, directory: Path, *, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.snapshot = Snapshot(
            taken_ns=0,
            ready=True,
            attached=True,
            driver=DRIVER,
            driver_fault=None,
            gpus=(gpu_view(0), gpu_view(1)),
        )
        self.database = Database.open(directory / "state.db", schema=Documents.SCHEMA)
        self.documents = Documents(self.database)
        self.events = EventLog()
        self.told: list[Event] = []
        self.events.listen(self.told.append)
        self.record = WatchdogRecord(self.documents)
        self.leases = (0, 0)
        self.metronome = Metronome(self.clock)

    def observed(self, **looks: Any) -> Observed:
        return Observed(
            snapshot=lambda: self.snapshot,
            last_watchdog=lambda: self.record.last.of_earlier_run if self.record.last else None,
            **looks,
        )

    def health(self, **looks: Any) -> HealthManager:
        return HealthManager(
            checks=declared_checks(self.observed(**looks)),
            events=self.events,
            clock=self.clock,
            sleep=self.metronome.sleep,
        )

    def watchdog(
        self,
        notifier: Notifier,
        *,
        health: HealthManager | None = None,
        timeout_s: float | None = 30.0,
        on_overheat: Literal["restart", "report"] = "restart",
        call: Callable[[], Awaitable[object]] | None = None,
    ) -> Watchdog:
        return Watchdog(
            notifier=notifier,
            health=health if health is not None else self.health(),
            record=self.record,
            events=self.events,
            snapshot=lambda: self.snapshot,
            timeout_s=timeout_s,
            boot_id="boot-1",
            on_overheat=on_overheat,
            leases=lambda: self.leases,
            self_check=SelfCheck(call) if call is not None else None,
            clock=self.clock,
            now=lambda: datetime(2026, 11, 22, 12, 0, tzinfo=UTC),
            sleep=self.metronome.sleep,
        )

    def set_gpu(self, index: int, **changes: Any) -> None:
        gpus = list(self.snapshot.gpus)
        gpus[index] = gpu_view(index, **changes)
        self.snapshot = replace(self.snapshot, gpus=tuple(gpus))

    def overheat(self, index: int = 0) -> None:
        self.set_gpu(index, level="critical", temperature=95)

    def set(self, **changes: Any) -> None:
        self.snapshot = replace(self.snapshot, **changes)

    def types(self) -> list[str]:
        return [event.type for event in self.told]

    def close(self) -> None:
        self.database.close()


def codes(health: Health) -> list[str]:
    """The checks that are visible, with the GPU's number where there is one."""
    return [each.check + (each.gpu or "").replace("GPU-", ":") for each in health.reasons]
