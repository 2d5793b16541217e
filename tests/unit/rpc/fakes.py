"""The parts behind the control plane, as data: no behaviour of theirs is tested here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from superezio import errors, wire
from superezio.wire import (
    AcquireParams,
    Breaker,
    BreakerList,
    BreakerPermit,
    BreakerSettlement,
    CacheAnswer,
    CacheDeleted,
    CacheDeleteParams,
    CacheFailed,
    CacheFailParams,
    CacheGetParams,
    CacheNamespaceParams,
    CacheSetParams,
    CacheStats,
    CacheStored,
    Done,
    GpuHistory,
    Health,
    Lease,
    LeaseAcknowledgeParams,
    LeaseAttachParams,
    LeaseList,
    LeaseRenewParams,
    LeaseRevokeParams,
    LimitAcquireParams,
    LimitList,
    LimitParams,
    LimitReservation,
    LimitResetParams,
    LimitSettleParams,
    LimitState,
    Placement,
    PlacementParams,
    QuotaList,
    ReleaseResult,
)
from supereziod.gpu.hardware import (
    Block,
    DriverInfo,
    GpuIdentity,
    GpuSample,
    GpuView,
    MigInstance,
    ProcessUse,
    Snapshot,
)
from supereziod.leases.handles import Caller
from supereziod.resilience.breaker_administration import Who
from supereziod.resilience.breakers import Request
from supereziod.resilience.cache_namespaces import CacheCaller
from supereziod.rpc.peers import Peer
from supereziod.rpc.replies import encode
from supereziod.rpc.requests import RequestContext

GIB = 1 << 30
TAKEN_NS = 5_000_000_000


def gpu_view(
    index: int,
    uuid: str,
    *,
    processes: tuple[ProcessUse, ...] = (),
    sampled: bool = True,
    block: Block | None = None,
    throttle_mask: int | None = 0,
    mig: MigInstance | None = None,
) -> GpuView:
    sample = GpuSample(
        uuid=uuid,
        taken_ns=TAKEN_NS,
        vram_total_bytes=12 * GIB,
        vram_used_bytes=2 * GIB,
        vram_free_bytes=10 * GIB,
        vram_driver_reserved_bytes=None,
        utilization_core_percent=50,
        utilization_memory_percent=None,
        temperature_c=60,
        margin_c=33,
        margin_source="threshold",
        power_w=100.0,
        throttle_mask=throttle_mask,
        processes=processes,
    )
    identity = GpuIdentity(
        uuid=uuid,
        index=index,
        pci_bus_id=f"00000000:0{index}:00.0",
        name="NVIDIA GeForce RTX 3060",
        compute_capability="8.6",
        vram_total_bytes=12 * GIB,
        slowdown_temperature_c=93,
        shutdown_temperature_c=98,
        max_temperature_c=93,
        memory_max_temperature_c=None,
        mig=mig,
    )
    return GpuView(
        identity=identity,
        status="ok" if sampled else "unknown",
        status_reason=None,
        sample=sample if sampled else None,
        last_pass=sample if sampled else None,
        details=None,
        level="normal",
        fitness="healthy",
        cordoned=False,
        cordon_reason=None,
        block=block,
    )


def mig_view(parent: GpuView, mig_index: int, uuid: str, **fields: Any) -> GpuView:
    """Return an instance that MIG has cut out of a GPU."""
    mig = MigInstance(
        parent=parent.uuid,
        index=mig_index,
        gpu_instance=mig_index + 1,
        compute_instance=0,
        profile="1g.10gb",
    )
    return gpu_view(parent.identity.index, uuid, mig=mig, **fields)


def snapshot_of(*views: GpuView, attached: bool = True) -> Snapshot:
    driver = DriverInfo(
        driver="simulated", driver_version="580.1", cuda_version="13.0", gpu_count=len(views)
    )
    return Snapshot(
        taken_ns=TAKEN_NS,
        ready=True,
        attached=attached,
        driver=driver,
        driver_fault=None,
        gpus=views,
    )


class FakeMonitor:
    def __init__(self, *views: GpuView) -> None:
        self.views = views
        self.attached = True
        self.cordoned: dict[str, str] = {}
        self.has_room = True

    def snapshot(self) -> Snapshot:
        return snapshot_of(*self.views, attached=self.attached)

    def history(self, uuid: str, *, since_s: float) -> GpuHistory:
        return GpuHistory(
            gpu=uuid,
            resolution_s=since_s,
            temperature_c=[],
            power_w=[],
            utilization_core_percent=[],
            vram_used_bytes=[],
        )

    def cordon(self, uuid: str, *, reason: str) -> bool:
        changed = uuid not in self.cordoned
        self.cordoned[uuid] = reason
        return changed

    def uncordon(self, uuid: str) -> bool:
        return self.cordoned.pop(uuid, None) is not None

    def records_cordons(self) -> bool:
        return self.has_room

    async def detach(self) -> bool:
        self.attached = False
        return True

    async def attach(self) -> bool:
        self.attached = True
        return True


class FakeUsage(Struct, frozen=True, kw_only=True):
    reserved_bytes: int = 3 * GIB
    foreign_bytes: int | None = GIB
    leasable_bytes: int = 8 * GIB
    taken: str | None = None
    leases: int = 1
    lease_of_pid: dict[int, str] = {}


def lease_of(caller: Caller, lease_id: str = "lease-1") -> Lease:
    return Lease(
        id=lease_id,
        state="granted",
        mode="process",
        uid=caller.uid,
        name=None,
        policy="best_fit",
        priority=0,
        gpus=[],
        holder=[],
        holder_confirmed=True,
        environment={},
        placement=None,
        correlation_id=None,
        granted_at="2026-01-01T00:00:00Z",
        age_s=0.0,
    )


class FakeLeases:
    """Grants everything; remembers who asked for what."""

    def __init__(self) -> None:
        self.usages: dict[str, FakeUsage] = {}
        self.calls: list[tuple[str, Caller, object]] = []
        self.keys: list[str | None] = []
        self.closed: list[str] = []

    def usage(self) -> Mapping[str, FakeUsage]:
        return self.usages

    def connection_closed(self, connection: str) -> None:
        self.closed.append(connection)

    def acquire(
        self, caller: Caller, params: AcquireParams, *, idempotency_key: str | None
    ) -> Lease | Awaitable[Lease]:
        self.calls.append(("acquire", caller, params))
        self.keys.append(idempotency_key)
        return lease_of(caller)

    def attach(self, caller: Caller, params: LeaseAttachParams) -> Lease:
        self.calls.append(("attach", caller, params))
        return lease_of(caller, params.lease)

    def resume(self, caller: Caller, lease_id: str) -> Lease:
        self.calls.append(("resume", caller, lease_id))
        return lease_of(caller, lease_id)

    def renew(self, caller: Caller, params: LeaseRenewParams) -> Lease:
        self.calls.append(("renew", caller, params))
        return lease_of(caller, params.lease)

    def mark_ready(self, caller: Caller, lease_id: str) -> Lease:
        self.calls.append(("ready", caller, lease_id))
        return lease_of(caller, lease_id)

    def revoke(self, caller: Caller, params: LeaseRevokeParams) -> Lease:
        self.calls.append(("revoke", caller, params))
        return lease_of(caller, params.lease)

    def acknowledge(self, caller: Caller, params: LeaseAcknowledgeParams) -> Lease:
        self.calls.append(("acknowledge", caller, params))
        return lease_of(caller, params.lease)

    def release(self, caller: Caller, lease_id: str) -> ReleaseResult:
        self.calls.append(("release", caller, lease_id))
        return ReleaseResult(lease=lease_id, released=True)

    def cancel(self, caller: Caller, waiter_id: str) -> Done:
        self.calls.append(("cancel", caller, waiter_id))
        return Done(done=True)

    def list(self, caller: Caller) -> LeaseList:
        return LeaseList(leases=[lease_of(caller)], queue=[])

    def get(self, caller: Caller, lease_id: str) -> Lease:
        return lease_of(caller, lease_id)

    def quotas_of(self, caller: Caller) -> QuotaList:
        self.calls.append(("quota", caller, None))
        return QuotaList(exempt=False, quotas=[])

    def explain(self, caller: Caller, params: PlacementParams) -> Placement | Awaitable[Placement]:
        self.calls.append(("explain", caller, params))

        async def answer() -> Placement:
            return Placement(
                decision="grant",
                policy=params.policy,
                vram_bytes=params.vram_bytes,
                count=params.count,
                chosen=params.prefer,
                gpus=[],
                summary="",
            )

        return answer()


class FakeCaches:
    """Has nothing, except that who asks for `waits` waits; remembers who asked for what."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, CacheCaller, object]] = []
        self.closed: list[str] = []
        self.answers: asyncio.Queue[CacheAnswer] = asyncio.Queue()

    def connection_closed(self, connection: str) -> None:
        self.closed.append(connection)

    def get(self, caller: CacheCaller, params: CacheGetParams) -> CacheAnswer | None:
        self.calls.append(("get", caller, params))
        return None if params.key == "waits" else CacheAnswer(status="miss")

    def wait(self, caller: CacheCaller, params: CacheGetParams) -> asyncio.Future[CacheAnswer]:
        self.calls.append(("wait", caller, params))
        return asyncio.ensure_future(self.answers.get())

    def set(self, caller: CacheCaller, params: CacheSetParams) -> CacheStored:
        self.calls.append(("set", caller, params))
        return CacheStored(accepted=True, stored=True)

    def fail(self, caller: CacheCaller, params: CacheFailParams) -> CacheFailed:
        self.calls.append(("fail", caller, params))
        return CacheFailed(accepted=True)

    def delete(self, caller: CacheCaller, params: CacheDeleteParams) -> CacheDeleted:
        self.calls.append(("delete", caller, params))
        return CacheDeleted(entries=1)

    def clear(self, caller: CacheCaller, params: CacheNamespaceParams) -> CacheDeleted:
        self.calls.append(("clear", caller, params))
        return CacheDeleted(entries=2)

    def stats(self, caller: CacheCaller) -> CacheStats:
        self.calls.append(("stats", caller, None))
        return CacheStats(used_bytes=0, max_bytes=1, entries=0, max_entries=1, namespaces=[])


