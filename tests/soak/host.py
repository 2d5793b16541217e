"""A host as it truly is: its processes, and what each of them has of which GPU."""

from __future__ import annotations

import errno
import os
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from soak.cards import GIB, Card, Gpu, Layout, cards
from soak.processes import Process
from soak.users import QUOTAS
from soak.virtual_time import VirtualClock
from superezio.errors import BusyError
from supereziod.leases.processes import Identity, Origin

#: Few, so that they come round again soon.
_PIDS: Final = range(300, 2300)


class Host:
    """Processes and GPUs, and the faults they are in. It is also what /proc says of them."""

    def __init__(self, *, seed: int, clock: VirtualClock, later: Later) -> None:
        self.random = random.Random(f"host {seed}")
        self.clock = clock
        self.cards = cards()
        #: What can be used now; and all that ever could, for leases may be on what is gone.
        self.gpus: dict[str, Gpu] = {}
        self.units = {card.uuid: card.whole for card in self.cards}
        self._list_gpus()
        #: The quotas that are configured.
        self.quotas = QUOTAS[0]
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
        if process.ended or not gpu.lets_in(process):
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

    def cut(self, card: Card, layout: Layout) -> None:
        """Cut a card that is empty into other MIG instances, or none."""
        self.note(f"{card.uuid} is cut into {layout}")
        card.cut(layout)
        self._list_gpus()

    def reboot(self) -> None:
        """Begin another boot: no process and no use is left."""
        for process in list(self.processes.values()):
            self.end(process, "reboot")
        for gpu in self.gpus.values():
            gpu.lingering.clear()
        self.boot += 1
        self.woke_ns = 0
        self.clock.reboot()

    def _list_gpus(self) -> None:
        self.gpus = {gpu.uuid: gpu for card in self.cards for gpu in card.units}
        self.units |= self.gpus

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

    def is_kernel_thread(self, pid: int) -> bool | None:
        self._check_files()
        return False if pid in self.processes else None

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
