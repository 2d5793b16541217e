"""What has to hold in the daemon's books, whatever it was asked: the rules of SEMANTICS as sums."""

from __future__ import annotations

from collections.abc import Iterator

from fuzz.host import Host
from fuzz.judge import WrongError
from superezio.resilience.budget import Slots
from supereziod.leases.handles import Caller

_ADMIN = Caller(uid=0, pid=0, pidfd=None, role="admin", connection="judge")


def check_books(host: Host) -> None:
    """Check what has to hold at any time. Raises WrongError."""
    _check_ledger(host)
    _check_bounds(host)
    _check_cache(host)
    for name, permits in _permits(host):
        if permits < 0:
            raise WrongError(f"the breaker {name} has {permits} permits out")
    for name, slots in _slots(host):
        if not 0 <= slots.in_use <= slots.burst:
            raise WrongError(f"the limit {name} has {slots.in_use} of {slots.burst} slots in use")


def check_nothing_is_held(host: Host) -> None:
    """Check that with the connections and their processes all has come back that they held."""
    left = held(host)
    if left:
        raise WrongError(f"nobody is there, and yet there are: {', '.join(left)}")


def held(host: Host) -> list[str]:
    """Return what is held over connections, or by processes."""
    listed = host.leases.list(_ADMIN)
    usage, traffic = host.caches._cache.usage(), host.server.traffic
    return [
        *(
            f"{permits} permits of the breaker {name}"
            for name, permits in _permits(host)
            if permits
        ),
        *(f"{each.in_use} slots of the limit {name}" for name, each in _slots(host) if each.in_use),
        *(f"the {each.mode} lease {each.id}" for each in listed.leases if each.mode != "ttl"),
        *(f"the waiter {each.id}" for each in listed.queue),
        *([f"fills: {usage}"] if usage.fills or usage.waiting else []),
        *([f"{traffic.in_flight} requests in flight"] if traffic.in_flight else []),
        *([f"{traffic.connections} connections"] if traffic.connections else []),
    ]


def _check_ledger(host: Host) -> None:
    reserved: dict[str, int] = {}
    leases = host.leases.list(_ADMIN).leases
    for lease in leases:
        for part in lease.gpus:
            reserved[part.uuid] = reserved.get(part.uuid, 0) + part.reserved_bytes
    for view in host.monitor.snapshot().gpus:
        total = view.identity.vram_total_bytes
        if total is not None and reserved.get(view.uuid, 0) > total:
            raise WrongError(f"{reserved[view.uuid]} reserved of {total} bytes on {view.uuid}")
    for capacity in host.ledger.capacities(host.monitor.snapshot()):
        if capacity.reserved_bytes < 0 or (capacity.block is None and capacity.free_bytes < 0):
            raise WrongError(f"more is given than there is: {capacity}")


def _check_bounds(host: Host) -> None:
    given = host.config.leases
    listed = host.leases.list(_ADMIN)
    if len(listed.leases) > given.max_leases or len(listed.queue) > given.queue:
        raise WrongError(f"{len(listed.leases)} leases, {len(listed.queue)} wait")
    traffic, limits = host.server.traffic, host.config.limits
    if not 0 <= traffic.in_flight <= 4 * limits.in_flight_per_connection:
        raise WrongError(f"{traffic.in_flight} requests in flight over four connections")


def _check_cache(host: Host) -> None:
    usage, cache = host.caches._cache.usage(), host.config.cache
    if not 0 <= usage.used_bytes <= cache.max_bytes or usage.fills < 0 or usage.waiting < 0:
        raise WrongError(f"the cache has {usage}, of {cache.max_bytes} bytes")
    for name in host.caches._cache.namespaces():
        part = host.caches._cache.usage(name)
        if not 0 <= part.used_bytes <= cache.namespace_bytes:
            raise WrongError(f"the namespace {name} has {part}")


def _permits(host: Host) -> Iterator[tuple[str, int]]:
    for kept in host.breakers._book:
        yield kept.owned.name, kept.breaker.out


def _slots(host: Host) -> Iterator[tuple[str, Slots]]:
    registry = host.limits._registry
    for named in registry.limits.values():
        for budget in named.limiter.budgets():
            for meter in budget._meters.values():
                if isinstance(meter, Slots):
                    yield named.owned.name, meter
