"""What the daemon and its probe say to each other over their socketpair.

A frame is a length (4 bytes, big endian) and a MessagePack body: a tagged struct.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from msgspec import Struct

from supereziod.gpu.hardware import (
    DriverInfo,
    Fault,
    GpuIdentity,
    GpuSample,
    InstanceReading,
    Xid,
)

_LENGTH_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 4 << 20


class FrameError(Exception):
    """The other side sent what is no frame."""


# --- how a probe is started ---------------------------------------------------------------------


class Target(Struct, frozen=True, kw_only=True):
    """A GPU as far as it is known: one that hung before it was identified has only an index."""

    index: int
    uuid: str | None = None

    @property
    def key(self) -> str:
        """What it goes by."""
        return self.uuid if self.uuid is not None else f"index {self.index}"


class SimulatedSpec(Struct, frozen=True, kw_only=True):
    """Where a simulation lives, and when its scenario began (CLOCK_MONOTONIC).

    `read_only`: it is another's, and nothing of it is changed.
    """

    directory: str
    scenario: str | None = None
    epoch_ns: int
    read_only: bool = False


class ProbeSpec(Struct, frozen=True, kw_only=True):
    """What a probe is to do. `skip` are GPUs not to touch, `only` the one GPU to look after."""

    driver: Literal["nvml", "simulated"]
    simulated: SimulatedSpec | None = None
    since_ns: int = 0
    period_s: float = 1.0
    deadline_s: float = 1.0
    process_interval_s: float = 30.0
    skip: tuple[Target, ...] = ()
    only: Target | None = None


# --- from the probe -----------------------------------------------------------------------------


class Opened(Struct, frozen=True, kw_only=True, tag="opened"):
    """The driver is open, and there is a thread for the GPU at each of `indexes`."""

    info: DriverInfo
    indexes: tuple[int, ...]


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    """The driver cannot be opened. The probe ends after this."""

    fault: Fault


class Identified(Struct, frozen=True, kw_only=True, tag="identified"):
    identity: GpuIdentity


class Excluded(Struct, frozen=True, kw_only=True, tag="excluded"):
    """The GPU at `index` turned out to be one that this probe does not look after."""

    index: int


class Reading(Struct, frozen=True, kw_only=True):
    """A sample, and the newest pass that was asked for before its reading began.

    `instances` are all that MIG has cut the GPU into; None where that is not known.
    """

    sample: GpuSample
    pass_id: int
    instances: tuple[InstanceReading, ...] | None = None


class GpuFault(Struct, frozen=True, kw_only=True):
    """A call for one GPU that failed."""

    index: int
    uuid: str | None
    fault: Fault


class Waiting(Struct, frozen=True, kw_only=True):
    """A GPU whose call is out for longer than the deadline."""

    index: int
    uuid: str | None
    since_ns: int


class Batch(Struct, frozen=True, kw_only=True, tag="batch"):
    """What came in together; sent at least once a period, and so the probe's sign of life."""

    readings: tuple[Reading, ...] = ()
    faults: tuple[GpuFault, ...] = ()
    waiting: tuple[Waiting, ...] = ()


class XidSeen(Struct, frozen=True, kw_only=True, tag="xid"):
    xid: Xid


FromProbe = Opened | Failed | Identified | Excluded | Batch | XidSeen


# --- to the probe -------------------------------------------------------------------------------


class Pass(Struct, frozen=True, kw_only=True, tag="pass"):
    """Read these GPUs now, with their processes. `id` grows."""

    id: int
    uuids: frozenset[str]


class Interval(Struct, frozen=True, kw_only=True, tag="interval"):
    """Do a pass by yourself this often."""

    process_s: float


ToProbe = Pass | Interval

_encoder: Final = msgspec.msgpack.Encoder()


def encode(frame: FromProbe | ToProbe) -> bytes:
    """Return the frame with its length in front."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class FrameBuffer:
    """Cuts what was received into the bodies of frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the bodies that are complete with `data`. Raises FrameError."""
        self._buffer += data
        bodies = []
        while len(self._buffer) >= _LENGTH_BYTES:
            length = int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {length} bytes")
            end = _LENGTH_BYTES + length
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[_LENGTH_BYTES:end]))
            del self._buffer[:end]
        return bodies
