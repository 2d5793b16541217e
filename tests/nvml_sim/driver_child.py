"""A GpuDriver in a process of its own, asked over pipes: NVML is what that process's
LD_LIBRARY_PATH makes of it, and a call that hangs there hangs no test.

Every request runs in a thread of its own, as the probe's threads would call.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from supereziod.gpu.hardware import (
    DriverInfo,
    Fault,
    FaultError,
    GpuIdentity,
    GpuSample,
    InstanceReading,
    Xid,
)

#: How long a reply may take that is expected to come.
REPLY_S: Final = 20.0


class _Request(msgspec.Struct):
    number: int
    call: str
    arguments: list[Any]


class _Reply(msgspec.Struct):
    number: int
    result: msgspec.Raw = msgspec.Raw(b"null")
    fault: Fault | None = None
    error: str | None = None


class DriverChild:
    """NvmlDriver, elsewhere: its calls, each also as a future by `begin`."""

    def __init__(self, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nvml_sim.driver_child"],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._pending: dict[int, Future[msgspec.Raw]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The pid of the process that calls NVML."""
        return self._process.pid

    def begin(self, call: str, *arguments: Any) -> Future[msgspec.Raw]:
        """Send a call and return its outcome to come."""
        assert self._process.stdin is not None
        request = _Request(len(self._pending), call, list(arguments))
        future = self._pending[request.number] = Future()
        self._process.stdin.write(msgspec.json.encode(request) + b"\n")
        self._process.stdin.flush()
        return future

    def _call(self, kind: Any, call: str, *arguments: Any) -> Any:
        return msgspec.json.decode(self.begin(call, *arguments).result(REPLY_S), type=kind)

    def open(self) -> DriverInfo:
        """As GpuDriver.open."""
        info: DriverInfo = self._call(DriverInfo, "open")
        return info

    def identify(self, index: int) -> GpuIdentity:
        """As GpuDriver.identify."""
        identity: GpuIdentity = self._call(GpuIdentity, "identify", index)
        return identity

    def sample(self, uuid: str, *, with_processes: bool = False) -> GpuSample:
        """As GpuDriver.sample."""
        sample: GpuSample = self._call(GpuSample, "sample", uuid, with_processes)
        return sample

    def instances(self, uuid: str, *, with_processes: bool = True) -> list[InstanceReading]:
        """As GpuDriver.instances."""
        found: list[InstanceReading] = self._call(
            list[InstanceReading], "instances", uuid, with_processes
        )
        return found

    def wait_xid(self, timeout_s: float) -> Xid | None:
        """As GpuDriver.wait_xid."""
        xid: Xid | None = self._call(Xid | None, "wait_xid", timeout_s)
        return xid

    def close_driver(self) -> None:
        """As GpuDriver.close."""
        self._call(None, "close")

    def missed_lookups(self) -> dict[str, int]:
        """Return how often pynvml looked for a function that the library lacks, by its name."""
        lookups: dict[str, int] = self._call(dict[str, int], "missed_lookups")
        return lookups

    def cpu_ns(self) -> int:
        """Return the processor time that the child has used."""
        used: int = self._call(int, "cpu_ns")
        return used

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(REPLY_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._reader.join()
            assert self._process.stdout is not None
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            reply = msgspec.json.decode(line, type=_Reply)
            future = self._pending[reply.number]
            if reply.fault is not None:
                future.set_exception(FaultError(reply.fault))
            elif reply.error is not None:
                future.set_exception(RuntimeError(reply.error))
            else:
                future.set_result(msgspec.Raw(bytes(reply.result)))
        for future in self._pending.values():
            if not future.done():
                future.set_exception(EOFError("the driver's process has ended"))


# --- the child ----------------------------------------------------------------------------------


def _count_missed_lookups() -> dict[str, int]:
    """Watch pynvml look functions up, without changing it."""
    lookups: dict[str, int] = {}

    def profile(frame: Any, event: str, result: Any) -> None:
        if event == "return" and frame.f_code.co_name == "_nvmlGetFunctionPointer":
            name = frame.f_locals["name"]
            lookups[name] = lookups.get(name, 0) + (result is None)

    threading.setprofile(profile)
    return lookups


def _answer(call: Callable[..., Any], request: _Request) -> _Reply:
    try:
        result = msgspec.Raw(msgspec.json.encode(call(*request.arguments)))
    except FaultError as error:
        return _Reply(request.number, fault=error.fault)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test is to see it
        return _Reply(request.number, error=repr(error))
    return _Reply(request.number, result=result)


def main() -> None:
    """Answer requests until the input ends; calls that hang then are left behind."""
    from supereziod.gpu.nvml import NvmlDriver  # noqa: PLC0415 - the parent has no NVML

    driver = NvmlDriver()
    lookups = _count_missed_lookups()
    writing = threading.Lock()
    calls: dict[str, Callable[..., Any]] = {
        "open": driver.open,
        "identify": driver.identify,
        "sample": lambda uuid, processes=False: driver.sample(uuid, with_processes=processes),
        "instances": lambda uuid, processes: driver.instances(uuid, with_processes=processes),
        "wait_xid": driver.wait_xid,
        "close": driver.close,
        "missed_lookups": lambda: {name: count for name, count in lookups.items() if count},
        "cpu_ns": lambda: sum(int(seconds * 1e9) for seconds in os.times()[:2]),
    }

    def run(request: _Request) -> None:
        line = msgspec.json.encode(_answer(calls[request.call], request)) + b"\n"
        with writing:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()

    for line in sys.stdin.buffer:
        request = msgspec.json.decode(line, type=_Request)
        threading.Thread(target=run, args=(request,), daemon=True).start()


if __name__ == "__main__":
    main()