class FakeLimits:
    """One limit, which has room unless `full`; remembers who asked for what."""

    def __init__(self) -> None:
        self.full = False
        self.calls: list[tuple[str, str, object]] = []
        self.closed: list[str] = []
        self.waiting: list[asyncio.Future[LimitReservation]] = []
        self.arrived = asyncio.Event()

    def acquire(self, request: RequestContext, params: LimitAcquireParams) -> bytes | None:
        self.calls.append(("acquire", request.origin.id, params))
        return None if self.full else msgspec.json.encode(self.reservation(params))

    def wait(
        self, request: RequestContext, params: LimitAcquireParams
    ) -> Awaitable[LimitReservation]:
        self.calls.append(("wait", request.origin.id, params))
        self.waiting.append(asyncio.get_running_loop().create_future())
        self.arrived.set()
        return self.waiting[-1]

    def settle(self, request: RequestContext, params: LimitSettleParams) -> bytes:
        self.calls.append(("settle", request.origin.id, params))
        return b'{"settled":true}'

    def connection_closed(self, connection: str) -> None:
        self.closed.append(connection)

    def peek(self, asker: Peer, params: LimitParams, *, session: str, is_admin: bool) -> LimitState:
        self.calls.append(("peek", session, (asker.uid, params, is_admin)))
        return self.state(params.name)

    def list(self, asker: Peer, *, session: str, is_admin: bool) -> LimitList:
        self.calls.append(("list", session, (asker.uid, is_admin)))
        return LimitList(limits=[self.state("openai")])

    def reset(self, asker: Peer, params: LimitResetParams, *, is_admin: bool) -> bool:
        self.calls.append(("reset", "", (asker.uid, params, is_admin)))
        return True

    def reservation(self, params: LimitAcquireParams) -> LimitReservation:
        return LimitReservation(name=params.name, reservation=7, shared=True, waited_ms=0)

    def state(self, name: str) -> LimitState:
        return LimitState(
            name=name, uid=None, shared=True, currency="USD", budgets=[], spend=[],
            reservations=0, waiters=0,
        )  # fmt: skip


