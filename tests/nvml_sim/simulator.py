"""The test's hand on the simulator: what the driver says, and what goes wrong with it.

What is set here is seen by the next NVML call of any process whose environment is `env(...)`.
Numbers have the units of their names; None makes the card not support them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import platform
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

from nvml_sim import layout
from nvml_sim.mig import MigDevices
from nvml_sim.process_identity import start_ticks
from nvml_sim.profiles import DEFAULT, Profile

STATE_VARIABLE: Final = "NVML_SIM_STATE"
GPU_IS_LOST: Final = 15
DRIVER_NOT_LOADED: Final = 9
VERSION_MISMATCH: Final = 18
_LISTS: Final = {
    "C": layout.LIST_COMPUTE,
    "G": layout.LIST_GRAPHICS,
    "M": layout.LIST_MPS,
}
#: Where a process holds VRAM: on a GPU, or on the MIG device of that UUID on it.
Place = tuple["SimulatedGpu", str | None]
_NO_INSTANCE: Final = 0xFFFF_FFFF
_FUTEX_CALL: Final = {"x86_64": 202, "aarch64": 98}
_FUTEX_WAKE: Final = 1
_NUMBERS: Final = frozenset(
    name for name, kind, *_ in layout.Gpu._fields_ if kind is ctypes.c_int64
)


class SimulatedOutOfMemoryError(Exception):
    """A claim that does not fit, as cudaMalloc would refuse it."""


class NvmlSimulator:
    """The state file, mapped. Use it as a context manager, or close it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), ctypes.sizeof(layout.State))
        self.state = layout.State.from_buffer(self._map)
        self._futex_call = _FUTEX_CALL[platform.machine()]
        self._libc = ctypes.CDLL(None, use_errno=True)

    @classmethod
    def create(cls, path: Path, profiles: Sequence[Profile] = DEFAULT) -> Self:
        """Write a new host with a GPU per profile, and open it."""
        with path.open("wb") as file:
            file.truncate(ctypes.sizeof(layout.State))
        simulator = cls(path)
        state = simulator.state
        state.magic, state.version = layout.MAGIC, layout.VERSION
        state.size = ctypes.sizeof(layout.State)
        state.driver_version, state.nvml_version = b"580.95.05", b"13.580.95.05"
        state.cuda_version = 13000
        for profile in profiles:
            simulator.add_gpu(profile)
        return simulator

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go; the state stays in it."""
        del self.state
        self._file.close()
        with contextlib.suppress(BufferError):  # a caller still looks at a struct in it
            self._map.close()

    def env(self, library: Path) -> dict[str, str]:
        """Return the variables with which a child process loads `library` with this state.

        `python -m nvml_sim.alloc` works in such a child too.
        """
        env = os.environ | {STATE_VARIABLE: str(self.path)}
        for name, first in (
            ("LD_LIBRARY_PATH", library),
            ("PYTHONPATH", Path(__file__).parents[1]),
        ):
            env[name] = os.pathsep.join([str(first), *filter(None, [env.get(name)])])
        return env

    # --- the host -------------------------------------------------------------------------

    def add_gpu(self, profile: Profile) -> SimulatedGpu:
        """Plug in one more card. NVML shows it at once; a real one asks for a new nvmlInit."""
        index = self.state.gpu_count
        if index >= layout.MAX_GPUS:
            raise ValueError(f"cannot simulate more than {layout.MAX_GPUS} GPUs")
        gpu = self.gpu(index)
        gpu.raw.name = profile.name.encode()
        gpu.raw.uuid = f"GPU-51a11e57-0000-4000-8000-{index:012d}".encode()
        gpu.raw.pci_bus_id = f"00000000:{index + 1:02X}:00.0".encode()
        for name in _NUMBERS:
            gpu.set(**{name: profile.values.get(name)})
        self.state.gpu_count = index + 1
        return gpu

    def gpu(self, index: int) -> SimulatedGpu:
        """Return the GPU at that index."""
        return SimulatedGpu(self, index)

    @property
    def gpus(self) -> list[SimulatedGpu]:
        """All GPUs, in index order."""
        return [self.gpu(index) for index in range(self.state.gpu_count)]

    def find(self, name: str) -> SimulatedGpu:
        """Return the GPU with that UUID or index."""
        for gpu in self.gpus:
            if name in {gpu.uuid, str(gpu.index)}:
                return gpu
        raise LookupError(f"cannot find GPU {name!r} in {self.path}")

    def find_place(self, name: str) -> Place:
        """Return the GPU with that UUID or index, or a MIG device and the GPU that it is on."""
        for gpu in self.gpus:
            with contextlib.suppress(LookupError):
                gpu.mig.find(name)
                return gpu, name
        return self.find(name), None

    def swap(self, first: int, second: int) -> None:
        """Exchange two GPUs' places, as a reboot may. Only while no process holds a handle."""
        one, two = self.state.gpus[first], self.state.gpus[second]
        size = ctypes.sizeof(layout.Gpu)
        kept = ctypes.string_at(ctypes.addressof(one), size)
        ctypes.memmove(ctypes.addressof(one), ctypes.addressof(two), size)
        ctypes.memmove(ctypes.addressof(two), kept, size)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of all writers, other processes included."""
        with self.path.open("r+b") as own:  # a description of its own, so that threads exclude too
            fcntl.flock(own, fcntl.LOCK_EX)
            yield

    def wake(self) -> None:
        """Have calls that hang or wait look at the state again."""
        sequence = layout.State.event_sequence.offset + ctypes.addressof(self.state)
        self.state.event_sequence = (self.state.event_sequence + 1) & 0xFFFF_FFFF
        every = ctypes.c_int(2**31 - 1)
        self._libc.syscall(
            self._futex_call, ctypes.c_void_p(sequence), _FUTEX_WAKE, every, None, None, 0
        )

    # --- what goes wrong ------------------------------------------------------------------

    def refuse_init(self, rc: int) -> None:
        """Have nvmlInit answer `rc`; 0 mends it. 9: driver not loaded, 18: version mismatch."""
        self.state.init_rc = rc

    def upgrade_driver(self) -> None:
        """Replace the driver under the processes that use it: every call now mismatches."""
        self.refuse_init(VERSION_MISMATCH)
        self.fail("*", VERSION_MISMATCH)

    def fail(
        self, call: str, rc: int, *, gpu: int | None = None, times: int = layout.FOR_EVER
    ) -> None:
        """Have `call` (`*`: all) answer `rc`, on one GPU or everywhere, `times` or for ever."""
        self._add_fault(call, gpu=gpu, rc=rc, hang_ms=0, times=times)

    def hang(
        self,
        call: str,
        *,
        ms: int = layout.FOR_EVER,
        gpu: int | None = None,
        times: int = layout.FOR_EVER,
    ) -> None:
        """Have `call` block before it answers. All calls of a GPU: `gpu(i).hang()`."""
        self._add_fault(call, gpu=gpu, rc=0, hang_ms=ms, times=times)

    def _add_fault(self, call: str, *, gpu: int | None, rc: int, hang_ms: int, times: int) -> None:
        with self.locked():
            if self.state.fault_count >= layout.MAX_FAULTS:
                raise ValueError(f"cannot simulate more than {layout.MAX_FAULTS} faults at once")
            fault = self.state.faults[self.state.fault_count]
            fault.call, fault.rc, fault.hang_ms = call.encode(), rc, hang_ms
            fault.gpus = layout.ALL_GPUS if gpu is None else 1 << gpu
            fault.remaining = times
            self.state.fault_count += 1
        self.wake()

    def mend(self) -> None:
        """Forget all faults of calls; hanging ones go on. GPUs keep their own troubles."""
        with self.locked():
            self.state.fault_count = 0
            ctypes.memset(self.state.faults, 0, ctypes.sizeof(self.state.faults))
        self.wake()

    # --- what was done to it --------------------------------------------------------------

    def calls(self, function: str) -> int:
        """Return how often that function was called, by all processes together."""
        for counter in self.state.counters:
            if counter.call == function.encode():
                return int(counter.count)
        return 0

    def all_calls(self) -> dict[str, int]:
        """Return how often each function was called."""
        return {c.call.decode(): int(c.count) for c in self.state.counters if c.call}


class SimulatedGpu:
    """One card of a simulator."""

    def __init__(self, simulator: NvmlSimulator, index: int) -> None:
        self.index = index
        self._simulator = simulator

    @property
    def raw(self) -> layout.Gpu:
        """The struct itself."""
        gpu: layout.Gpu = self._simulator.state.gpus[self.index]
        return gpu

    @property
    def uuid(self) -> str:
        """The UUID, by which it is known everywhere."""
        return str(self.raw.uuid.decode())

    @property
    def name(self) -> str:
        """The model."""
        return str(self.raw.name.decode())

    def set(self, **values: int | None) -> None:
        """Set numbers of `layout.Gpu`; None is what the card does not support."""
        for name, value in values.items():
            if name not in _NUMBERS:
                raise AttributeError(f"cannot set {name!r}: a simulated GPU has no such number")
            setattr(self.raw, name, layout.UNSUPPORTED if value is None else value)

    def get(self, name: str) -> int | None:
        """Return a number of `layout.Gpu`."""
        value = int(getattr(self.raw, name))
        return None if value == layout.UNSUPPORTED else value

    # --- troubles -------------------------------------------------------------------------

    def lose(self, rc: int = GPU_IS_LOST) -> None:
        """Take it off the bus: every call that names it fails, and so does a wait for events."""
        self.set(rc=rc)
        self._simulator.wake()

    def find_again(self) -> None:
        """Put it back on the bus."""
        self.set(rc=0)
        self._simulator.wake()

    def hang(self, ms: int = layout.FOR_EVER) -> None:
        """Have every call that names it block so long first."""
        self.set(hang_ms=ms)

    def unhang(self) -> None:
        """Let calls through again, those that hang now included."""
        self.set(hang_ms=0)
        self._simulator.wake()

    def raise_xid(self, xid: int) -> None:
        """Report a critical error to every event set that watches this GPU."""
        with self._simulator.locked():
            self.raw.xids[self.raw.xid_count % layout.MAX_XIDS] = xid
            self.raw.xid_count += 1
        self._simulator.wake()

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of all writers."""
        return self._simulator.locked()

    @property
    def mig(self) -> MigDevices:
        """Its MIG devices."""
        return MigDevices(self)

    # --- VRAM -----------------------------------------------------------------------------

    def run_process(
        self,
        pid: int,
        used_bytes: int | None,
        *,
        lists: str = "C",
        counted: bool = True,
        hidden_bytes: int = 0,
        gpu_instance: int | None = None,
        compute_instance: int = 0,
    ) -> None:
        """List a process that need not exist, in some of C, G and M.

        `used_bytes` None reads N/A, and holds `hidden_bytes`. With `counted` False its memory is
        not in use beyond what other entries say.
        """
        flags = layout.NO_MEMORY if used_bytes is None else 0
        flags |= 0 if counted else layout.UNCOUNTED
        with self._simulator.locked():
            slot = self._free_slot()
            slot.lists, slot.flags = sum(_LISTS[letter] for letter in lists), flags
            slot.used_bytes = hidden_bytes if used_bytes is None else used_bytes
            self._put(slot, gpu_instance, compute_instance)
            slot.pid = pid

    def end_process(self, pid: int) -> None:
        """Take a process from the lists, and its memory with it, at once."""
        with self._simulator.locked():
            for slot in self._slots(pid):
                self._clear(slot)

    def claim(self, pid: int, used_bytes: int, *, lists: str = "C", mig: str | None = None) -> None:
        """Give a running process VRAM; what it had on this GPU before is replaced.

        When the process dies, it leaves the lists and its VRAM comes back `return_delay_ms` after
        that is first noticed. Raises SimulatedOutOfMemoryError if it does not fit: nothing
        changes then, and `out_of_memory_count` counts it. `mig` is the UUID of the MIG device
        that the process is on.
        """
        device = None if mig is None else self.mig.find(mig)
        started = start_ticks(pid)
        if started is None:
            raise ProcessLookupError(f"cannot claim VRAM for pid {pid}: it does not run")
        with self._simulator.locked():
            mine = next((s for s in self._slots(pid) if s.start_ticks == started), None)
            before = int(mine.used_bytes) if mine is not None else 0
            self._require_room(used_bytes - before, device)
            slot = self._free_slot() if mine is None else mine
            slot.lists = sum(_LISTS[letter] for letter in lists)
            slot.flags = layout.LIVE
            if device is None:
                self._put(slot, None, 0)
            else:
                self._put(slot, device.gpu_instance, device.compute_instance)
            slot.used_bytes, slot.start_ticks = used_bytes, started
            slot.pid = pid

    @property
    def used_bytes(self) -> int:
        """VRAM in use as nvmlDeviceGetMemoryInfo_v2 gives it: without the driver's reserve."""
        with self._simulator.locked():
            return self._used_bytes()

    @property
    def free_bytes(self) -> int:
        """What a claim could get now."""
        with self._simulator.locked():
            return self._free_bytes()

    @property
    def listed(self) -> dict[int, int]:
        """VRAM by pid of the processes that NVML lists."""
        with self._simulator.locked():
            self._notice_deaths()
            return {int(s.pid): int(s.used_bytes) for s in self._slots() if s.died_ns == 0}

    def held_bytes(self, gpu_instance: int) -> int:
        """VRAM that processes hold in a GPU instance. Only under the lock."""
        self._notice_deaths()
        inside = [slot for slot in self._slots() if slot.gpu_instance == gpu_instance]
        return sum(int(slot.used_bytes) for slot in inside if self._holds(slot))

    @staticmethod
    def _put(slot: Any, gpu_instance: int | None, compute_instance: int) -> None:
        whole = gpu_instance is None
        slot.gpu_instance = _NO_INSTANCE if whole else gpu_instance
        slot.compute_instance = _NO_INSTANCE if whole else compute_instance

    def _require_room(self, more_bytes: int, device: layout.Mig | None) -> None:
        free = self._free_bytes() if device is None else self.mig.free_bytes_of(device)
        if more_bytes > free:
            self.raw.out_of_memory_count += 1
            raise SimulatedOutOfMemoryError(
                f"cannot claim {more_bytes} bytes on {self.uuid}: {free} are free"
            )

    def _free_bytes(self) -> int:
        raw = self.raw
        return int(raw.memory_total_bytes - raw.memory_reserved_bytes - self._used_bytes())

    def _used_bytes(self) -> int:
        self._notice_deaths()
        held = sum(int(slot.used_bytes) for slot in self._slots() if self._holds(slot))
        return int(self.raw.memory_extra_bytes) + held + self.mig.extra_bytes

    def _holds(self, slot: layout.Process) -> bool:
        if slot.flags & layout.UNCOUNTED:
            return False
        delay_ms = int(self.raw.return_delay_ms)
        returned_ns = slot.died_ns + delay_ms * 1_000_000
        return slot.died_ns == 0 or delay_ms == layout.FOR_EVER or time.monotonic_ns() < returned_ns

    def _notice_deaths(self) -> None:
        for slot in self._slots():
            live = slot.flags & layout.LIVE
            if live and slot.died_ns == 0 and start_ticks(slot.pid) != slot.start_ticks:
                slot.died_ns = time.monotonic_ns()

    def _slots(self, pid: int | None = None) -> list[Any]:
        return [s for s in self.raw.processes if s.pid and (pid is None or s.pid == pid)]

    def _free_slot(self) -> Any:
        self._notice_deaths()
        for slot in self.raw.processes:
            if slot.pid == 0 or (slot.died_ns and not self._holds(slot)):
                self._clear(slot)
                return slot
        raise ValueError(f"cannot simulate more than {layout.MAX_PROCESSES} processes on a GPU")

    @staticmethod
    def _clear(slot: Any) -> None:
        slot.pid = 0  # first: a reader that comes now sees a free slot
        ctypes.memset(ctypes.addressof(slot), 0, ctypes.sizeof(layout.Process))
