"""From the keys of the configuration to the values that the parts are given."""

from __future__ import annotations

import grp
import pwd
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import structlog
from msgspec.structs import asdict, replace

from superezio.resilience import cache_limits
from superezio.resilience.overshoot import WHOLE
from supereziod.config import Config
from supereziod.config.breakers import Breaker
from supereziod.config.cache import Cache
from supereziod.config.gpu import Gpu
from supereziod.config.leases import Leases, Quotas
from supereziod.config.limits_shared import Limit, LimitScope, SharedLimit
from supereziod.config.section import Shared
from supereziod.gpu.frames import ProbeSpec, SimulatedSpec
from supereziod.gpu.roster import MonitorRules
from supereziod.leases.manager import LeasePolicies, LeaseTimes
from supereziod.leases.quotas import GroupQuota, Quota, QuotaRules
from supereziod.open_files import connections_that_fit
from supereziod.resilience.breaker_settings import BreakerSettings
from supereziod.resilience.cache_namespaces import SharedNamespace
from supereziod.resilience.cache_rules import CacheRules
from supereziod.resilience.limit_rules import LimitBounds, LimitRules, ScopeKind, ScopeRules
from supereziod.resilience.sharing import Audience
from supereziod.rpc.access import AccessPolicy, resolve_access
from supereziod.rpc.limits import Limits


def make_directories(runtime_dir: Path, state_dir: Path) -> None:
    """Make what is missing; where that is refused, the files in it say so in the health."""
    for directory, mode in ((runtime_dir, 0o755), (state_dir, 0o700)):
        with suppress(OSError):
            directory.mkdir(mode=mode, parents=True, exist_ok=True)


def probe_spec(gpu: Gpu, *, runtime_dir: Path, read_only: bool = False) -> ProbeSpec:
    """Return what the probe is to do. `read_only`: a simulation is looked at, and another's."""
    simulated = SimulatedSpec(
        directory=str(runtime_dir / "simulated"),
        scenario=gpu.scenario,
        epoch_ns=time.monotonic_ns(),
        read_only=read_only,
    )
    return ProbeSpec(
        driver=gpu.driver,
        simulated=simulated if gpu.driver == "simulated" else None,
        period_s=gpu.sample_period_s,
        deadline_s=gpu.probe.deadline_s,
        process_interval_s=gpu.idle_interval_s,
    )


def monitor_rules(gpu: Gpu) -> MonitorRules:
    """Return how GPUs are judged."""
    return MonitorRules(
        thresholds=gpu.thermal.thresholds(),
        thresholds_by_gpu={
            uuid: thermal.thresholds() for uuid, thermal in gpu.thermal_by_gpu.items()
        },
        fitness=gpu.fitness.rules(),
        busy_interval_s=gpu.busy_interval_s,
        idle_interval_s=gpu.idle_interval_s,
    )


def lease_times(leases: Leases, *, drain_s: float) -> LeaseTimes:
    """Return how long the affairs of leases take. `drain_s` is the watchdog's grace."""
    return LeaseTimes(
        grace_s=leases.grace_s,
        restart_grace_s=leases.restart_grace_s,
        max_wait_s=leases.max_wait_s,
        max_age_s=leases.max_age_s,
        probe_deadline_s=leases.probe_deadline_s,
        revoke_deadline_s=leases.revoke_deadline_s,
        drain_s=drain_s,
        drain_step_s=leases.drain_step_s,
        idle_s=leases.idle_timeout_s,
    )


def lease_policies(leases: Leases) -> LeasePolicies:
    """Return what follows when a lease is found wanting."""
    return LeasePolicies(on_overrun=leases.on_overrun, on_idle=leases.on_idle)


def quota_rules(given: Quotas) -> QuotaRules:
    """Ask the host who the users and groups with quotas are, which may block.

    A name that the host does not know has no quota until it does, and a reload; it is said.
    """
    users = {name: _uid(name) for name in given.user}
    groups = {name: _gid(name) for name in given.group}
    unknown = [f"user {name}" for name, uid in users.items() if uid is None]
    unknown += [f"group {name}" for name, gid in groups.items() if gid is None]
    if unknown:
        structlog.get_logger().warning(
            "quota.unknown_names",
            message=f"there are quotas for whom this host does not know: {', '.join(unknown)}",
            names=unknown,
        )
    return QuotaRules(
        default=Quota(**asdict(given.default)),
        by_uid={
            uid: Quota(**asdict(given.user[name])) for name, uid in users.items() if uid is not None
        },
        by_gid={
            gid: GroupQuota(name=name, **asdict(given.group[name]))
            for name, gid in groups.items()
            if gid is not None
        },
    )


def _uid(name: str) -> int | None:
    try:
        return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):  # ValueError: no name at all
        return None


def _gid(name: str) -> int | None:
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None


def audiences(shared: Mapping[str, Shared]) -> dict[str, Audience]:
    """Ask the host who may use what is shared by a name, which may block.

    A user or a group that the host does not know is left out until it does, and a reload.
    """
    return {name: _audience(each) for name, each in shared.items()}


