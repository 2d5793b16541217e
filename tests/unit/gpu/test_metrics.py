"""What is told of GPUs to a monitoring system."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from gpu_views import GIB, FakeClock, a_pass, a_snapshot, a_view
from metrics_lint import labelled, problems, series, value
from supereziod.gpu.hardware import GpuDetails, GpuView, MigInstance
from supereziod.gpu.metrics import GpuMetrics
from supereziod.observability.exposition import Exposition

UUID = "GPU-aaaa"
NOTHING: dict[str, Any] = dict.fromkeys(GpuDetails.__struct_fields__)
MEASURED = (
    "temperature_celsius",
    "margin_celsius",
    "memory_temperature_celsius",
    "memory_total_bytes",
    "memory_used_bytes",
    "utilization_ratio",
    "power_watts",
    "power_limit_watts",
    "energy_joules_total",
    "fan_ratio",
    "core_clock_hertz",
    "memory_clock_hertz",
    "throttling",
    "ecc_errors_total",
)


def gpu(*, details: dict[str, Any] | None = None, **sample: Any) -> GpuView:
    """A GPU that answers, with these details and figures."""
    read = a_pass(UUID, taken_ns=1_000_000_000, total=12 * GIB, used=3 * GIB, processes={})
    return a_view(
        UUID,
        last_pass=replace(read, **sample),
        details=GpuDetails(**NOTHING | (details or {})),
    )


def told(*views: GpuView, after_s: float = 0.0) -> str:
    clock = FakeClock()
    clock.advance(after_s)
    snapshot = a_snapshot(*views)
    text = Exposition([GpuMetrics(lambda: snapshot, clock=clock)]).text()
    assert problems(text) == []
    return text


def figure(text: str, name: str, *, gpu: str = "0", uuid: str = UUID, **more: str) -> float | None:
    return value(text, f"superezio_gpu_{name}", gpu=gpu, uuid=uuid, **more)


def test_figures_are_in_base_units() -> None:
    text = told(
        gpu(
            details={
                "memory_temperature_c": 70,
                "power_limit_w": 170.0,
                "energy_j": 1234.5,
                "fan_percent": 57,
                "clock_core_mhz": 1800,
                "clock_memory_mhz": 7500,
                "ecc_corrected": 4,
                "ecc_uncorrected": 0,
            },
            temperature_c=61,
            margin_c=32,
            utilization_core_percent=57,
            power_w=120.5,
            throttle_mask=0x40,
        ),
        after_s=0.5,
    )
    figures = {name: figure(text, name) for name in MEASURED[:-2]}
    assert figures == {
        "temperature_celsius": 61,
        "margin_celsius": 32,
        "memory_temperature_celsius": 70,
        "memory_total_bytes": 12 * GIB,
        "memory_used_bytes": 3 * GIB,
        "utilization_ratio": 0.57,
        "power_watts": 120.5,
        "power_limit_watts": 170,
        "energy_joules_total": 1234.5,
        "fan_ratio": 0.57,
        "core_clock_hertz": 1.8e9,
        "memory_clock_hertz": 7.5e9,
    }
    assert figure(text, "sample_age_seconds") == 0.5
    assert labelled(text, "superezio_gpu_throttling", "reason") == {
        "sw_thermal_slowdown": 0,
        "hw_thermal_slowdown": 1,
        "hw_power_brake": 0,
    }
    kinds = labelled(text, "superezio_gpu_ecc_errors_total", "kind")
    assert kinds == {"corrected": 4, "uncorrected": 0}


def test_a_field_that_a_card_does_not_support_has_no_sample() -> None:
    text = told(gpu(margin_c=None, utilization_core_percent=None, throttle_mask=None))
    there = {name for name in MEASURED if f"\nsuperezio_gpu_{name}{{" in text}
    assert there == {"temperature_celsius", "memory_total_bytes", "memory_used_bytes"}
    assert figure(text, "power_watts") is None


def test_a_value_of_0_is_told() -> None:
    text = told(gpu(details={"fan_percent": 0, "ecc_corrected": 0}, utilization_core_percent=0))
    assert figure(text, "fan_ratio") == 0
    assert figure(text, "utilization_ratio") == 0
    assert labelled(text, "superezio_gpu_ecc_errors_total", "kind") == {"corrected": 0}


def test_the_last_reading_of_a_gpu_that_hangs_says_nothing_of_now() -> None:
    view = gpu(details={"fan_percent": 40}, temperature_c=61, power_w=100.0)
    text = told(replace(view, status="unknown", level="unknown"), after_s=300)
    assert [name for name in MEASURED if f"\nsuperezio_gpu_{name}{{" in text] == []
    assert labelled(text, "superezio_gpu_status", "status") == {
        "ok": 0,
        "unknown": 1,
        "lost": 0,
        "detached": 0,
    }
    assert figure(text, "sample_age_seconds") == 300


def test_a_gpu_that_was_never_read_is_there() -> None:
    text = told(replace(a_view(UUID, last_pass=None), status="unknown"))
    assert figure(text, "status", status="unknown") == 1
    assert figure(text, "sample_age_seconds") is None


def test_one_level_one_fitness_and_one_status_hold() -> None:
    text = told(replace(gpu(), level="hot", fitness="probation", cordoned=True))
    for name, label, current in (
        ("thermal_level", "level", "hot"),
        ("fitness", "fitness", "probation"),
        ("status", "status", "ok"),
    ):
        states = labelled(text, f"superezio_gpu_{name}", label)
        assert [state for state, holds in states.items() if holds] == [current]
        assert sum(states.values()) == 1
    assert figure(text, "cordoned") == 1


def test_what_a_gpu_is_is_told_once_with_1() -> None:
    text = told(gpu())
    ((labels, one),) = [
        (dict(labels), one)
        for (name, labels), one in series(text).items()
        if name == "superezio_gpu_info"
    ]
    assert one == 1
    assert labels == {
        "gpu": "0",
        "uuid": UUID,
        "name": "NVIDIA GeForce RTX 3060",
        "pci_bus_id": "00000000:01:00.0",
        "parent": "",
        "mig_profile": "",
    }


def test_of_a_mig_instance_the_memory_is_told_and_the_rest_of_its_gpu_alone() -> None:
    whole = gpu(temperature_c=61, power_w=100.0)
    mig = MigInstance(parent=UUID, index=1, gpu_instance=2, compute_instance=0, profile="1g.10gb")
    part = replace(
        gpu(temperature_c=61, vram_total_bytes=10 * GIB, vram_used_bytes=GIB),
        identity=replace(whole.identity, uuid="MIG-bbbb", mig=mig),
    )
    text = told(whole, part)
    own = {"gpu": "0:1", "uuid": "MIG-bbbb"}
    assert figure(text, "memory_total_bytes", **own) == 10 * GIB
    assert figure(text, "memory_used_bytes", **own) == GIB
    assert figure(text, "status", status="ok", **own) == 1
    assert labelled(text, "superezio_gpu_temperature_celsius", "uuid") == {UUID: 61}
    assert labelled(text, "superezio_gpu_thermal_level", "uuid").keys() == {UUID}
    assert labelled(text, "superezio_gpu_info", "parent").keys() == {"", UUID}
