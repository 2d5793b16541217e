"""Frames between the daemon and its probe, however the stream cuts them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe_doubles import info, sample
from supereziod.gpu.frames import (
    MAX_FRAME_BYTES,
    Batch,
    FrameBuffer,
    FrameError,
    FromProbe,
    Opened,
    Reading,
    Target,
    encode,
)

FRAMES: list[FromProbe] = [
    Opened(info=info(2), indexes=(0, 1)),
    Batch(),
    Batch(readings=(Reading(sample=sample("GPU-a", 5, full=True), pass_id=3),)),
]


@given(st.lists(st.integers(1, 400), max_size=30))
def test_frames_come_out_as_they_went_in_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    stream = b"".join(encode(frame) for frame in FRAMES)
    buffer, bodies, start = FrameBuffer(), [], 0
    for cut in [*cuts, len(stream)]:
        bodies += buffer.feed(stream[start : start + cut])
        start += cut
    decoder = msgspec.msgpack.Decoder(FromProbe)
    assert [decoder.decode(body) for body in bodies] == FRAMES


def test_a_frame_that_is_too_long_is_refused() -> None:
    with pytest.raises(FrameError):
        FrameBuffer().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


def test_a_target_goes_by_its_uuid_or_else_by_its_index() -> None:
    assert Target(index=1, uuid="GPU-a").key == "GPU-a"
    assert Target(index=1).key == "index 1"
