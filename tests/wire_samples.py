"""Results as a daemon with an RTX 3060 and an RTX 2060 gives them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import structs

from superezio import wire

GIB = 1 << 30
UUID_3060 = "GPU-3060aaaa-0000-0000-0000-000000000000"
UUID_2060 = "GPU-2060bbbb-0000-0000-0000-000000000000"
TIME = "2026-11-22T10:00:00.000+00:00"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METRICS = """\
# HELP superezio_leases Leases there are, by their state.
# TYPE superezio_leases gauge
superezio_leases{state="granted"} 1.0
"""


def gpu(**changes: Any) -> wire.Gpu:
    """Return the RTX 3060, leased in part."""
    sample = wire.Gpu(
        uuid=UUID_3060,
        index=0,
        pci_bus_id="00000000:01:00.0",
        name="NVIDIA GeForce RTX 3060",
        driver_version="580.82.07",
        cuda_version="13.0",
        compute_capability="8.6",
        compute_mode="default",
        mig_mode=None,
        status="ok",
        status_reason=None,
        level="normal",
        fitness="healthy",
        cordoned=False,
        cordon_reason=None,
        admissible=True,
        blocked_reason=None,
        vram_total_bytes=12 * GIB,
        vram_used_bytes=5 * GIB,
        vram_free_bytes=7 * GIB,
        vram_driver_reserved_bytes=300 << 20,
        vram_reserved_bytes=6 * GIB,
        vram_foreign_bytes=1 * GIB,
        vram_leasable_bytes=4 * GIB,
        leases=1,
        utilization_core_percent=80,
        utilization_memory_percent=40,
        temperature_c=61,
        memory_temperature_c=None,
        slowdown_temperature_c=93,
        shutdown_temperature_c=98,
        max_temperature_c=93,
        memory_max_temperature_c=None,
        margin_c=32,
        power_w=120.5,
        power_limit_w=170.0,
        energy_j=1000.0,
        fan_percent=45,
        clock_core_mhz=1800,
        clock_memory_mhz=7500,
        throttle_reasons=[],
        ecc_enabled=None,
        ecc_corrected=None,
        ecc_uncorrected=None,
        pcie_generation=4,
        pcie_generation_max=4,
        pcie_width=16,
        pcie_width_max=16,
        sample_age_s=0.4,
        drives_display=False,
    )
    return structs.replace(sample, **changes)


def hot_gpu() -> wire.Gpu:
    """Return the RTX 2060, too hot to be leased and with little known of it."""
    return gpu(
        uuid=UUID_2060,
        index=1,
        name="NVIDIA GeForce RTX 2060",
        level="hot",
        fitness="suspect",
        cordoned=True,
        cordon_reason="new fan",
        admissible=False,
        blocked_reason="it is hot: 5 degrees to slowdown",
        vram_total_bytes=6 * GIB,
        vram_used_bytes=None,
        vram_free_bytes=None,
        vram_foreign_bytes=None,
        vram_reserved_bytes=0,
        vram_leasable_bytes=0,
        leases=0,
        temperature_c=88,
        margin_c=5,
        power_w=None,
        throttle_reasons=None,
        sample_age_s=None,
        drives_display=None,
    )


def mig_gpus() -> list[wire.Gpu]:
    """Return an A100 that MIG cuts up, and its instances: one leased, one that cannot be read."""
    whole = gpu(
        uuid="GPU-a100cccc-0000-0000-0000-000000000000",
        index=2,
        name="NVIDIA A100-SXM4-80GB",
        mig_mode="enabled",
        admissible=False,
        blocked_reason="MIG is on: its instances can be leased, the whole cannot",
        vram_total_bytes=80 * GIB,
        vram_reserved_bytes=0,
        vram_leasable_bytes=0,
        leases=0,
        utilization_core_percent=None,
    )
    part = structs.replace(
        whole,
        uuid="MIG-2f86dddd-0000-0000-0000-000000000000",
        name="NVIDIA A100-SXM4-80GB MIG 1g.10gb",
        mig_mode=None,
        admissible=True,
        blocked_reason=None,
        vram_total_bytes=10 * GIB,
        vram_reserved_bytes=6 * GIB,
        vram_leasable_bytes=3 * GIB,
        leases=1,
        power_w=None,
        parent=whole.uuid,
        mig_profile="1g.10gb",
        mig_index=0,
    )
    unreadable = structs.replace(
        part,
        uuid="MIG-30eeeeee-0000-0000-0000-000000000000",
        mig_mode="no_permission",
        mig_index=1,
        status="unknown",
        status_reason="no permission to read MIG",
        admissible=False,
        blocked_reason="no permission to read MIG",
        vram_total_bytes=None,
        vram_used_bytes=None,
        vram_free_bytes=None,
        vram_reserved_bytes=0,
        vram_leasable_bytes=0,
        leases=0,
    )
    return [whole, part, unreadable]


def gpu_list() -> wire.GpuList:
    return wire.GpuList(gpus=[gpu(), hot_gpu()])


def lease(**changes: Any) -> wire.Lease:
    """Return a lease of 6 GiB on the RTX 3060."""
    sample = wire.Lease(
        id="1ea5e",
        state="active",
        mode="process",
        uid=0,
        name="trainer",
        policy="best_fit",
        priority=0,
        gpus=[wire.LeaseGpu(uuid=UUID_3060, index=0, reserved_bytes=6 * GIB, actual_bytes=4 * GIB)],
        holder=[wire.HolderProcess(pid=4711, start_time=99, command="python")],
        holder_confirmed=True,
        environment={
            "CUDA_VISIBLE_DEVICES": UUID_3060,
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "NVIDIA_VISIBLE_DEVICES": UUID_3060,
        },
        placement=None,
        correlation_id="c0ffee",
        granted_at=TIME,
        age_s=75.0,
    )
    return structs.replace(sample, **changes)


def waiter(**changes: Any) -> wire.Waiter:
    sample = wire.Waiter(
        id="wa17",
        position=1,
        uid=4242424,
        name="nightly",
        vram_bytes=8 * GIB,
        count=1,
        policy="best_fit",
        priority=0,
        waited_s=12.0,
        remaining_s=48.0,
        reason="gpu 0 has 4.0 GiB free and gpu 1 is hot",
        code="insufficient_vram",
    )
    return structs.replace(sample, **changes)


def lease_list() -> wire.LeaseList:
    return wire.LeaseList(leases=[lease()], queue=[waiter()])


def health(verdict: wire.Verdict = "degraded") -> wire.Health:
    reason = wire.HealthReason(
        check="gpu_hot",
        severity="critical" if verdict == "unhealthy" else "warning",
        message="gpu 1 is hot: 88 °C",
        action="look at its fan",
        since_s=90.0,
        gpu=UUID_2060,
    )
    check = wire.CheckState(
        check="driver",
        passing=True,
        visible=False,
        severity="warning",
        message="the driver answers",
        hidden_by=None,
        gpu=None,
    )
    hidden = structs.replace(check, check="probe", passing=False, hidden_by="driver")
    return wire.Health(
        verdict=verdict,
        reasons=[] if verdict == "healthy" else [reason],
        checks=[check, hidden, structs.replace(check, check="gpu_hot", passing=False)],
        watchdog_enabled=True,
        watchdog_withheld=verdict == "unhealthy",
    )


def system_info() -> wire.SystemInfo:
    return wire.SystemInfo(
        version="0.1.0",
        protocol=1,
        pid=77,
        started_at=TIME,
        uptime_s=3600.0,
        gpu_driver="simulated",
        driver_version="580.82.07",
        cuda_version="13.0",
        socket="/run/superezio/control.sock",
        runtime_dir="/run/superezio",
        state_dir="/var/lib/superezio",
        config_files=[],
        log_level="info",
        uid=0,
        role="admin",
        connections=1,
        requests=2,
    )


def placement(decision: str = "grant") -> wire.Placement:
    granted = decision == "grant"
    chosen = wire.GpuReason(
        uuid=UUID_3060,
        index=0,
        name="NVIDIA GeForce RTX 3060",
        admitted=granted,
        chosen=granted,
        code="chosen" if granted else "too_little_free",
        message="the fullest that fits" if granted else "4.0 GiB free of 8.0 GiB",
        free_bytes=4 * GIB,
        needed_bytes=3 * GIB,
        foreign_bytes=GIB,
        reserved_bytes=6 * GIB,
    )
    passed_over = structs.replace(
        chosen,
        uuid=UUID_2060,
        index=1,
        name="NVIDIA GeForce RTX 2060",
        admitted=False,
        chosen=False,
        code="hot",
        message="it is hot",
    )
    return wire.Placement(
        decision=decision,  # type: ignore[arg-type]
        policy="best_fit",
        vram_bytes=3 * GIB,
        count=1,
        chosen=[UUID_3060] if granted else [],
        gpus=[chosen, passed_over],
        summary="gpu 0 is the fullest that fits" if granted else "no GPU has 8.0 GiB",
    )


def cache_stats() -> wire.CacheStats:
    counted = dict.fromkeys(wire.CacheCounters.__struct_fields__, 0)
    own = wire.CacheNamespace(
        namespace="embeddings",
        uid=1000,
        shared=False,
        used_bytes=3 << 20,
        max_bytes=64 << 20,
        entries=900,
        max_entries=50_000,
        fills=1,
        waiting=4,
        counters=wire.CacheCounters(**{**counted, "hits": 750, "misses": 240, "stale_served": 10}),
    )
    return wire.CacheStats(
        used_bytes=5 << 20,
        max_bytes=256 << 20,
        entries=1200,
        max_entries=200_000,
        namespaces=[own],
    )


def quotas() -> wire.QuotaList:
    own = wire.QuotaUse(
        scope="user",
        name="0",
        vram_limit_bytes=None,
        vram_used_bytes=6 * GIB,
        leases_limit=4,
        leases_used=1,
    )
    return wire.QuotaList(exempt=False, quotas=[own])


def event(seq: int = 1, **changes: Any) -> wire.Event:
    sample = wire.Event(
        seq=seq,
        time=TIME,
        type="lease.granted",
        severity="info",
        message=f"lease number {seq} was granted",
        gpu=UUID_3060,
        lease="1ea5e",
        uid=0,
        correlation_id="c0ffee",
        data={"pid": 4711},
    )
    return structs.replace(sample, **changes)


def notification(seq: int = 1, *, lost: int = 0, **changes: Any) -> wire.EventNotification:
    return wire.EventNotification(subscription="5b", event=event(seq, **changes), lost=lost)


def limit_state(**changes: Any) -> wire.LimitState:
    """A limit that is shared, with a budget of each kind that there is."""
    tokens = wire.LimitBudget(
        scope="host",
        scope_name="",
        dimension="tokens",
        available=88_100,
        burst=90_000,
        limit=90_000,
        period_ms=60_000,
        in_use=None,
        blocked_ms=12_000,
    )
    values: dict[str, Any] = {
        "name": "openai",
        "uid": None,
        "shared": True,
        "currency": "USD",
        "budgets": [
            tokens,
            msgspec.structs.replace(
                tokens,
                scope="key",
                scope_name="acme",
                dimension="money",
                limit=10_000_000,
                burst=2_500_000,
                available=1_234_500,
                period_ms=3_600_000,
                blocked_ms=None,
            ),
            msgspec.structs.replace(
                tokens,
                scope="user",
                scope_name="0",
                dimension="concurrency",
                available=1,
                burst=4,
                limit=None,
                period_ms=None,
                in_use=3,
                blocked_ms=None,
            ),
        ],
        "spend": [
            wire.SpendWindow(
                scope="host",
                scope_name="",
                window="month",
                key="2026-11",
                spent_micros=150_500_000,
                cap_micros=200_000_000,
            )
        ],
        "reservations": 3,
        "waiters": 2,
    }
    return wire.LimitState(**{**values, **changes})


def subscribed(next_seq: int = 1, replay: list[wire.Event] | None = None) -> wire.SubscribeResult:
    return wire.SubscribeResult(subscription="5b", next_seq=next_seq, replay=replay or [])


def history() -> wire.GpuHistory:
    points = [
        wire.HistoryPoint(age_s=float(age), min=50.0, mean=50.0 + age / 10, max=70.0)
        for age in range(300, 0, -1)
    ]
    return wire.GpuHistory(
        gpu=UUID_3060,
        resolution_s=1.0,
        temperature_c=points,
        power_w=points[:3],
        utilization_core_percent=[],
        vram_used_bytes=[
            wire.HistoryPoint(age_s=1.0, min=GIB, mean=GIB, max=2 * GIB),
        ],
    )


def health_at_start() -> wire.Health:
    """Return the health of a host whose GPUs have not been read yet."""
    check = wire.CheckState(
        check="starting",
        passing=False,
        visible=False,
        severity="info",
        message="the first readings are not in yet",
        hidden_by=None,
        gpu=None,
    )
    return structs.replace(health("healthy"), checks=[check])


def cordon_change() -> wire.CordonChange:
    shown = gpu()
    return wire.CordonChange(
        done=True,
        gpu=shown.uuid,
        index=shown.index,
        mig_index=None,
        name=shown.name,
        recorded=True,
    )


def processes() -> wire.GpuProcessList:
    mine = wire.GpuProcess(
        gpu=UUID_3060,
        pid=4711,
        type="C",
        vram_bytes=4 * GIB,
        user="alice",
        uid=1000,
        command="python train.py",
        unit="train.service",
        container=None,
        lease="1ea5e",
    )
    others = structs.replace(
        mine, pid=4712, vram_bytes=None, user=None, uid=None, command=None, unit=None, lease=None
    )
    return wire.GpuProcessList(processes=[mine, others])


def trace_record(**changes: Any) -> wire.TraceRecord:
    """Return a lease that was waited for."""
    gpu_then = wire.TraceGpu(
        uuid=UUID_3060,
        index=0,
        temperature_c=61,
        margin_c=32,
        vram_used_bytes=5 * GIB,
        vram_total_bytes=12 * GIB,
        utilization_core_percent=80,
        age_ms=400,
    )
    sample = wire.TraceRecord(
        correlation_id="job-17",
        session_id="5e55",
        connection="00c0ffee00c0ffee",
        number=3,
        uid=0,
        pid=4711,
        method="lease.acquire",
        outcome="ok",
        received_at="2026-11-22T10:00:00.000000+00:00",
        received_ns=1_000_000_000,
        boot_id="b007",
        duration_ms=1234.5,
        marks=[
            wire.TraceMark(name="queued", after_ms=0.3),
            wire.TraceMark(name="granted", after_ms=1234.1),
        ],
        lease="1ea5e",
        gpu=UUID_3060,
        trace_id="0af7651916cd43dd8448eb211c80319c",
        parent_id="b7ad6b7169203331",
        gpus=[gpu_then],
    )
    return structs.replace(sample, **changes)


def trace() -> wire.Trace:
    """Return a lease that was waited for, what its client did with it, and its release."""
    released = trace_record(
        number=4,
        method="lease.release",
        received_at="2026-11-22T10:00:03.000000+00:00",
        duration_ms=0.2,
        marks=[],
        gpus=[],
    )
    span = wire.TraceSpan(
        correlation_id="job-17",
        uid=0,
        pid=4711,
        name="load the model",
        started_at="2026-11-22T10:00:01.300000+00:00",
        started_ns=2_300_000_000,
        boot_id="b007",
        duration_ms=1500.0,
        attributes={"file": "llama.gguf", "layers": 33},
        trace_id=None,
    )
    return wire.Trace(
        id="job-17", records=[trace_record(), released], spans=[span], truncated=False
    )


def trace_summary(number: int = 1, **changes: Any) -> wire.TraceSummary:
    sample = wire.TraceSummary(
        correlation_id=f"00c0ffee00c0ffee.{number}",
        session_id="5e55",
        uid=0,
        pid=4711,
        method="system.ping",
        outcome="ok",
        received_at="2026-11-22T10:00:00.000000+00:00",
        duration_ms=None,
        lease=None,
        gpu=None,
        trace_id=None,
    )
    return structs.replace(sample, **changes)


def traces() -> wire.TraceList:
    failed = trace_summary(
        correlation_id="job-18", method="lease.acquire", outcome="no_capacity", duration_ms=2.5
    )
    return wire.TraceList(requests=[failed, trace_summary()])


def discovered() -> dict[str, Any]:
    return {
        "openrpc": "1.3.2",
        "methods": [
            {
                "name": "gpu.list",
                "summary": "Every GPU",
                "x-access": {"role": "observer", "visibility": "public"},
            },
            {
                "name": "lease.acquire",
                "summary": "Ask for VRAM",
                "x-access": {"role": "user", "visibility": "own"},
            },
            {
                "name": "gpu.cordon",
                "summary": "Keep new leases off a GPU",
                "x-access": {"role": "admin", "visibility": "public"},
            },
        ],
    }


def breaker(**changes: Any) -> wire.Breaker:
    """Return the breaker of a service that fails."""
    sample = wire.Breaker(
        name="openai",
        uid=None,
        shared=True,
        state="open",
        state_s=4.5,
        retry_after_ms=25_500,
        calls=20,
        failures=12,
        slow_calls=1,
        failure_rate=0.6,
        slow_call_rate=0.05,
        permits=2,
        rejected=40,
        generation=2,
        rules=wire.BreakerRules(
            window_calls=100,
            minimum_calls=20,
            failure_rate=0.5,
            slow_call_rate=1.0,
            slow_call_s=60.0,
            open_s=30.0,
            open_limit_s=300.0,
            half_open_calls=3,
            healthy_interval_s=60.0,
            permit_s=600.0,
            block_limit_s=900.0,
        ),
    )
    return structs.replace(sample, **changes)


def breakers() -> wire.BreakerList:
    """Return it, and one of a user's own that is well."""
    own = breaker(
        name="mine/llm",
        uid=1000,
        shared=False,
        state="closed",
        retry_after_ms=None,
        failures=0,
        slow_calls=0,
        failure_rate=0.0,
        slow_call_rate=0.0,
        rejected=0,
        generation=1,
    )
    return wire.BreakerList(breakers=[own, breaker()])


