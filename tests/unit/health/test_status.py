"""The line that systemctl status shows."""

from __future__ import annotations

from supereziod.gpu.hardware import Block
from supereziod.health.status import status_text
from unit.health.host import Host, gpu_view, mig_view


def test_a_healthy_host_says_what_is_open_and_what_is_leased(host: Host) -> None:
    health = host.health().evaluate()
    text = status_text(health, host.snapshot, leases=1, waiting=0)
    assert text == "healthy | 2 of 2 GPUs open to leases | 1 lease"


def test_the_gravest_reason_and_the_queue_are_in_the_line(host: Host) -> None:
    block = Block(code="hot", message="too hot")
    host.set(gpus=(gpu_view(0, level="hot", temperature=88, block=block),))
    health = host.health().evaluate()
    assert status_text(health, host.snapshot, leases=3, waiting=2) == (
        "degraded: GPU 0 (NVIDIA GeForce RTX 3060) is HOT at 88 C, margin 5 C"
        " | 0 of 1 GPU open to leases | 3 leases, 2 waiting"
    )


def test_what_does_not_degrade_is_not_the_reason_in_the_line(host: Host) -> None:
    host.set_gpu(0, cordoned=True)
    health = host.health().evaluate()
    assert status_text(health, host.snapshot, leases=0, waiting=0).startswith("healthy |")


def test_mig_instances_are_counted_instead_of_their_gpu(host: Host) -> None:
    whole = gpu_view(0, block=Block(code="mig_enabled", message="MIG is on"))
    host.set(gpus=(whole, mig_view(whole, 0, block=None), mig_view(whole, 1), gpu_view(1)))
    text = status_text(host.health().evaluate(), host.snapshot, leases=0, waiting=0)
    assert text == "healthy | 2 of 3 GPUs and MIG instances open to leases | 0 leases"