class FakeDoctor:
    def evaluate(self) -> Health:
        return Health(
            verdict="healthy",
            reasons=[],
            checks=[],
            watchdog_enabled=False,
            watchdog_withheld=False,
        )


def breaker_of(name: str, uid: int | None) -> Breaker:
    return Breaker(
        name=name,
        uid=uid,
        shared=uid is None,
        state="closed",
        state_s=1.0,
        retry_after_ms=None,
        calls=0,
        failures=0,
        slow_calls=0,
        failure_rate=0.0,
        slow_call_rate=0.0,
        permits=0,
        rejected=0,
        generation=1,
        rules=wire.BreakerRules(),
    )


class FakeConfiguration:
    """One key that a file has set."""

    def files(self) -> list[str]:
        return ["/etc/superezio/superezio.toml"]

    async def values(self, *, key: str | None, everything: bool) -> wire.ConfigValues:
        if key == "leases.grce":
            raise errors.NotFoundError("leases.grce: no such key; did you mean grace?")
        name = f"{key}/{everything}"
        origin = wire.ConfigOrigin(place="file", name=name, line=2)
        value = wire.ConfigValue(
            key="leases.grace",
            path=["leases", "grace"],
            value="10s",
            default="5s",
            origin=origin,
            live=False,
        )
        return wire.ConfigValues(
            values=[value],
            config_files=self.files(),
            read_at="2026-01-01T00:00:00.000+00:00",
            restart_required=[],
            fault=None,
        )

    async def diff(self) -> wire.ConfigDiff:
        return wire.ConfigDiff(changes=[], config_files=self.files(), warnings=[])