def config_values() -> wire.ConfigValues:
    """Return a key of a file, one of the environment, and one that nobody has set."""
    return wire.ConfigValues(
        values=[
            wire.ConfigValue(
                key="leases.grace",
                path=["leases", "grace"],
                value="10s",
                default="5s",
                origin=wire.ConfigOrigin(place="file", name="/etc/x.toml", line=2),
                live=False,
            ),
            wire.ConfigValue(
                key='breaker.shared."a b".window',
                path=["breaker", "shared", "a b", "window"],
                value=None,
                default=None,
                origin=wire.ConfigOrigin(place="default", name=None, line=None),
                live=True,
            ),
            wire.ConfigValue(
                key='breaker.shared."a b".groups',
                path=["breaker", "shared", "a b", "groups"],
                value=["ai", 'a "b"'],
                default=[],
                origin=wire.ConfigOrigin(
                    place="environment", name="SUPEREZIO__BREAKER__SHARED__X__GROUPS", line=None
                ),
                live=True,
            ),
        ],
        config_files=["/etc/x.toml"],
        read_at="2026-01-01T00:00:00.000+00:00",
        restart_required=["leases.queue"],
        fault=None,
    )


def everything() -> dict[str, Any]:
    """Return an answer for each method."""
    return {
        "system.ping": wire.Pong(pid=77, uptime_s=3600.0),
        "system.info": system_info(),
        "system.reload": wire.ReloadResult(
            applied=["log.level"], restart_required=["socket"], config_files=["/etc/x.toml"]
        ),
        "config.get": config_values(),
        "config.diff": wire.ConfigDiff(
            changes=[
                wire.ConfigChange(
                    key="leases.grace",
                    path=["leases", "grace"],
                    old="5s",
                    new="10s",
                    origin=wire.ConfigOrigin(place="file", name="/etc/x.toml", line=2),
                    live=False,
                ),
                wire.ConfigChange(
                    key="logging.level",
                    path=["logging", "level"],
                    old="debug",
                    new="info",
                    origin=wire.ConfigOrigin(place="default", name=None, line=None),
                    live=True,
                ),
            ],
            config_files=["/etc/x.toml"],
            warnings=["/etc/x.toml:4: access.users: this host has no user bob"],
        ),
        "system.log_level": wire.LogLevelResult(level="debug", previous="info"),
        "health.get": health(),
        "metrics.get": wire.MetricsText(content_type=METRICS_TYPE, text=METRICS),
        "gpu.list": gpu_list(),
        "gpu.get": gpu(),
        "gpu.history": history(),
        "gpu.processes": processes(),
        "gpu.cordon": cordon_change(),
        "gpu.uncordon": cordon_change(),
        "gpu.detach": wire.ProbeState(attached=False),
        "gpu.attach": wire.ProbeState(attached=True),
        "lease.acquire": lease(),
        "lease.attach": lease(),
        "lease.resume": lease(),
        "lease.release": wire.ReleaseResult(lease="1ea5e", released=True),
        "lease.cancel": wire.Done(done=True),
        "lease.list": lease_list(),
        "lease.quota": quotas(),
        "cache.get": wire.CacheAnswer(status="hit", text="v", age_ms=1),
        "cache.set": wire.CacheStored(accepted=True, stored=True),
        "cache.fail": wire.CacheFailed(accepted=True),
        "cache.delete": wire.CacheDeleted(entries=1),
        "cache.clear": wire.CacheDeleted(entries=2),
        "cache.stats": cache_stats(),
        "lease.get": lease(),
        "placement.explain": placement(),
        "limit.acquire": wire.LimitReservation(
            name="openai", reservation=7, shared=True, waited_ms=0
        ),
        "limit.settle": wire.LimitSettlement(settled=True),
        "limit.peek": limit_state(),
        "limit.list": wire.LimitList(limits=[limit_state()]),
        "limit.reset": wire.Done(done=True),
        "events.subscribe": subscribed(),
        "events.unsubscribe": wire.Done(done=True),
        "session.open": wire.SessionOpened(session_id="5e55", token="70ce", resumed=False),
        "session.close": wire.Done(done=True),
        "session.list": wire.SessionList(sessions=[]),
        "trace.get": trace(),
        "trace.find": traces(),
        "trace.annotate": wire.Done(done=True),
        "rpc.discover": discovered(),
        "rpc.cancel": wire.Done(done=True),
        "breaker.acquire": wire.BreakerPermit(
            name="openai", permit=7, state="closed", shared=True, expires_in_ms=600_000
        ),
        "breaker.settle": wire.BreakerSettlement(effect="settled", state="closed"),
        "breaker.get": breaker(),
        "breaker.list": breakers(),
        "breaker.force_open": breaker(state="forced_open"),
        "breaker.disable": breaker(state="disabled"),
        "breaker.reset": breaker(state="closed", retry_after_ms=None),
    }
