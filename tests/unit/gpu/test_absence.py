"""Why no GPU is known: in a sentence that says what to do, or that it is over in a moment."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gpu_views import a_snapshot, a_view
from supereziod.gpu.absence import absence_of_gpus
from supereziod.gpu.hardware import Fault, FaultKind, Snapshot

NONE = a_snapshot()


def test_a_host_with_a_gpu_misses_none() -> None:
    assert absence_of_gpus(a_snapshot(a_view("GPU-a", last_pass=None))) is None


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("no_library", "Install the NVIDIA driver"),
        ("no_driver", "modprobe nvidia"),
        ("version_mismatch", "reboot"),
        ("no_permission", "/dev/nvidia"),
        ("hang", "See the journal"),
    ],
)
def test_a_driver_that_is_not_there_says_what_mends_it(kind: FaultKind, remedy: str) -> None:
    fault = Fault(kind=kind, message="cannot use the driver.")
    absence = absence_of_gpus(replace(NONE, driver=None, driver_fault=fault))
    assert absence is not None
    assert absence.sentence.startswith("cannot use the driver. ")
    assert remedy in absence.sentence
    assert not absence.passes


@pytest.mark.parametrize(
    ("snapshot", "sentence", "passes"),
    [
        (NONE, "this host has no GPUs. Check the seating", False),
        (replace(NONE, attached=False), "the probe is detached from the GPUs. Run `super", False),
        (replace(NONE, ready=False), "no GPU has been read yet", True),
    ],
)
def test_what_else_there_may_be(snapshot: Snapshot, sentence: str, *, passes: bool) -> None:
    absence = absence_of_gpus(snapshot)
    assert absence is not None
    assert absence.sentence.startswith(sentence)
    assert absence.passes == passes
