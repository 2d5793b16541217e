"""Why a GPU admits nothing: one reason, the weightiest."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from probe_doubles import NO_DETAILS, sample
from supereziod.gpu.admission import block_of, block_of_instance
from supereziod.gpu.hardware import Block, Cooling, Fault, ProcessUse

COOLING = Cooling(peak_c=95, cool_s=40.0, left_s=80.0, closed_s=140.0)
PASS = sample("GPU-a", 1, full=True)
TAKEN = sample("GPU-a", 1, full=True, processes=(ProcessUse(pid=1, type="C", vram_bytes=1),))
FINE: dict[str, Any] = {
    "status": "ok",
    "status_reason": None,
    "answers_late": False,
    "level": "normal",
    "fitness": "healthy",
    "fitness_reason": "",
    "cordon_reason": None,
    "last_pass": PASS,
    "details": NO_DETAILS,
}


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"level": "warm"},
        {"fitness": "suspect"},
        {"fitness": "probation"},
        {"details": None},
        {"details": replace(NO_DETAILS, compute_mode="exclusive_process"), "last_pass": TAKEN},
        {"details": replace(NO_DETAILS, mig_mode="disabled")},
    ],
)
def test_a_gpu_in_order_admits(state: dict[str, Any]) -> None:
    assert block_of(**{**FINE, **state}) is None


@pytest.mark.parametrize(
    ("state", "code", "word"),
    [
        ({"status": "detached", "status_reason": "by hand"}, "detached", "by hand"),
        ({"status": "lost", "status_reason": None}, "lost", "lost"),
        ({"status": "unknown", "status_reason": "silent"}, "unknown", "silent"),
        ({"last_pass": None}, "settling", "pass"),
        ({"answers_late": True}, "settling", "pass"),
        ({"level": "hot"}, "hot", "hot"),
        ({"level": "hot"}, "hot", "until it is cooler"),
        ({"level": "critical"}, "critical", "critical"),
        ({"level": "critical", "cooling": COOLING}, "critical", "stayed cool for 140 s more"),
        ({"level": "unknown"}, "unknown", "temperature"),
        ({"fitness": "quarantined", "fitness_reason": "XID 79"}, "quarantined", "XID 79"),
        ({"cordon_reason": "fan"}, "cordoned", "fan"),
        ({"cordon_reason": ""}, "cordoned", "cordoned"),
        (
            {"details": replace(NO_DETAILS, compute_mode="prohibited")},
            "compute_prohibited",
            "PROHIBITED",
        ),
        ({"details": replace(NO_DETAILS, mig_mode="enabled")}, "mig_enabled", "MIG"),
        ({"details": replace(NO_DETAILS, mig_mode="no_permission")}, "no_permission", "read"),
        ({"level": "hot", "cordon_reason": "fan", "fitness": "quarantined"}, "hot", "hot"),
    ],
)
def test_a_gpu_that_is_out_of_order_says_why(state: dict[str, Any], code: str, word: str) -> None:
    block = block_of(**{**FINE, **state})
    assert block is not None
    assert block.code == code
    assert word in block.message


# --- MIG instances ------------------------------------------------------------------------------

FINE_PART: dict[str, Any] = {
    "gpu_block": Block(code="mig_enabled", message="MIG is on"),
    "status": "ok",
    "fault": None,
    "cordon_reason": None,
    "last_pass": PASS,
    "details": NO_DETAILS,
    "shares_memory": False,
}
FORBIDDEN = Fault(kind="no_permission", message="no permission to read MIG")
BROKEN = Fault(kind="unknown", message="NVML says 999")


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"details": None},
        {"last_pass": TAKEN},
        {"details": replace(NO_DETAILS, compute_mode="exclusive_process"), "last_pass": TAKEN},
    ],
)
def test_an_instance_in_order_admits_though_its_gpu_does_not(state: dict[str, Any]) -> None:
    assert block_of_instance(**{**FINE_PART, **state}) is None


@pytest.mark.parametrize(
    ("state", "code", "word"),
    [
        ({"gpu_block": Block(code="hot", message="it is hot")}, "hot", "its GPU"),
        ({"gpu_block": Block(code="lost", message="it is lost")}, "lost", "its GPU"),
        ({"gpu_block": Block(code="cordoned", message="it is cordoned")}, "cordoned", "its GPU"),
        ({"status": "lost", "fault": None}, "lost", "not there"),
        ({"status": "unknown", "fault": FORBIDDEN}, "no_permission", "permission"),
        ({"status": "unknown", "fault": BROKEN}, "unknown", "999"),
        ({"last_pass": None}, "settling", "pass"),
        ({"shares_memory": True}, "mig_shared", "memory"),
        ({"cordon_reason": "class"}, "cordoned", "class"),
        (
            {"details": replace(NO_DETAILS, compute_mode="prohibited")},
            "compute_prohibited",
            "PROHIBITED",
        ),
    ],
)
def test_an_instance_out_of_order_says_why(state: dict[str, Any], code: str, word: str) -> None:
    block = block_of_instance(**{**FINE_PART, **state})
    assert block is not None
    assert block.code == code
    assert word in block.message
