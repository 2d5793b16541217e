"""breaker.*, limit.* and cache.*: what programs share about the services they call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from superezio import wire
from superezio.calls.call import Call, duration_s, milliseconds, refuse_unknown


class LimitCost(TypedDict, total=False):
    """What may be said of a request for room in a limit.

    What it takes: `requests` (1), `tokens`, `money_micros` and slots (`concurrency`: one where the
    limit has any, unless given). `key` is whose request it is, where the limit has a budget for
    each; `wait` is how long to wait for room; `rates` are those of a limit of one's own.
    """

    requests: int
    tokens: int
    money_micros: int
    concurrency: int | None
    key: str | None
    wait: float | str
    rates: wire.LimitRates | None


class LimitUse(TypedDict, total=False):
    """What a request has used, and what the far side said (Retry-After, what is left)."""

    requests: int | None
    tokens: int | None
    money_micros: int | None
    retry_after: float | str | None
    remaining: wire.LimitRemaining | None


class CacheOptions(TypedDict, total=False):
    """What may be said of a value besides the key.

    It is fresh for `ttl` (seconds, or text such as `1h`; an hour if it is not given), then served
    for `grace` while one caller refreshes it, and for `stale_if_error` where that fails. `tags` are
    names to delete it by. `token` is that of a lead.
    """

    ttl: float | str
    grace: float | str
    stale_if_error: float | str
    tags: Sequence[str]
    token: str | None


def limit_acquire(name: str, options: LimitCost) -> Call[wire.LimitReservation]:
    refuse_unknown(options, LimitCost.__optional_keys__)
    wait_s = duration_s(options.get("wait", 0.0))
    params = wire.LimitAcquireParams(
        name=name,
        requests=options.get("requests", 1),
        tokens=options.get("tokens", 0),
        money_micros=options.get("money_micros", 0),
        concurrency=options.get("concurrency"),
        key=options.get("key"),
        wait_ms=round(wait_s * 1000),
        rates=options.get("rates"),
    )
    # A grant that nobody heard of counts as used: asked again, it would be used twice.
    return Call(
        method="limit.acquire",
        result=wire.LimitReservation,
        params=params,
        idempotent=False,
        wait_s=wait_s,
    )


def limit_settle(reservation: int, used: LimitUse) -> Call[wire.LimitSettlement]:
    refuse_unknown(used, LimitUse.__optional_keys__)
    retry_after = used.get("retry_after")
    params = wire.LimitSettleParams(
        reservation=reservation,
        requests=used.get("requests"),
        tokens=used.get("tokens"),
        money_micros=used.get("money_micros"),
        retry_after_ms=None if retry_after is None else round(duration_s(retry_after) * 1000),
        remaining=used.get("remaining"),
    )
    return Call(method="limit.settle", result=wire.LimitSettlement, params=params)


def limit_peek(name: str, key: str | None, uid: int | None) -> Call[wire.LimitState]:
    params = wire.LimitParams(name=name, key=key, uid=uid)
    return Call(method="limit.peek", result=wire.LimitState, params=params)


def limit_list() -> Call[wire.LimitList]:
    return Call(method="limit.list", result=wire.LimitList)


def limit_reset(name: str, key: str | None, uid: int | None, *, spend: bool) -> Call[wire.Done]:
    params = wire.LimitResetParams(name=name, key=key, uid=uid, spend=spend)
    return Call(method="limit.reset", result=wire.Done, params=params)


def cache_get(
    namespace: str, key: str, *, fill: bool, wait: float | str, lead: float | str
) -> Call[wire.CacheAnswer]:
    wait_s = duration_s(wait)
    params = wire.CacheGetParams(
        namespace=namespace,
        key=key,
        fill=fill,
        wait_ms=round(wait_s * 1000),
        lead_ms=round(duration_s(lead) * 1000),
    )
    # Sent again over another connection it is another caller's: what the first led has passed on.
    return Call(
        method="cache.get",
        result=wire.CacheAnswer,
        params=params,
        wait_s=wait_s if fill else 0.0,
    )


def cache_set(
    namespace: str, key: str, value: str | bytes, options: CacheOptions
) -> Call[wire.CacheStored]:
    refuse_unknown(options, CacheOptions.__optional_keys__)
    params = wire.CacheSetParams(
        namespace=namespace,
        key=key,
        text=value if isinstance(value, str) else None,
        data=None if isinstance(value, str) else value,
        ttl_ms=milliseconds(options.get("ttl", 3600.0)),
        grace_ms=milliseconds(options.get("grace", 0.0)),
        stale_if_error_ms=milliseconds(options.get("stale_if_error", 0.0)),
        tags=list(options.get("tags", ())),
        token=options.get("token"),
    )
    return Call(method="cache.set", result=wire.CacheStored, params=params)


def cache_fail(namespace: str, key: str, token: str, error: str | None) -> Call[wire.CacheFailed]:
    params = wire.CacheFailParams(namespace=namespace, key=key, token=token, error=error)
    return Call(method="cache.fail", result=wire.CacheFailed, params=params)


def cache_delete(namespace: str, key: str | None, tag: str | None) -> Call[wire.CacheDeleted]:
    params = wire.CacheDeleteParams(namespace=namespace, key=key, tag=tag)
    return Call(method="cache.delete", result=wire.CacheDeleted, params=params)


def cache_clear(namespace: str, uid: int | None) -> Call[wire.CacheDeleted]:
    params = wire.CacheNamespaceParams(namespace=namespace, uid=uid)
    return Call(method="cache.clear", result=wire.CacheDeleted, params=params)


def cache_stats() -> Call[wire.CacheStats]:
    return Call(method="cache.stats", result=wire.CacheStats)


def breaker_acquire(
    name: str, rules: wire.BreakerRules | Mapping[str, Any] | None
) -> Call[wire.BreakerPermit]:
    # Again is safe: what the connection that ended was given has returned with it.
    if rules is not None and not isinstance(rules, wire.BreakerRules):
        rules = wire.BreakerRules(**rules)
    params = wire.BreakerAcquireParams(name=name, rules=rules)
    return Call(method="breaker.acquire", result=wire.BreakerPermit, params=params)


def breaker_settle(
    name: str, permit: int, outcome: wire.CallOutcome, retry_after: float | str | None
) -> Call[wire.BreakerSettlement]:
    retry_after_ms = None if retry_after is None else round(duration_s(retry_after) * 1000)
    params = wire.BreakerSettleParams(
        name=name, permit=permit, outcome=outcome, retry_after_ms=retry_after_ms
    )
    return Call(method="breaker.settle", result=wire.BreakerSettlement, params=params)


def breaker_get(name: str, uid: int | None) -> Call[wire.Breaker]:
    params = wire.BreakerParams(name=name, uid=uid)
    return Call(method="breaker.get", result=wire.Breaker, params=params)


def breaker_list() -> Call[wire.BreakerList]:
    return Call(method="breaker.list", result=wire.BreakerList)


def breaker_force_open(name: str, uid: int | None) -> Call[wire.Breaker]:
    params = wire.BreakerParams(name=name, uid=uid)
    return Call(method="breaker.force_open", result=wire.Breaker, params=params)


def breaker_disable(name: str, uid: int | None) -> Call[wire.Breaker]:
    params = wire.BreakerParams(name=name, uid=uid)
    return Call(method="breaker.disable", result=wire.Breaker, params=params)


def breaker_reset(name: str, uid: int | None) -> Call[wire.Breaker]:
    params = wire.BreakerParams(name=name, uid=uid)
    return Call(method="breaker.reset", result=wire.Breaker, params=params)
