from __future__ import annotations

import msgspec
import pytest

from superezio.errors import GpusUnavailableError, InvalidParamsError, NotFoundError
from supereziod.gpu.hardware import Fault
from supereziod.rpc.gpu_names import find_gpu
from unit.rpc.fakes import gpu_view, snapshot_of

A = "GPU-aaaa1111-0000-0000-0000-000000000000"
B = "GPU-aaaa2222-0000-0000-0000-000000000000"
C = "GPU-12345678-0000-0000-0000-000000000000"
SNAPSHOT = snapshot_of(gpu_view(0, A), gpu_view(1, B), gpu_view(12, C))


@pytest.mark.parametrize(
    ("name", "uuid"),
    [
        ("0", A), ("1", B), ("12", C), (A, A), ("GPU-aaaa2", B), ("aaaa1", A), ("AAAA1", A),
        ("gpu-aaaa1", A), ("123", C),
    ],
)  # fmt: skip
def test_a_gpu_has_many_names(name: str, uuid: str) -> None:
    assert find_gpu(SNAPSHOT, name).uuid == uuid


def test_a_beginning_of_several_is_refused_with_their_names() -> None:
    with pytest.raises(InvalidParamsError, match=f"{A}, {B}"):
        find_gpu(SNAPSHOT, "aaaa")


@pytest.mark.parametrize("name", ["", "7", "GPU-zzz", "-1", "9" * 5000])
def test_an_unknown_name_is_answered_with_those_there_are(name: str) -> None:
    with pytest.raises(NotFoundError, match=r"there are 0 \(GPU-aaaa1111"):
        find_gpu(SNAPSHOT, name)


def test_without_gpus_the_reason_is_told() -> None:
    none = snapshot_of()
    fault = Fault(kind="no_driver", message="no NVIDIA driver is loaded")
    for snapshot, why in (
        (none, "this host has none"),
        (msgspec.structs.replace(none, ready=False), "has not answered yet"),
        (msgspec.structs.replace(none, attached=False), "detached"),
        (msgspec.structs.replace(none, driver_fault=fault), "no NVIDIA driver is loaded"),
    ):
        with pytest.raises(GpusUnavailableError, match=why):
            find_gpu(snapshot, "0")
