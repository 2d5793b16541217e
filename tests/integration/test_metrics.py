"""The metrics of a real daemon: what it says elsewhere, as Prometheus reads it."""

from __future__ import annotations

import math
import shutil
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from live_daemon import LiveDaemon
from markdown_blocks import commands
from metrics_lint import labelled, problems, value
from page_shell import installed_in, type_from_the_top
from superezio.client import Client
from superezio.errors import BreakerOpenError
from superezio.wire import BreakerState, Gpu
from supereziod.rpc.metrics_page import SECTIONS

pytestmark = pytest.mark.installed

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
GIB = 1 << 30
#: A reading a second: two questions are between two readings soon.
TRIES = 50
SERVICES = """
[breaker.shared.openai]
everyone = true
minimum_calls = 1
open = "2m"
[limit.shared.openai]
everyone = true
[limit.shared.openai.host]
tokens = "1000/1h"
money = "5/1h"
money_per_day = "2.00"
money_per_month = "20.00"
[limit.shared.openai.user]
tokens = "900/1h"
[cache.shared.common]
everyone = true
"""
LEASES = 1000
#: Of the median, on a machine that does other things besides.
WITHIN_MS = 40.0


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[LiveDaemon]:
    made = LiveDaemon(tmp_path / "daemon")
    try:
        yield made.start()
    finally:
        made.close()


def beside(client: Client) -> tuple[list[Gpu], str]:
    """Return the GPUs and the metrics of one and the same reading."""
    for _ in range(TRIES):
        before = client.gpu_list().gpus
        text = client.metrics_get().text
        if _measured(before) == _measured(client.gpu_list().gpus):
            return before, text
    raise AssertionError("the figures never stood still")


def test_the_figures_are_those_of_the_other_methods(daemon: LiveDaemon) -> None:
    with daemon.client() as client:
        lease = client.lease_acquire("4GiB", wait="30s", name="secret-name")
        client.gpu_cordon("1", reason="new fan")
        gpus, text = beside(client)
        health = client.health_get()
    assert problems(text) == []
    assert len(gpus) == 2
    for gpu in gpus:
        assert _of_gpu(text, gpu) == _expected(gpu)
        names = {"thermal_level": gpu.level, "fitness": gpu.fitness, "status": gpu.status}
        for name, current in names.items():
            assert _state(text, f"superezio_gpu_{name}", gpu) == current
    verdicts = labelled(text, "superezio_health_verdict", "verdict")
    assert [verdict for verdict, holds in verdicts.items() if holds] == [health.verdict]
    failing = labelled(text, "superezio_health_check_failing", "check")
    assert failing == {
        each.check: each.check in {reason.check for reason in health.reasons}
        for each in health.checks
    }
    assert labelled(text, "superezio_leases", "state")["granted"] == 1
    events = labelled(text, "superezio_events_total", "type")
    assert (events["lease.granted"], events["gpu.cordoned"], events["daemon.started"]) == (1, 1, 1)
    assert events["other"] == 0
    for personal in (lease.id, "secret-name", str(daemon.pid)):
        assert personal not in text


def test_what_is_told_of_services_is_what_their_methods_say(tmp_path: Path) -> None:
    made = LiveDaemon(tmp_path / "daemon", config=SERVICES)
    try:
        with made.start().client() as client:
            _use_services(client)
            breakers = client.breaker_list().breakers
            (limit,) = client.limit_list().limits
            cache = client.cache_stats()
            sessions = client.session_list().sessions
            text = client.metrics_get().text
    finally:
        made.close()
    assert problems(text) == []
    (shared,) = [each for each in breakers if each.shared]
    assert (shared.state, shared.rejected) == ("open", 2)
    states = labelled(text, "superezio_breaker_state", "state")
    assert [state for state, holds in states.items() if holds] == [shared.state]
    rejected = value(text, "superezio_breaker_rejected_total", breaker="openai")
    assert rejected == shared.rejected
    own = Counter(each.state for each in breakers if not each.shared)
    assert labelled(text, "superezio_breakers", "state") == {
        state: own[state] for state in get_args(BreakerState)
    }
    host = {each.dimension: each for each in limit.budgets if each.scope == "host"}
    for dimension, budget in host.items():
        unit = 1_000_000 if dimension == "money" else 1
        for name, amount in (("available", budget.available), ("burst", budget.burst)):
            told = labelled(text, f"superezio_limit_{name}", "dimension")[dimension]
            assert told == pytest.approx(amount / unit, rel=0.01)
    assert set(labelled(text, "superezio_limit_available", "dimension")) == set(host)
    for window in limit.spend:
        of_window = {"limit": "openai", "window": window.window}
        spent = value(text, "superezio_limit_spent", **of_window)
        assert spent == window.spent_micros / 1_000_000 == 0.25
        assert value(text, "superezio_limit_cap", **of_window) == window.cap_micros / 1_000_000
    assert value(text, "superezio_limit_reservations_open") == limit.reservations == 1
    assert value(text, "superezio_limit_reservations_total") == 2
    assert value(text, "superezio_cache_bytes") == cache.used_bytes
    assert value(text, "superezio_cache_entries") == cache.entries == 2
    counted = [each.counters for each in cache.namespaces]
    for name in ("hits", "misses", "coalesced"):
        assert value(text, f"superezio_cache_{name}_total") == sum(
            getattr(each, name) for each in counted
        )
    (common,) = [each for each in cache.namespaces if each.shared]
    hits = value(text, "superezio_cache_namespace_hits_total", namespace="common")
    assert hits == common.counters.hits == 1
    assert value(text, "superezio_sessions_open") == 1
    assert value(text, "superezio_sessions_implied") == sum(each.implied for each in sessions)
    written = value(text, "superezio_recorder_records_total")
    assert written is not None
    assert written >= 15
    assert "secret" not in text