def _audience(shared: Shared) -> Audience:
    uids, gids = map(_uid, shared.users), map(_gid, shared.groups)
    return Audience(
        everyone=shared.everyone,
        uids=frozenset(uid for uid in uids if uid is not None),
        gids=frozenset(gid for gid in gids if gid is not None),
        group_names=tuple(shared.groups),
    )


def breaker_settings(given: Breaker) -> BreakerSettings:
    """Return what breakers go by. Asks the host who shares them, which may block."""
    return BreakerSettings(
        default=given.rules(),
        shared=given.shared_rules(),
        audiences=audiences(given.shared),
        limits=given.limits(),
    )


def cache_rules(given: Cache) -> CacheRules:
    """Return what bounds the cache."""
    return CacheRules(
        limits=cache_limits.Limits(
            max_bytes=given.max_bytes,
            max_entries=given.max_entries,
            max_value_bytes=given.max_value_bytes,
            quota=cache_limits.Quota(given.namespace_bytes, given.namespace_entries),
            max_fills=given.fills,
            max_leads_per_holder=given.fills_per_connection,
            max_leads_per_user=given.fills_per_uid,
            owner=cache_limits.Quota(
                given.uid_bytes,
                given.uid_entries,
                given.uid_guaranteed_bytes,
                given.uid_guaranteed_entries,
            ),
            max_promised=given.guaranteed_uids,
        ),
        namespaces_per_uid=given.namespaces_per_uid,
        waiters_per_uid=given.waiters_per_uid,
        key_length=given.key_length,
        tags=given.tags,
        tag_length=given.tag_length,
        max_ttl_ns=round(given.max_ttl_s * 1e9),
        max_wait_ns=round(given.max_wait_s * 1e9),
        max_lead_ns=round(given.max_lead_s * 1e9),
    )


def shared_namespaces(given: Cache) -> dict[str, SharedNamespace]:
    """Return what users share of the cache. Asks the host who they are, which may block."""
    who = audiences(given.shared)
    return {
        name: SharedNamespace(
            audience=who[name],
            quota=cache_limits.Quota(
                each.max_bytes,
                each.max_entries,
                each.guaranteed_bytes,
                each.guaranteed_entries,
            ),
        )
        for name, each in given.shared.items()
    }


def limit_rules(limit: Limit) -> dict[str, LimitRules]:
    """Ask the host for the groups with a budget, which may block; return what is shared."""
    longest_block_ns = round(limit.longest_block_s * 1e9)
    return {name: _limit_rules(shared, longest_block_ns) for name, shared in limit.shared.items()}


def _limit_rules(shared: SharedLimit, longest_block_ns: int) -> LimitRules:
    given: dict[ScopeKind, LimitScope | None] = {
        "host": shared.host,
        "group": shared.group,
        "user": shared.user,
        "session": shared.session,
        "key": shared.key,
    }
    groups = {name: _gid(name) for name in shared.groups}
    return LimitRules(
        scopes={
            kind: ScopeRules(
                limit=scope.limit(longest_block_ns=longest_block_ns),
                caps_micros=scope.caps_micros(),
            )
            for kind, scope in given.items()
            if scope is not None
        },
        group_names={gid: name for name, gid in groups.items() if gid is not None},
        overshoot_share=max(1, round(shared.overshoot_share * WHOLE)),
    )


def limit_bounds(limit: Limit) -> LimitBounds:
    """Return how much of limits may be remembered."""
    return LimitBounds(
        names=limit.names,
        names_per_uid=limit.names_per_uid,
        reservations_per_uid=limit.reservations_per_uid,
        reservations_per_connection=limit.reservations_per_connection,
        slot_reservations_per_uid=limit.slot_reservations_per_uid,
        slot_reservations_per_connection=limit.slot_reservations_per_connection,
        waiters=limit.waiters,
        waiters_per_uid=limit.waiters_per_uid,
        keys=limit.keys,
        keys_per_uid=limit.keys_per_uid,
        longest_wait_ns=round(limit.longest_wait_s * 1e9),
        longest_block_ns=round(limit.longest_block_s * 1e9),
        forget_after_ns=round(limit.forget_after_s * 1e9),
    )


def rpc_limits(config: Config) -> Limits:
    """Return the limits of the control plane: no more connections than files may be open."""
    limits = Limits(**asdict(config.limits))
    connections = connections_that_fit(
        connections=limits.connections, leases=config.leases.max_leases
    )
    if connections == limits.connections:
        return limits
    reserved = min(limits.connections_reserved, connections // 4)
    return replace(limits, connections=connections, connections_reserved=reserved)


def access_policy(config: Config) -> AccessPolicy:
    """Ask the host who the configured users and groups are, which may block.

    A name that the host does not know is left out, and said: it may come later, with a reload.
    """
    given = config.access
    resolved = resolve_access(
        user_groups=given.user_groups,
        admin_groups=given.admin_groups,
        users=given.users,
        admins=given.admins,
        max_priority_user=config.leases.max_priority_user,
        max_priority_admin=config.leases.max_priority_admin,
    )
    if resolved.unknown:
        structlog.get_logger().warning(
            "access.unknown_names",
            message=f"this host has no user or group {', '.join(resolved.unknown)}",
            names=resolved.unknown,
        )
    return resolved.policy
