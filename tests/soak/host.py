"""A host as it truly is: its processes, and what each of them has of which GPU."""

from __future__ import annotations

import errno
import os
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Final

from soak.virtual_time import VirtualClock
from superezio.errors import BusyError
from superezio.wire import Level
from supereziod.gpu.hardware import Block
from supereziod.leases.processes import Identity, Origin

GIB: Final = 1 << 30
MIB: Final = 1 << 20
#: Few, so that they come round again soon.
_PIDS: Final = range(300, 2300)


class Process:
    """A process. `fd` becomes readable when it ends, as a pidfd does.

    `parent` is who started it, ended or not. `known_of` is the attached process that it was seen to
    descend from. `cut`: nobody can tell any more whose it is.
    """

    def __init__(self, *, pid: int, uid: int, parent: Process | None, ticks: int) -> None:
        self.pid = pid
        self.uid = uid
        self.parent = parent
        self.children: list[Process] = []
        self.identity = Identity(pid, ticks)
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.ended = False
        self.cut = False
        self.known_of: Process | None = None
        #: That, as far as it is on disk.
        self.saved_of: Process | None = None
        self.on_end: list[Callable[[], None]] = []

    def family(self) -> Iterator[Process]:
        """Iterate over it and all that descend from it, ended ones too."""
        yield self
        for child in self.children:
            yield from child.family()

    def __repr__(self) -> str:
        return f"pid {self.pid}"


class Gpu:
    """A GPU: `uses` is what each process has; `lingering` what ended ones have not given back."""

    def __init__(self, uuid: str, *, index: int, name: str, total: int, reserved: int) -> None:
        self.uuid = uuid
        self.index = index
        self.name = name
        self.total_bytes = total
        self.driver_reserved_bytes = reserved
        self.uses: dict[Process, int] = {}
        self.lingering: dict[Process, int] = {}
        self.level: Level = "normal"
        self.block: Block | None = None
        self.hidden = False
        self.hung = False
        self.latency_s = 0.002

    @property
    def used_bytes(self) -> int:
        """What is in use in all, besides the driver's reserve."""
        return sum(self.uses.values()) + sum(self.lingering.values())

    @property
    def room_bytes(self) -> int:
        """What can be allocated: the physical truth."""
        return self.total_bytes - self.driver_reserved_bytes - self.used_bytes


