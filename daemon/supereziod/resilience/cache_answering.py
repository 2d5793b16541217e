"""How the answers of the cache stand on the wire."""

from __future__ import annotations

from typing import Final, Literal

from superezio.errors import FillFailedError, FillTimeoutError
from superezio.resilience.cache_answers import Failed, Hit, Settled, Stale, TimedOut, Value
from superezio.resilience.cache_counters import Counters, Usage
from superezio.resilience.cache_limits import Quota
from superezio.wire import CacheAnswer, CacheCounters, CacheFailed, CacheNamespace, CacheStored
from supereziod.resilience.sharing import Owned

_MS: Final = 1_000_000


def served(answer: Hit | Stale, token: str | None, *, shared: bool) -> CacheAnswer:
    """Return a value that was there; with a token for who refreshes it."""
    value = answer.value
    return CacheAnswer(
        status="hit" if isinstance(answer, Hit) else "stale",
        text=value.data.decode() if value.is_text else None,
        data=None if value.is_text else value.data,
        age_ms=answer.age_ns // _MS,
        token=token,
        shared=shared,
    )


def filled(value: Value, *, shared: bool) -> CacheAnswer:
    """Return a value that another fetched."""
    return CacheAnswer(
        status="filled",
        text=value.data.decode() if value.is_text else None,
        data=None if value.is_text else value.data,
        shared=shared,
    )


def not_filled(
    answer: Failed | TimedOut, namespace: str, waited_ms: int
) -> FillFailedError | FillTimeoutError:
    """Return the error for one that waited for nothing."""
    data = {"namespace": namespace}
    if isinstance(answer, Failed):
        return FillFailedError(
            f"the caller that fetched it for all could not: {answer.error}", data=data
        )
    return FillTimeoutError(
        f"another caller was still fetching it after {waited_ms} ms: wait longer (wait_ms), or"
        " fetch it yourself",
        data=data,
    )


def failed(stale: Stale | None, *, accepted: bool) -> CacheFailed:
    """Return what a leader that failed is told: the old value, where it may stand in."""
    if stale is None:
        return CacheFailed(accepted=accepted)
    value = stale.value
    return CacheFailed(
        accepted=accepted,
        text=value.data.decode() if value.is_text else None,
        data=None if value.is_text else value.data,
        age_ms=stale.age_ns // _MS,
    )


def namespace_of(owned: Owned, usage: Usage, quota: Quota, counters: Counters) -> CacheNamespace:
    """Return a namespace as it is told of: never what is in it."""
    return CacheNamespace(
        namespace=owned.name,
        uid=owned.owner,
        shared=owned.owner is None,
        used_bytes=usage.used_bytes,
        max_bytes=quota.max_bytes,
        entries=usage.entries,
        max_entries=quota.max_entries,
        fills=usage.fills,
        waiting=usage.waiting,
        counters=_counted(counters),
    )


def _counted(counters: Counters) -> CacheCounters:
    return CacheCounters(
        hits=counters.hits,
        misses=counters.misses,
        coalesced=counters.coalesced,
        refused=counters.refused,
        stale_served=counters.stale_served,
        stale_on_error=counters.stale_on_error,
        stored=counters.stored,
        too_large=counters.too_large,
        outdated=counters.outdated,
        failed=counters.failed,
        passed_on=counters.passed_on,
        timed_out=counters.timed_out,
        evicted_expired=counters.expired,
        evicted_quota=counters.quota,
        evicted_total=counters.total,
        deleted=counters.deleted,
        replaced=counters.replaced,
    )


def stored(settled: Settled, cut_ttl_ms: int | None, max_bytes: int) -> CacheStored:
    """Return what came of a value that was set, and why it was not kept where it was not."""
    if not settled.accepted or settled.stored:
        ttl_ms = cut_ttl_ms if settled.stored else None
        return CacheStored(accepted=settled.accepted, stored=settled.stored, ttl_ms=ttl_ms)
    why: Literal["too_large", "outdated"] = "outdated" if settled.outdated else "too_large"
    most = None if settled.outdated else max_bytes
    return CacheStored(accepted=True, stored=False, not_stored=why, max_bytes=most)