def _use_services(client: Client) -> None:
    """Have a breaker open, a limit used and values cached: shared ones, and some of one's own."""
    permit = client.breaker_acquire("openai").permit
    client.breaker_settle("openai", permit, "failure")
    for _ in range(2):
        with pytest.raises(BreakerOpenError):
            client.breaker_acquire("openai")
    client.breaker_acquire("secret-1")
    client.breaker_force_open("secret-2")
    client.limit_acquire("openai", tokens=200, money_micros=200_000)
    settled = client.limit_acquire("openai", tokens=10, money_micros=60_000)
    client.limit_settle(settled.reservation, tokens=5, money_micros=50_000)
    for namespace in ("common", "secret-3"):
        client.cache_set(namespace, "k", "v", ttl=60)
        client.cache_get(namespace, "k")
        client.cache_get(namespace, "none")
    client.session_open(name="secret-4")


def test_what_a_geforce_does_not_support_is_left_out(daemon: LiveDaemon) -> None:
    with daemon.client() as client:
        gpus, text = beside(client)
    assert {gpu.ecc_corrected for gpu in gpus} == {None}
    assert {gpu.memory_temperature_c for gpu in gpus} == {None}
    assert "\nsuperezio_gpu_ecc_errors_total{" not in text
    assert "\nsuperezio_gpu_memory_temperature_celsius{" not in text
    assert "\nsuperezio_gpu_temperature_celsius{" in text


def test_the_daemon_says_what_the_page_says(daemon: LiveDaemon) -> None:
    with daemon.client() as client:
        text = client.metrics_get().text
    said = {
        (f"{each.name}_total" if each.type == "counter" else each.name, each.type)
        for each in text_string_to_metric_families(text)
    }
    assert said == {(each.name, each.kind) for group in SECTIONS.values() for each in group}


@pytest.mark.timeout(60)
def test_the_commands_of_the_page_run_from_the_top(tmp_path: Path) -> None:
    printed = type_from_the_top(
        commands(PAGE, "$ "),
        directory=tmp_path,
        environment=installed_in(tmp_path),
        within_s=50,
    )
    assert printed.count("superezio_gpu_temperature_celsius{") == 2
    assert "\nsuperezio_up 1.0\n" in printed


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_nothing_to_say(daemon: LiveDaemon) -> None:
    with daemon.client() as client:
        text = client.metrics_get().text
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_one_waits_long_for_the_metrics_of_8_gpus_and_1000_leases(tmp_path: Path) -> None:
    scenario = '[[gpu]]\nprofile = "RTX 4090"\n' * 8
    made = LiveDaemon(tmp_path / "daemon", scenario=scenario)
    try:
        with made.start().client() as client:
            first_ms = _took_ms(client)
            for _ in range(LEASES):
                client.lease_acquire("64MiB", mode="connection", wait="30s")
            took_ms = [_took_ms(client) for _ in range(100)]
            text = client.metrics_get().text
    finally:
        made.close()
    print(
        f"\nmetrics.get: the first {first_ms:.0f} ms, then {min(took_ms):.1f} ms at best,"
        f" {statistics.median(took_ms):.1f} ms in the median, {len(text)} bytes"
    )
    assert problems(text) == []
    assert math.fsum(labelled(text, "superezio_leases", "state").values()) == LEASES
    assert math.fsum(labelled(text, "superezio_gpu_leases", "gpu").values()) == LEASES
    assert len(labelled(text, "superezio_gpu_temperature_celsius", "uuid")) == 8
    assert statistics.median(took_ms) < WITHIN_MS


def _took_ms(client: Client) -> float:
    before_ns = time.perf_counter_ns()
    client.metrics_get()
    return (time.perf_counter_ns() - before_ns) / 1e6


def _measured(gpus: list[Gpu]) -> list[object]:
    return [(gpu.uuid, gpu.level, gpu.status, _expected(gpu)) for gpu in gpus]


def _expected(gpu: Gpu) -> dict[str, float | None]:
    return {
        "gpu_temperature_celsius": gpu.temperature_c,
        "gpu_margin_celsius": gpu.margin_c,
        "gpu_memory_total_bytes": gpu.vram_total_bytes,
        "gpu_memory_used_bytes": gpu.vram_used_bytes,
        "gpu_utilization_ratio": _ratio(gpu.utilization_core_percent),
        "gpu_power_watts": gpu.power_w,
        "gpu_power_limit_watts": gpu.power_limit_w,
        "gpu_fan_ratio": _ratio(gpu.fan_percent),
        "gpu_cordoned": gpu.cordoned,
        "gpu_admissible": gpu.admissible,
        "gpu_leases": gpu.leases,
        "lease_reserved_bytes": gpu.vram_reserved_bytes,
        "gpu_foreign_bytes": gpu.vram_foreign_bytes,
        "gpu_leasable_bytes": gpu.vram_leasable_bytes,
    }


def _of_gpu(text: str, gpu: Gpu) -> dict[str, float | None]:
    labels = {"gpu": str(gpu.index), "uuid": gpu.uuid}
    return {name: value(text, f"superezio_{name}", **labels) for name in _expected(gpu)}


def _ratio(percent: int | None) -> float | None:
    return None if percent is None else percent / 100


def _state(text: str, name: str, gpu: Gpu) -> str | None:
    label = {"superezio_gpu_thermal_level": "level"}.get(name, name.removeprefix("superezio_gpu_"))
    own = "".join(line + "\n" for line in text.splitlines() if gpu.uuid in line)
    holding = [state for state, holds in labelled(own, name, label).items() if holds]
    return holding[0] if len(holding) == 1 else None
