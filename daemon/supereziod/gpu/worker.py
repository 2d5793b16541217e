"""The threads of the probe: one for each GPU, so that a call that never returns holds up no other.

A thread that is in such a call cannot be ended. All that the probe knows of it is since when.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Final

from msgspec.structs import replace

from supereziod.gpu.frames import (
    Excluded,
    Failed,
    GpuFault,
    Identified,
    Opened,
    ProbeSpec,
    Reading,
    XidSeen,
)
from supereziod.gpu.hardware import Fault, FaultError, GpuDriver, InstanceReading

Outcome = Opened | Failed | Identified | Excluded | Reading | GpuFault | XidSeen
#: A GPU that is gone is asked again after 1, 2, 4 ... ticks, at most this many.
_MAX_REST_TICKS: Final = 8
#: Where VRAM in use has moved by this much since the processes were read, they are read again.
_MOVED_BYTES: Final = 64 << 20
_XID_WAIT_S: Final = 2.0
_XID_MAX_PAUSE_S: Final = 60.0


class Outbox:
    """Where threads leave what they found, for the probe's main thread to send.

    It wakes the main thread (`fd` gets readable) once all that were expected have answered, or
    for each one that nobody waits for any more: GPUs that answer together are sent together.
    """

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._items: list[Outcome] = []
        self._expected: set[int] = set()

    def expect(self, indexes: Iterable[int]) -> None:
        """Wait for these GPUs before waking the main thread."""
        with self._lock:
            self._expected.update(indexes)

    def forgo(self, index: int) -> None:
        """Do not wait for this GPU."""
        with self._lock:
            self._expected.discard(index)

    def stop_waiting(self) -> None:
        """Expect nobody any more."""
        with self._lock:
            self._expected.clear()

    def post(self, item: Outcome, *, index: int | None = None) -> None:
        """Leave an outcome; `index` is the GPU that has answered with it."""
        with self._lock:
            self._items.append(item)
            if index is not None:
                self._expected.discard(index)
            complete = not self._expected
        if complete:
            os.eventfd_write(self.fd, 1)

    def take(self) -> list[Outcome]:
        """Return what has come in, in order."""
        with self._lock:
            items, self._items = self._items, []
        return items

    def acknowledge(self) -> None:
        """Clear the wake-up."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return


