"""Leases from the asking to the end, and who waits for one."""

from __future__ import annotations

from typing import Literal

from superezio.wire.message import Params, Result
from superezio.wire.placement import LeasableComputeMode, Placement, Policy

LeaseMode = Literal["process", "connection", "ttl"]
LeaseState = Literal[
    "queued", "granted", "growing", "active", "draining", "orphaned", "released", "lost"
]
RevokeReason = Literal["admin", "owner", "gpu_critical", "overrun", "idle"]
RevokeAnswer = Literal["accepted", "refused"]


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


class QuotaUse(Result):
    """A quota that applies to the caller, and what is leased of it; a limit that is null is none.

    `scope` user: one's own leases, `name` being the uid. `scope` group: the leases of all members
    of the group `name`, as it is configured.
    """

    scope: Literal["user", "group"]
    name: str
    vram_limit_bytes: int | None
    vram_used_bytes: int
    leases_limit: int | None
    leases_used: int


class QuotaList(Result):
    """All `quotas` have to hold; whoever is `exempt`, an admin, is held to none."""

    exempt: bool
    quotas: list[QuotaUse]
