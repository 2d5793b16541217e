"""What goes over the socket: parameters, results and events, as typed structs.

Units are in the names (`_bytes`, `_c`, `_w`, `_ms`, `_s`, `_percent`). A value that a card, a
driver or the caller's role does not give is null: never 0, never left out. Results only ever gain
members; parameters with a name that is not here are refused.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

Policy = Literal["best_fit", "spread", "exclusive", "coolest"]
#: A GPU in mode `prohibited` admits nothing, so that nobody can ask for one.
LeasableComputeMode = Literal["default", "exclusive_process"]
LeaseMode = Literal["process", "connection", "ttl"]
LeaseState = Literal[
    "queued", "granted", "growing", "active", "draining", "orphaned", "released", "lost"
]
GpuStatus = Literal["ok", "unknown", "lost", "detached"]
Level = Literal["normal", "warm", "hot", "critical", "unknown"]
FitnessState = Literal["healthy", "suspect", "quarantined", "probation"]
Verdict = Literal["healthy", "degraded", "unhealthy"]
Severity = Literal["info", "warning", "critical"]
Role = Literal["observer", "user", "admin"]
RevokeReason = Literal["admin", "owner", "gpu_critical", "overrun", "idle"]
RevokeAnswer = Literal["accepted", "refused"]


class Params(Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """Base of all parameters: by name, and an unknown name is an error that names it."""


class Result(Struct, kw_only=True, gc=False):
    """Base of all results: every member is always there, and clients ignore new ones."""


class NoParams(Params):
    """For methods that take nothing."""


class Meta(Struct, kw_only=True, omit_defaults=True, gc=False):
    """The extension member `meta` of a request. Unknown members are ignored."""

    correlation_id: str | None = None
    session_id: str | None = None
    traceparent: str | None = None
    deadline_ms: int | None = None
    idempotency_key: str | None = None


# --- system -------------------------------------------------------------------------------------


class Pong(Result):
    pid: int
    uptime_s: float


class SystemInfo(Result):
    version: str
    protocol: int
    pid: int
    started_at: str
    uptime_s: float
    gpu_driver: str
    driver_version: str | None
    cuda_version: str | None
    socket: str
    runtime_dir: str
    state_dir: str
    config_files: list[str]
    log_level: str
    uid: int
    role: Role
    connections: int
    requests: int


class ReloadResult(Result):
    """What a reload did: keys in force at once, and keys that wait for a restart."""

    applied: list[str]
    restart_required: list[str]
    config_files: list[str]


class LogLevelParams(Params):
    """`level` None asks; otherwise one of debug, info, warning, error, critical."""

    level: str | None = None


class LogLevelResult(Result):
    level: str
    previous: str


# --- health -------------------------------------------------------------------------------------


class HealthReason(Result):
    """Why the verdict is not healthy: one visible condition, and what mends it."""

    check: str
    severity: Severity
    message: str
    action: str
    since_s: float
    gpu: str | None


class CheckState(Result):
    """One declared check and how it stands. `hidden_by` names the failed check it depends on."""

    check: str
    passing: bool
    visible: bool
    severity: Severity
    message: str
    hidden_by: str | None
    gpu: str | None


class Health(Result):
    verdict: Verdict
    reasons: list[HealthReason]
    checks: list[CheckState]
    watchdog_enabled: bool
    watchdog_withheld: bool


# --- gpus ---------------------------------------------------------------------------------------


class Gpu(Result):
    """One GPU, or one MIG instance: identity, latest sample, and what may be leased on it.

    An instance has a `parent`, the UUID of the GPU that it is a part of, whose index, temperature,
    level and fitness it shows; it is listed after it. `mig_index` is its place there for now. The
    VRAM in use of a GPU that MIG cuts up is that of its instances; what leases and others have of
    it is told of these alone, so that sums count it once.
    """

    uuid: str
    index: int
    pci_bus_id: str
    name: str
    driver_version: str | None
    cuda_version: str | None
    compute_capability: str | None
    compute_mode: str | None
    mig_mode: str | None
    status: GpuStatus
    status_reason: str | None
    level: Level
    fitness: FitnessState
    cordoned: bool
    cordon_reason: str | None
    admissible: bool
    blocked_reason: str | None
    vram_total_bytes: int | None
    vram_used_bytes: int | None
    vram_free_bytes: int | None
    vram_driver_reserved_bytes: int | None
    vram_reserved_bytes: int
    vram_foreign_bytes: int | None
    vram_leasable_bytes: int
    leases: int
    utilization_core_percent: int | None
    utilization_memory_percent: int | None
    temperature_c: int | None
    memory_temperature_c: int | None
    slowdown_temperature_c: int | None
    shutdown_temperature_c: int | None
    max_temperature_c: int | None
    memory_max_temperature_c: int | None
    margin_c: int | None
    power_w: float | None
    power_limit_w: float | None
    energy_j: float | None
    fan_percent: int | None
    clock_core_mhz: int | None
    clock_memory_mhz: int | None
    throttle_reasons: list[str] | None
    ecc_enabled: bool | None
    ecc_corrected: int | None
    ecc_uncorrected: int | None
    pcie_generation: int | None
    pcie_generation_max: int | None
    pcie_width: int | None
    pcie_width_max: int | None
    sample_age_s: float | None
    drives_display: bool | None = None
    parent: str | None = None
    mig_profile: str | None = None
    mig_index: int | None = None


class GpuList(Result):
    gpus: list[Gpu]


class GpuParams(Params):
    """`gpu` is a UUID, a unique prefix of one (with or without `GPU-` or `MIG-`), or an index.

    The index of a MIG instance is written like 0:1.
    """

    gpu: str


class OptionalGpuParams(Params):
    gpu: str | None = None


class CordonParams(Params):
    gpu: str
    reason: str = ""


class GpuProcess(Result):
    """A process that uses a GPU. Personal members are null where the caller may not see them."""

    gpu: str
    pid: int
    type: str
    vram_bytes: int | None
    user: str | None
    uid: int | None
    command: str | None
    unit: str | None
    container: str | None
    lease: str | None


class GpuProcessList(Result):
    processes: list[GpuProcess]


class HistoryParams(Params):
    """`since_s`: how far back. The resolution is 1 s up to 15 minutes and 15 s up to 24 h."""

    gpu: str
    since_s: float = 900.0


class HistoryPoint(Result, array_like=True):
    """One interval of one metric: seconds ago, and least, mean and most in it."""

    age_s: float
    min: float
    mean: float
    max: float


class GpuHistory(Result):
    gpu: str
    resolution_s: float
    temperature_c: list[HistoryPoint]
    power_w: list[HistoryPoint]
    utilization_core_percent: list[HistoryPoint]
    vram_used_bytes: list[HistoryPoint]


class ProbeState(Result):
    """Answer of gpu.attach and gpu.detach."""

    attached: bool


# --- leases -------------------------------------------------------------------------------------


class PlacementParams(Params):
    """What is asked of the GPUs: `vram_bytes` on each of `count` GPUs.

    `split`: they are one amount, over exactly `count` GPUs if that is more than 1, else over as
    few as hold it. A GPU has to be of at least `min_compute_capability` (as in `8.6`), be in
    `compute_mode`, and with `no_display` drive none; one of which that is not known is refused.
    GPUs with a lease of the same user and `model`, a free name, go before others.
    """

    vram_bytes: int
    count: int = 1
    policy: Policy = "best_fit"
    prefer: list[str] = []
    avoid: list[str] = []
    min_compute_capability: str | None = None
    compute_mode: LeasableComputeMode | None = None
    no_display: bool = False
    model: str | None = None
    split: bool = False


class AcquireParams(Params):
    """Ask for a lease.

    `wait_ms` 0 answers at once (a lease, or no_capacity); more waits in the queue that long.
    `mode` process binds the lease to `holder_pid`, or to the caller; connection binds it to the
    connection that asked; ttl lets it end `ttl_ms` (60,000 if it is not given) after the grant or
    the last lease.renew. `sizes_itself`: the program takes a share of what it finds free, so that
    nothing else starts on its GPUs until it has grown. `priority` is capped by the caller's role.
    What the holder uses already counts for the lease, which is placed where that is. What is asked
    of the GPUs is as for placement.explain.
    """

    vram_bytes: int
    count: int = 1
    policy: Policy = "best_fit"
    prefer: list[str] = []
    avoid: list[str] = []
    mode: LeaseMode = "process"
    holder_pid: int | None = None
    name: str | None = None
    wait_ms: int = 0
    priority: int = 0
    ttl_ms: int | None = None
    sizes_itself: bool = False
    min_compute_capability: str | None = None
    compute_mode: LeasableComputeMode | None = None
    no_display: bool = False
    model: str | None = None
    split: bool = False


class GpuReason(Result):
    """Why one GPU was chosen or passed over. `code` is stable, `message` is for people."""

    uuid: str
    index: int
    name: str
    admitted: bool
    chosen: bool
    code: str
    message: str
    free_bytes: int
    needed_bytes: int
    foreign_bytes: int
    reserved_bytes: int
    mig_index: int | None = None


class Placement(Result):
    """A decision with its reasons: `grant`, `wait` (may fit later) or `never`.

    `reserved` has the bytes by UUID of a grant, in the order of `chosen`. Of one that is split,
    `split_ratio` says in that order which part of it each is (their sum is 1), and `tensor_split`
    says so as llama.cpp's --tensor-split takes it. `quota` says which quota stands against it.
    """

    decision: Literal["grant", "wait", "never"]
    policy: Policy
    vram_bytes: int
    count: int
    chosen: list[str]
    gpus: list[GpuReason]
    summary: str
    split: bool = False
    reserved: dict[str, int] = {}
    split_ratio: list[float] = []
    tensor_split: str | None = None
    quota: str | None = None


class LeaseGpu(Result):
    """One GPU, or MIG instance, of a lease: what is reserved there, and what is used now.

    `actual_is_estimated`: the driver does not give the use of each process. `split_ratio`: which
    part of the lease it is, if that is one amount over several.
    """

    uuid: str
    index: int | None
    reserved_bytes: int
    actual_bytes: int | None
    actual_is_estimated: bool = False
    split_ratio: float | None = None
    mig_index: int | None = None


class HolderProcess(Result):
    """A process a lease is bound to. The start time tells a reused pid from the process."""

    pid: int
    start_time: int
    command: str | None


class Revocation(Result):
    """An order to end a lease. When no time remains and it has not ended, the lease is lost.

    `answer` is the holder's, by lease.acknowledge; a refusal changes nothing of that.
    """

    reason: RevokeReason
    message: str
    remaining_s: float
    answer: RevokeAnswer | None
    answer_message: str | None


class Lease(Result):
    """A lease as it stands.

    `expires_in_s`: when it ends by itself: a ttl lease that is not renewed, or a connection lease
    that lost its connection and is not resumed. `idle_s`: for how long its processes have used
    nothing, since its grant or their last use; null while they do, or where that is not known.
    `tensor_split`: how it is split over its GPUs, in their order, as llama.cpp's --tensor-split
    takes it.
    """

    id: str
    state: LeaseState
    mode: LeaseMode
    uid: int
    name: str | None
    policy: Policy
    priority: int
    gpus: list[LeaseGpu]
    holder: list[HolderProcess]
    holder_confirmed: bool
    environment: dict[str, str]
    placement: Placement | None
    correlation_id: str | None
    granted_at: str
    age_s: float
    sizes_itself: bool = False
    ttl_ms: int | None = None
    expires_in_s: float | None = None
    revocation: Revocation | None = None
    idle_s: float | None = None
    model: str | None = None
    tensor_split: str | None = None


class LeaseParams(Params):
    lease: str


class LeaseRevokeParams(Params):
    """Tell the holder to end the lease within `deadline_s` (30 by default); then it is lost.

    To ask again can only bring the deadline forward. `reason` is for the holder and the journal.
    """

    lease: str
    deadline_s: float | None = None
    reason: str = ""


class LeaseAcknowledgeParams(Params):
    """The holder's answer to an order to end: whether it will, and words for people."""

    lease: str
    accept: bool = True
    message: str | None = None