class GpuWorker:
    """The thread of one GPU: identifies it, then reads it whenever it is asked to."""

    def __init__(
        self,
        *,
        index: int,
        spec: ProbeSpec,
        driver: GpuDriver,
        outbox: Outbox,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.index = index
        self.uuid: str | None = None
        self._spec = spec
        self._driver = driver
        self._outbox = outbox
        self._clock = clock
        self._calling_since_ns: int | None = None
        self._jobs: SimpleQueue[None] = SimpleQueue()
        self._lock = threading.Lock()
        self._asked = False
        self._full = False
        self._pass_id = 0
        self._failures = 0
        self._rest_ticks = 0
        self._mig_mode: str | None = None
        self._pass_used_bytes: int | None = None
        self.thread = threading.Thread(target=self._run, name=f"gpu-{index}", daemon=True)

    @property
    def calling_since_ns(self) -> int | None:
        """Since when a call of the driver is out, if one is."""
        return self._calling_since_ns

    def ask(self, *, full: bool = False, pass_id: int | None = None) -> bool:
        """Have the GPU read, with its processes if `full`; False if it may rest this time.

        While a reading is under way, all that is asked meanwhile becomes one more.
        """
        if pass_id is None and self._rest_ticks > 0:
            self._rest_ticks -= 1
            return False
        with self._lock:
            self._full = self._full or full
            if pass_id is not None:
                self._pass_id = max(self._pass_id, pass_id)
            asked, self._asked = self._asked, True
        if not asked:
            self._jobs.put(None)
        return True

    def _run(self) -> None:
        while self._attempt(self._identify) is None:
            self._take_job()
        if self.uuid is None:
            return
        while True:
            full, pass_id = self._take_job()
            self._attempt(lambda full=full, pass_id=pass_id: self._read(full, pass_id))  # type: ignore[misc]

    def _take_job(self) -> tuple[bool, int]:
        self._jobs.get()
        with self._lock:
            full, self._full, self._asked = self._full, False, False
            return full, self._pass_id

    def _identify(self) -> Outcome:
        identity = self._driver.identify(self.index)
        if not is_wanted(self._spec, identity.uuid):
            return Excluded(index=self.index)
        self.uuid = identity.uuid
        return Identified(identity=identity)

    def _read(self, full: bool, pass_id: int) -> Outcome:  # noqa: FBT001 - from _take_job alone
        uuid = self.uuid or ""
        sample = self._driver.sample(uuid, with_processes=full)
        answers = full
        if not full and self._has_moved(sample.vram_used_bytes):
            # What can be leased is told by passes: beside this reading an old one would be wrong.
            full = True
            sample = self._driver.sample(uuid, with_processes=True)
        if full:
            self._pass_used_bytes = sample.vram_used_bytes
        if sample.details is not None:
            self._mig_mode = sample.details.mig_mode
        instances: tuple[InstanceReading, ...] | None = None
        if self._mig_mode == "enabled":
            instances = self._driver.instances(uuid, with_processes=full)
        elif self._mig_mode == "disabled":
            instances = ()
        return Reading(sample=sample, pass_id=pass_id if answers else 0, instances=instances)

    def _has_moved(self, used_bytes: int | None) -> bool:
        """Tell whether much more or less VRAM is in use than when the processes were read last."""
        passed_bytes = self._pass_used_bytes
        if used_bytes is None or passed_bytes is None:
            return False
        return abs(used_bytes - passed_bytes) >= _MOVED_BYTES

    def _attempt(self, call: Callable[[], Outcome]) -> Outcome | None:
        """Make a call that may hang or fail, post what comes of it, return it if it is good."""
        self._calling_since_ns = self._clock()
        try:
            outcome = call()
        except FaultError as error:
            self._post_fault(error.fault)
            return None
        except Exception as error:  # noqa: BLE001 - the edge of this background loop
            traceback.print_exc()
            self._post_fault(Fault(kind="unknown", message=f"{type(error).__name__}: {error}"))
            return None
        self._calling_since_ns = None
        self._failures = self._rest_ticks = 0
        self._outbox.post(outcome, index=self.index)
        return outcome

    def _post_fault(self, fault: Fault) -> None:
        self._calling_since_ns = None
        self._rest_ticks = min(_MAX_REST_TICKS, 2**self._failures) - 1
        self._failures = min(self._failures + 1, _MAX_REST_TICKS)
        whole = replace(fault, index=self.index, uuid=fault.uuid or self.uuid)
        self._outbox.post(
            GpuFault(index=self.index, uuid=whole.uuid, fault=whole), index=self.index
        )


class XidWorker:
    """The thread that waits for critical errors."""

    def __init__(self, *, driver: GpuDriver, outbox: Outbox) -> None:
        self._driver = driver
        self._outbox = outbox
        self.thread = threading.Thread(target=self._run, name="xid", daemon=True)

    def _run(self) -> None:
        pause_s = 1.0
        while True:
            try:
                xid = self._driver.wait_xid(_XID_WAIT_S)
            except FaultError:
                # The GPU's own thread tells of the fault; here a naive loop would only spin.
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, _XID_MAX_PAUSE_S)
                continue
            pause_s = 1.0
            if xid is not None:
                self._outbox.post(XidSeen(xid=xid))


def is_wanted(spec: ProbeSpec, uuid: str) -> bool:
    """Whether the probe looks after the GPU with that UUID."""
    if spec.only is not None and spec.only.uuid is not None:
        return uuid == spec.only.uuid
    return all(target.uuid != uuid for target in spec.skip)


def wanted_indexes(spec: ProbeSpec, gpu_count: int) -> tuple[int, ...]:
    """Return the GPUs to start a thread for; which of them are wanted may show later."""
    if spec.only is not None and spec.only.uuid is None:
        return (spec.only.index,) if spec.only.index < gpu_count else ()
    if spec.only is not None:
        return tuple(range(gpu_count))  # the order may have changed since it was seen
    skipped = {target.index for target in spec.skip}
    return tuple(index for index in range(gpu_count) if index not in skipped)
