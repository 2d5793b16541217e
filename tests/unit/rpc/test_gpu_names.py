from __future__ import annotations

import msgspec
import pytest

from superezio.errors import GpusUnavailableError, InvalidParamsError, NotFoundError
from supereziod.gpu.hardware import Fault
from supereziod.rpc.gpu_names import find_gpu, find_units
from unit.rpc.fakes import gpu_view, mig_view, snapshot_of

A = "GPU-aaaa1111-0000-0000-0000-000000000000"
B = "GPU-aaaa2222-0000-0000-0000-000000000000"
C = "GPU-12345678-0000-0000-0000-000000000000"
SNAPSHOT = snapshot_of(gpu_view(0, A), gpu_view(1, B), gpu_view(12, C))


@pytest.mark.parametrize(
    ("name", "uuid"),
    [
        ("0", A), ("1", B), ("12", C), (A, A), ("GPU-aaaa2", B), ("aaaa1", A), ("AAAA1", A),
        ("gpu-aaaa1", A), ("GPU-123", C), ("GPU-1", C),
    ],
)  # fmt: skip
def test_a_gpu_has_many_names(name: str, uuid: str) -> None:
    assert find_gpu(SNAPSHOT, name).uuid == uuid


def test_a_beginning_of_several_is_refused_with_their_names() -> None:
    with pytest.raises(InvalidParamsError, match=f"{A}, {B}"):
        find_gpu(SNAPSHOT, "aaaa")


@pytest.mark.parametrize("name", ["", "7", "GPU-zzz", "-1", "9" * 5000, "GPU-", "gpu", "G"])
def test_an_unknown_name_is_answered_with_those_there_are(name: str) -> None:
    with pytest.raises(NotFoundError, match=r"there are 0 \(GPU-aaaa1111"):
        find_gpu(SNAPSHOT, name)


@pytest.mark.parametrize("digits", ["1", "12", "123", "1234", "12345678", "012"])
def test_digits_alone_are_an_index_and_never_the_beginning_of_a_uuid(digits: str) -> None:
    """Else who mistypes an index cordons another GPU."""
    host = snapshot_of(gpu_view(0, A), gpu_view(5, C))
    with pytest.raises(NotFoundError, match=rf"no GPU '{digits}'; there are 0 \(GPU-aaaa.*, 5 \("):
        find_gpu(host, digits)


@pytest.mark.parametrize("name", ["b", "bc", "bcd"])
def test_the_beginning_of_a_uuid_has_four_characters_or_its_prefix(name: str) -> None:
    uuid = "GPU-bcde1111-0000-0000-0000-000000000000"
    host = snapshot_of(gpu_view(0, uuid), gpu_view(1, A))
    with pytest.raises(NotFoundError, match=f"begins so write GPU-{name}$"):
        find_gpu(host, name)
    with pytest.raises(NotFoundError, match="no GPU"):
        find_units(host, [name])
    assert find_gpu(host, f"GPU-{name}").uuid == find_gpu(host, "bcde").uuid == uuid


def test_without_gpus_the_reason_is_told() -> None:
    none = snapshot_of()
    fault = Fault(kind="no_driver", message="no NVIDIA driver is loaded")
    for snapshot, why in (
        (none, "this host has no GPUs"),
        (msgspec.structs.replace(none, ready=False), "no GPU has been read yet"),
        (msgspec.structs.replace(none, attached=False), "detached"),
        (msgspec.structs.replace(none, driver_fault=fault), "no NVIDIA driver is loaded"),
    ):
        with pytest.raises(GpusUnavailableError, match=why):
            find_gpu(snapshot, "0")


PART = "MIG-abcd0000-0000-0000-0000-000000000000"
OTHER = "MIG-12340000-0000-0000-0000-000000000000"
CUT_UP = snapshot_of(
    SNAPSHOT.gpus[0],
    mig_view(SNAPSHOT.gpus[0], 0, PART),
    mig_view(SNAPSHOT.gpus[0], 1, OTHER),
    SNAPSHOT.gpus[1],
)


@pytest.mark.parametrize(
    ("name", "uuid"),
    [
        ("0", A), ("0:0", PART), ("0:1", OTHER), (PART, PART), ("MIG-abc", PART), ("abcd", PART),
        ("mig-1234", OTHER), ("1", B), ("00", A),
    ],
)  # fmt: skip
def test_a_mig_instance_has_many_names_and_an_index_means_the_gpu(name: str, uuid: str) -> None:
    assert find_gpu(CUT_UP, name).uuid == uuid


@pytest.mark.parametrize("name", ["0:2", "0:", ":0", "1:0"])
def test_an_instance_that_is_not_there_is_answered_with_those_there_are(name: str) -> None:
    with pytest.raises(NotFoundError, match=r"0:0 \(MIG-abcd"):
        find_gpu(CUT_UP, name)


def test_a_beginning_that_instances_share_is_refused() -> None:
    alike = "MIG-abcd1111-0000-0000-0000-000000000000"
    twins = snapshot_of(*CUT_UP.gpus, mig_view(SNAPSHOT.gpus[1], 0, alike))
    with pytest.raises(InvalidParamsError, match=f"{PART}, {alike}"):
        find_gpu(twins, "abcd")


def test_who_avoids_a_gpu_avoids_its_instances() -> None:
    assert find_units(CUT_UP, ["0"]) == [A, PART, OTHER]
    assert find_units(CUT_UP, ["0:1", "1"]) == [OTHER, B]


def test_a_place_means_the_instance_that_is_there_now() -> None:
    """One that is gone is listed after those that are there, for the lease on it."""
    whole = SNAPSHOT.gpus[0]
    cut_anew = snapshot_of(whole, mig_view(whole, 0, OTHER), mig_view(whole, 0, PART))
    assert find_gpu(cut_anew, "0:0").uuid == OTHER
    assert find_gpu(cut_anew, PART).uuid == PART