class Host:
    """Processes and GPUs, and the faults they are in. It is also what /proc says of them."""

    def __init__(self, *, seed: int, clock: VirtualClock, later: Later) -> None:
        self.random = random.Random(f"host {seed}")
        self.clock = clock
        self.gpus = {
            gpu.uuid: gpu
            for gpu in (
                Gpu("GPU-a", index=0, name="RTX 3090", total=24 * GIB, reserved=400 * MIB),
                Gpu("GPU-b", index=1, name="RTX 3060", total=12 * GIB, reserved=250 * MIB),
                Gpu("GPU-c", index=2, name="RTX 3060", total=12 * GIB, reserved=250 * MIB),
                Gpu("GPU-d", index=3, name="RTX 2060", total=6 * GIB, reserved=200 * MIB),
            )
        }
        self.boot = 1
        self.processes: dict[int, Process] = {}
        self.out_of_files = False
        #: When the host last woke (CLOCK_MONOTONIC).
        self.woke_ns = 0
        self.counts: Counter[str] = Counter()
        self.trace: deque[str] = deque(maxlen=400)
        #: Which attached process a process belongs to.
        self.owner_of: Callable[[Process], Process | None] = lambda _: None
        self._later = later
        self._next_pid = 0

    def note(self, what: str) -> None:
        """Keep a line of what happened, for whoever has to explain a failure."""
        self.trace.append(f"{self.clock.loop_ns / 1e9:14.6f} {what}")

    # --- what happens ---------------------------------------------------------------------------

    def spawn(self, uid: int, parent: Process | None = None) -> Process:
        """Start a process."""
        while True:
            pid = _PIDS[self._next_pid % len(_PIDS)]
            self._next_pid += 1
            if pid not in self.processes:
                break
        ticks = self.clock.now_ns // 10_000_000
        process = Process(pid=pid, uid=uid, parent=parent, ticks=ticks)
        if parent is not None:
            parent.children.append(process)
        self.processes[pid] = process
        return process

    def allocate(self, process: Process, gpu: Gpu, size: int) -> None:
        """Let the process have so much of a GPU, as far as there is room."""
        if process.ended or (gpu.block is not None and gpu.block.code == "lost"):
            return
        has = gpu.uses.pop(process, 0)
        got = min(size, has + max(0, gpu.room_bytes - has))
        if got > 0:
            gpu.uses[process] = got
        self.note(f"{process} has {got / GIB:.2f} GiB on {gpu.uuid}")

    def end(self, process: Process, why: str) -> None:
        """End a process, and let go of all it had; the driver may take its time."""
        if process.ended:
            return
        self.note(f"{process} ends: {why}")
        for child in process.children:
            owner = self.owner_of(child)
            # Who was not seen before is nobody's from now on.
            child.cut = child.cut or owner is None or child.known_of is not owner
        process.ended = True
        del self.processes[process.pid]
        os.eventfd_write(process.fd, 1)
        os.close(process.fd)
        for gpu in self.gpus.values():
            size = gpu.uses.pop(process, 0)
            if size:
                self._linger(gpu, process, size)
        for call in process.on_end:
            call()

    def reboot(self) -> None:
        """Begin another boot: no process and no use is left."""
        for process in list(self.processes.values()):
            self.end(process, "reboot")
        for gpu in self.gpus.values():
            gpu.lingering.clear()
        self.boot += 1
        self.woke_ns = 0
        self.clock.reboot()

    def _linger(self, gpu: Gpu, process: Process, size: int) -> None:
        delay_s = self.random.choice((0.0, 0.0, 0.1, 0.7, 2.0, 4.5, 9.0))
        if not delay_s:
            return
        gpu.lingering[process] = size
        self._later(delay_s, lambda: gpu.lingering.pop(process, None))

    # --- what /proc says (a ProcessTable) -------------------------------------------------------

    def origin(self, pid: int) -> Origin | None:
        self._check_files()
        process = self.processes.get(pid)
        if process is None:
            return None
        process.known_of = self.owner_of(process)
        parent = process.parent
        return Origin(process.identity, 1 if parent is None or parent.ended else parent.pid)

    def is_alive(self, identity: Identity) -> bool:
        self._check_files()
        process = self.processes.get(identity.pid)
        return process is not None and process.identity == identity

    def uids(self, pid: int) -> tuple[int, int] | None:
        self._check_files()
        process = self.processes.get(pid)
        return None if process is None else (process.uid, process.uid)

    def command(self, pid: int) -> str | None:
        process = self.processes.get(pid)
        return None if process is None or self.out_of_files else f"program-{process.uid}"

    def own_cgroup(self, pid: int) -> str | None:
        self._check_files()
        del pid
        return None

    def origins(self) -> dict[int, Origin]:
        self._check_files()
        found = {pid: self.origin(pid) for pid in self.processes}
        return {pid: origin for pid, origin in found.items() if origin is not None}

    # --- what the kernel gives ------------------------------------------------------------------

    def pidfd_open(self, pid: int, flags: int = 0) -> int:
        """Open a process: os.pidfd_open of this host."""
        del flags
        process = self.processes.get(pid)
        if process is None:
            raise ProcessLookupError(errno.ESRCH, "No such process")
        if self.out_of_files:
            raise OSError(errno.EMFILE, "Too many open files")
        return os.dup(process.fd)

    def pid_of(self, pidfd: int) -> int | None:
        """Return the pid of a connection's pidfd."""
        return next((pid for pid, each in self.processes.items() if each.fd == pidfd), None)

    def _check_files(self) -> None:
        if self.out_of_files:
            raise BusyError("cannot look at a process: no file can be opened", retry_after_ms=1000)


Later = Callable[[float, Callable[[], object]], object]
