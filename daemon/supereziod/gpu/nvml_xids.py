"""NVML's event sets: critical errors (XIDs) as they happen, on all GPUs at once."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, TypeAlias

from supereziod.gpu.hardware import Fault, FaultError, Xid
from supereziod.gpu.nvml_values import (
    FATAL,
    GPU_IS_LOST,
    TIMEOUT,
    Handle,
    NvmlError,
    NvmlGpu,
    to_fault,
)

_EventSet: TypeAlias = Any
#: One wait for events; closing has to wait for it.
_WAIT_SLICE_S: Final = 1.0
_FIRST_BACKOFF_S: Final = 0.1
_LONGEST_BACKOFF_S: Final = 5.0


class XidWatch:
    """An event set, shared by the threads that identify GPUs and the one that waits.

    NVML says of a wait only that some GPU is lost, again and again. So the lost one is looked for
    and left out; and if none is found, or waiting fails otherwise, the next wait is put off.
    """

    def __init__(
        self,
        nvml: ModuleType,
        *,
        clock: Callable[[], int],
        check: Callable[[NvmlGpu], Fault | None],
    ) -> None:
        self._nvml = nvml
        self._clock = clock
        self._check = check
        self._gpus: dict[str, NvmlGpu] = {}
        self._uuids: dict[int, str] = {}  # by address of the handle, those left out included
        self._events: _EventSet | None = None
        self._retired: list[_EventSet] = []  # another thread may be registering in one
        self._lock = threading.Lock()  # of the above
        self._untold: deque[Fault] = deque()  # met while leaving a lost GPU out
        self._waiting = threading.Lock()  # held while a wait is in NVML
        self._closing = threading.Event()
        self._backoff_s = _FIRST_BACKOFF_S

    def watch(self, gpu: NvmlGpu) -> None:
        """Report XIDs of this GPU from now on, if it can.

        Registering may hang with the GPU, so that it is done outside the lock.
        """
        try:
            while True:
                events = self._current_set()
                self._nvml.nvmlDeviceRegisterEvents(
                    gpu.handle, self._nvml.nvmlEventTypeXidCriticalError, events
                )
                with self._lock:
                    if events is self._events:  # else it was replaced meanwhile
                        self._gpus[str(gpu.uuid)] = gpu
                        self._uuids[_address(gpu.handle)] = str(gpu.uuid)
                        return
        except self._nvml.NVMLError as error:
            if error.value in FATAL:
                what = f"watch GPU {gpu.index} for errors"
                fault = to_fault(error.value, what, str(error), uuid=gpu.uuid, index=gpu.index)
                raise FaultError(fault) from error

    def wait(self, timeout_s: float) -> Xid | None:
        """Return the next XID, or None when the time is over or `close` is called."""
        deadline_ns = self._clock() + int(timeout_s * 1e9)
        with self._waiting:
            while not self._closing.is_set():
                left_s = (deadline_ns - self._clock()) / 1e9
                if left_s <= 0:
                    break
                xid = self._wait_slice(min(left_s, _WAIT_SLICE_S))
                if xid is not None:
                    return xid
        return None

    def close(self) -> bool:
        """End a wait and free the sets; False if the wait does not end."""
        self._closing.set()
        if not self._waiting.acquire(timeout=2 * _WAIT_SLICE_S):
            return False
        with self._lock:
            sets, self._retired = [*self._retired, self._events], []
            self._events = None
        for events in filter(None, sets):
            with contextlib.suppress(self._nvml.NVMLError):  # the driver is gone, and they with it
                self._nvml.nvmlEventSetFree(events)
        return True

    def _current_set(self) -> _EventSet:
        with self._lock:
            if self._events is None:
                self._events = self._nvml.nvmlEventSetCreate()
            return self._events

    def _wait_slice(self, slice_s: float) -> Xid | None:
        if self._untold:
            raise FaultError(self._untold.popleft())
        with self._lock:
            events = self._events
        if events is None:
            self._closing.wait(slice_s)
            return None
        try:
            event = self._nvml.nvmlEventSetWait_v2(events, max(1, int(slice_s * 1000)))
        except self._nvml.NVMLError as error:
            if error.value != TIMEOUT:
                self._fail(error, slice_s)
            else:
                self._backoff_s = _FIRST_BACKOFF_S
            return None
        self._backoff_s = _FIRST_BACKOFF_S
        uuid = self._uuids.get(_address(event.device))
        if uuid is None or event.eventType != self._nvml.nvmlEventTypeXidCriticalError:
            return None
        return Xid(uuid=uuid, xid=event.eventData, taken_ns=self._clock())

    def _fail(self, error: NvmlError, slice_s: float) -> None:
        lost = self._leave_out_lost() if error.value == GPU_IS_LOST else None
        if lost is not None:
            raise FaultError(lost) from error
        self._closing.wait(min(self._backoff_s, slice_s))
        self._backoff_s = min(self._backoff_s * 2, _LONGEST_BACKOFF_S)
        if error.value != GPU_IS_LOST:
            raise FaultError(to_fault(error.value, "wait for errors", str(error))) from error

    def _leave_out_lost(self) -> Fault | None:
        """Find one lost GPU and go on with a set of the others: none can leave a set."""
        with self._lock:
            gpus = dict(self._gpus)
        for uuid, gpu in gpus.items():
            fault = self._check(gpu)
            if fault is not None and fault.kind == "gpu_lost":
                self._rebuild_without(uuid)
                return fault
        return None

    def _rebuild_without(self, uuid: str) -> None:
        with self._lock:
            gpus = [gpu for gpu in self._gpus.values() if gpu.uuid != uuid]
            self._retired.append(self._events)
            self._events, self._gpus = None, {}
        for gpu in gpus:
            try:
                self.watch(gpu)
            except FaultError as error:
                self._untold.append(error.fault)


def _address(handle: Handle) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