class LeaseRenewParams(Params):
    """Let a ttl lease last its TTL from now; with `ttl_ms` it is another one from now on."""

    lease: str
    ttl_ms: int | None = None


class LeaseAttachParams(Params):
    """Bind `pid` to the lease; `start_time` (clock ticks since boot), if given, must match."""

    lease: str
    pid: int
    start_time: int | None = None


class ReleaseResult(Result):
    """`released` is False when the lease was already gone: release is idempotent."""

    lease: str
    released: bool


class WaiterParams(Params):
    waiter: str


class Waiter(Result):
    """An acquire in the queue: its place (1 is next), and why it waits.

    `code` is the reason of the GPU that is nearest to admitting it (a code of a GpuReason).
    """

    id: str
    position: int
    uid: int
    name: str | None
    vram_bytes: int
    count: int
    policy: Policy
    priority: int
    waited_s: float
    remaining_s: float
    reason: str
    correlation_id: str | None = None
    split: bool = False
    code: str = ""
    ahead: int = 0


class LeaseList(Result):
    leases: list[Lease]
    queue: list[Waiter]


# --- events, sessions, rpc ----------------------------------------------------------------------


class Event(Result):
    """Something that changed. `seq` grows by one per event of this daemon."""

    seq: int
    time: str
    type: str
    severity: Severity
    message: str
    gpu: str | None
    lease: str | None
    uid: int | None
    correlation_id: str | None
    data: dict[str, Any]


class SubscribeParams(Params):
    """`types` are names or prefixes (`lease.`); empty means all. `replay`: past events first."""

    types: list[str] = []
    replay: int = 0


class SubscribeResult(Result):
    """`replay` has the past events asked for; pushed ones follow with `seq` >= `next_seq`."""

    subscription: str
    next_seq: int
    replay: list[Event]


class EventNotification(Result):
    """`params` of the notification `event`. `lost`: events dropped just before this one."""

    subscription: str
    event: Event
    lost: int


class UnsubscribeParams(Params):
    subscription: str


class Done(Result):
    """`done` is False when there was nothing to do."""

    done: bool


class SessionOpenParams(Params):
    """`token`, from an earlier open by the same uid, resumes that session."""

    name: str | None = None
    token: str | None = None


class SessionOpened(Result):
    session_id: str
    token: str
    resumed: bool


class SessionCloseParams(Params):
    session_id: str


class Session(Result):
    session_id: str
    name: str | None
    uid: int
    pid: int | None
    implied: bool
    connections: int
    requests: int
    errors: int
    opened_at: str
    idle_s: float


class SessionList(Result):
    sessions: list[Session]


class CancelParams(Params):
    """`id` of the request in flight on this connection."""

    id: int | str
