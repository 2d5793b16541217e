"""The probe: the only process that calls a GPU driver, and one that can be given up on.

`python -m supereziod.gpu.probe FD SPEC`. FD is its end of a socketpair, SPEC a `ProbeSpec` in JSON.
The main thread never calls the driver: it keeps time, sends what the threads of the GPUs found,
and ends the process when the daemon closes its end, whatever those threads are stuck in.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from supereziod.gpu.frames import (
    Batch,
    Excluded,
    Failed,
    FrameBuffer,
    FromProbe,
    GpuFault,
    Identified,
    Interval,
    Opened,
    Pass,
    ProbeSpec,
    Reading,
    ToProbe,
    Waiting,
    encode,
)
from supereziod.gpu.hardware import Fault, FaultError, GpuDriver
from supereziod.gpu.worker import GpuWorker, Outbox, XidWorker, wanted_indexes

#: How long GPUs that answer are held back for others, to be sent in one frame.
_GATHER_S: Final = 0.02
_GATHER_PASS_S: Final = 0.01
_LEAVE_WITHIN_S: Final = 1.0
_RECEIVE_BYTES: Final = 65536
_LONGEST_POLL_MS: Final = 3_600_000.0


class Probe:
    """The main thread's loop."""

    def __init__(
        self,
        *,
        connection: socket.socket,
        spec: ProbeSpec,
        driver: GpuDriver,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._connection = connection
        self._spec = spec
        self._driver = driver
        self._clock = clock
        self._outbox = Outbox()
        self._frames = FrameBuffer()
        self._decoder = msgspec.msgpack.Decoder(ToProbe)
        self._workers: list[GpuWorker] = []
        self._opener = threading.Thread(target=self._open, name="open", daemon=True)
        self._period_ns = round(spec.period_s * 1e9)
        self._process_ns = round(spec.process_interval_s * 1e9)
        self._next_tick_ns = clock() + self._period_ns
        self._next_pass_ns = 0
        self._flush_ns: int | None = None

    def run(self) -> None:
        """Serve until the daemon closes its end, or the driver cannot be opened."""
        poller = select.poll()
        poller.register(self._connection, select.POLLIN)
        poller.register(self._outbox.fd, select.POLLIN)
        self._opener.start()
        going = True
        while going:
            ready = poller.poll(self._timeout_ms())
            descriptors = {descriptor for descriptor, _ in ready}
            if self._outbox.fd in descriptors:
                self._outbox.acknowledge()
                self._flush_ns = 0
            if self._connection.fileno() in descriptors and not self._receive():
                return
            now_ns = self._clock()
            if self._flush_ns is not None and now_ns >= self._flush_ns:
                going = self._flush(now_ns)
            if now_ns >= self._next_tick_ns:
                self._tick(now_ns)

    def is_stuck(self) -> bool:
        """Whether a thread is in a call of the driver."""
        return self._opener.is_alive() or any(
            worker.calling_since_ns is not None for worker in self._workers
        )

    def _timeout_ms(self) -> float:
        wake_ns = self._next_tick_ns
        if self._flush_ns is not None:
            wake_ns = min(wake_ns, self._flush_ns)
        # poll takes no more than 31 bits of milliseconds; who wakes early looks again.
        return min(max(0.0, (wake_ns - self._clock()) / 1e6), _LONGEST_POLL_MS)

    def _open(self) -> None:
        try:
            info = self._driver.open()
        except FaultError as error:
            self._outbox.post(Failed(fault=error.fault))
        except Exception as error:  # noqa: BLE001 - the edge of this thread
            traceback.print_exc()
            message = f"cannot open the driver: {type(error).__name__}: {error}"
            self._outbox.post(Failed(fault=Fault(kind="unknown", message=message)))
        else:
            indexes = wanted_indexes(self._spec, info.gpu_count)
            self._outbox.post(Opened(info=info, indexes=indexes))

    def _start_workers(self, indexes: tuple[int, ...]) -> None:
        self._outbox.expect(indexes)
        self._workers = [
            GpuWorker(index=index, spec=self._spec, driver=self._driver, outbox=self._outbox)
            for index in indexes
        ]
        for worker in self._workers:
            worker.thread.start()
        XidWorker(driver=self._driver, outbox=self._outbox).thread.start()
        self._flush_within(self._clock(), _GATHER_S)

    def _tick(self, now_ns: int) -> None:
        while self._next_tick_ns <= now_ns:
            self._next_tick_ns += self._period_ns
        full = now_ns >= self._next_pass_ns
        if full and self._workers:
            self._next_pass_ns = now_ns + self._process_ns - self._period_ns // 2
        self._ask(self._workers, now_ns, full=full, gather_s=_GATHER_S)

    def _ask(
        self,
        workers: list[GpuWorker],
        now_ns: int,
        *,
        full: bool,
        gather_s: float,
        pass_id: int | None = None,
    ) -> None:
        free = [worker for worker in workers if worker.calling_since_ns is None]
        self._outbox.expect(worker.index for worker in free)
        for worker in workers:
            if not worker.ask(full=full, pass_id=pass_id):
                self._outbox.forgo(worker.index)
        self._flush_within(now_ns, gather_s)

    def _flush_within(self, now_ns: int, seconds: float) -> None:
        """Send what there is by then; what was to be sent sooner stays so."""
        flush_ns = now_ns + round(seconds * 1e9)
        self._flush_ns = flush_ns if self._flush_ns is None else min(self._flush_ns, flush_ns)

    def _receive(self) -> bool:
        """Take in what the daemon says; False when it has closed its end."""
        try:
            data = self._connection.recv(_RECEIVE_BYTES)
        except ConnectionError:
            return False
        for body in self._frames.feed(data):
            match self._decoder.decode(body):
                case Pass(id=pass_id, uuids=uuids):
                    self._do_pass(pass_id, uuids)
                case Interval(process_s=process_s):
                    self._process_ns = round(process_s * 1e9)
                    self._next_pass_ns = min(self._next_pass_ns, self._clock() + self._process_ns)
        return bool(data)

    def _do_pass(self, pass_id: int, uuids: frozenset[str]) -> None:
        now_ns = self._clock()
        workers = [worker for worker in self._workers if worker.uuid in uuids]
        if len(workers) == len(self._workers):
            self._next_pass_ns = now_ns + self._process_ns - self._period_ns // 2
        self._ask(workers, now_ns, full=True, gather_s=_GATHER_PASS_S, pass_id=pass_id)

    def _flush(self, now_ns: int) -> bool:
        """Send what has come in; False when there is nothing to go on for."""
        self._flush_ns = None
        self._outbox.stop_waiting()
        readings: list[Reading] = []
        faults: list[GpuFault] = []
        frames: list[FromProbe] = []
        for item in self._outbox.take():
            match item:
                case Reading():
                    readings.append(item)
                case GpuFault():
                    faults.append(item)
                case _:
                    frames.append(item)
        batch = Batch(
            readings=tuple(readings), faults=tuple(faults), waiting=tuple(self._waiting(now_ns))
        )
        try:
            self._connection.sendall(b"".join(encode(frame) for frame in (*frames, batch)))
        except ConnectionError:
            return False
        return self._act_on(frames, now_ns)

    def _act_on(self, frames: list[FromProbe], now_ns: int) -> bool:
        for frame in frames:
            match frame:
                case Failed():
                    return False
                case Opened(indexes=indexes):
                    self._start_workers(indexes)
                case Excluded(index=index):
                    self._workers = [worker for worker in self._workers if worker.index != index]
                case Identified(identity=identity):
                    # The first reading follows at once: readiness waits for it.
                    self._ask_one(identity.index, now_ns)
        return True

    def _ask_one(self, index: int, now_ns: int) -> None:
        self._next_pass_ns = now_ns + self._process_ns - self._period_ns // 2
        for worker in self._workers:
            if worker.index == index:
                self._outbox.expect((index,))
                worker.ask(full=True, pass_id=0)
        self._flush_within(now_ns, _GATHER_S)

    def _waiting(self, now_ns: int) -> list[Waiting]:
        deadline_ns = round(self._spec.deadline_s * 1e9)
        late = []
        for worker in self._workers:
            since_ns = worker.calling_since_ns
            if since_ns is not None and now_ns - since_ns >= deadline_ns:
                late.append(Waiting(index=worker.index, uuid=worker.uuid, since_ns=since_ns))
        return late


def build_driver(spec: ProbeSpec) -> GpuDriver:
    """Return the driver that the specification names. Only that one is imported."""
    if spec.simulated is None:
        from supereziod.gpu.nvml import NvmlDriver  # noqa: PLC0415 - 40 ms that a simulation saves

        return NvmlDriver()
    from supereziod.gpu.scenario import DEFAULT, load_scenario  # noqa: PLC0415 - as above
    from supereziod.gpu.simulated import SimulatedDriver  # noqa: PLC0415 - as above

    path = spec.simulated.scenario
    return SimulatedDriver(
        directory=Path(spec.simulated.directory),
        scenario=load_scenario(Path(path)) if path is not None else DEFAULT,
        epoch_ns=spec.simulated.epoch_ns,
        since_ns=spec.since_ns,
        read_only=spec.simulated.read_only,
    )


def main(arguments: list[str]) -> int:
    """Run a probe. It ends by end of file, so that nobody has to signal a holder of the driver."""
    # Ctrl-C in a terminal, and what stops a whole process group, are for the daemon.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    spec = msgspec.json.decode(arguments[2], type=ProbeSpec)
    connection = socket.socket(fileno=int(arguments[1]))
    try:
        driver = build_driver(spec)
    except (ImportError, ValueError) as error:
        fault = Fault(kind="unknown", message=f"cannot use the {spec.driver} driver: {error}")
        connection.sendall(encode(Failed(fault=fault)))
        return 1
    probe = Probe(connection=connection, spec=spec, driver=driver)
    gc.freeze()
    probe.run()
    if probe.is_stuck():
        os._exit(0)
    # The driver is not closed: that could hang, and the kernel does it. Nor may the interpreter's
    # own end wait for a thread.
    guard = threading.Timer(_LEAVE_WITHIN_S, os._exit, (0,))
    guard.daemon = True
    guard.start()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