class FakeBreakers:
    """Lets every call through; remembers who asked for what."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.closed: list[str] = []

    def connection_closed(self, connection: str) -> None:
        self.closed.append(connection)

    def acquire(self, request: Request, params: wire.BreakerAcquireParams) -> bytes:
        origin = request.origin
        asked = (params.name, origin.peer.uid, origin.id, params.rules, request.correlation_id)
        self.calls.append(("acquire", *asked))
        return encode(
            BreakerPermit(
                name=params.name, permit=7, state="closed", shared=False, expires_in_ms=600_000
            )
        )

    def settle(self, request: Request, params: wire.BreakerSettleParams) -> bytes:
        origin = request.origin
        asked = (params.name, params.permit, params.outcome, params.retry_after_ms)
        self.calls.append(("settle", *asked, origin.peer.uid, origin.id, request.correlation_id))
        return encode(BreakerSettlement(effect="settled", state="closed"))

    def get(self, name: str, who: Who, *, uid: int | None = None) -> Breaker:
        self.calls.append(("get", name, who.is_admin, uid))
        return breaker_of(name, uid)

    def list(self, who: Who) -> BreakerList:
        self.calls.append(("list", who.is_admin))
        return BreakerList(breakers=[breaker_of("openai", who.asker.uid)])

    def force_open(
        self, name: str, who: Who, *, uid: int | None = None, correlation_id: str | None = None
    ) -> Breaker:
        self.calls.append(("force_open", name, who.is_admin, uid, correlation_id))
        return breaker_of(name, uid)

    def disable(
        self, name: str, who: Who, *, uid: int | None = None, correlation_id: str | None = None
    ) -> Breaker:
        self.calls.append(("disable", name, who.is_admin, uid, correlation_id))
        return breaker_of(name, uid)

    def reset(
        self, name: str, who: Who, *, uid: int | None = None, correlation_id: str | None = None
    ) -> Breaker:
        self.calls.append(("reset", name, who.is_admin, uid, correlation_id))
        return breaker_of(name, uid)
