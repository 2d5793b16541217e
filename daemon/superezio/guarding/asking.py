"""What is asked of the daemon, or of its stand-in, on behalf of one guarded call."""

from __future__ import annotations

from superezio import wire
from superezio.calls import Call


def breaker_acquire(name: str, rules: wire.BreakerRules | None) -> Call[wire.BreakerPermit]:
    """Asking again on another connection is fine: the first permit went with the first one."""
    params = wire.BreakerAcquireParams(name=name, rules=rules)
    return Call(
        method="breaker.acquire", result=wire.BreakerPermit, params=params, undo=_undo_permit
    )


def breaker_settle(
    name: str, permit: int, outcome: wire.CallOutcome, retry_after_ms: int | None
) -> Call[wire.BreakerSettlement]:
    """Only the connection that got a permit may settle it, so that this is sent once."""
    params = wire.BreakerSettleParams(
        name=name, permit=permit, outcome=outcome, retry_after_ms=retry_after_ms
    )
    return Call(
        method="breaker.settle", result=wire.BreakerSettlement, params=params, idempotent=False
    )


def limit_acquire(params: wire.LimitAcquireParams) -> Call[wire.LimitReservation]:
    """Asking again on another connection is safe: the first reservation counts as used, at most."""
    return Call(
        method="limit.acquire",
        result=wire.LimitReservation,
        params=params,
        wait_s=params.wait_ms / 1000,
        undo=_undo_reservation,
    )


def limit_settle(params: wire.LimitSettleParams) -> Call[wire.LimitSettlement]:
    return Call(method="limit.settle", result=wire.LimitSettlement, params=params, idempotent=False)


def cache_get(namespace: str, key: str, *, wait_ms: int, lead_ms: int) -> Call[wire.CacheAnswer]:
    """Asking again on another connection is fine: a lead went with the first one."""
    params = wire.CacheGetParams(
        namespace=namespace, key=key, fill=True, wait_ms=wait_ms, lead_ms=lead_ms
    )
    return Call(
        method="cache.get",
        result=wire.CacheAnswer,
        params=params,
        wait_s=wait_ms / 1000,
        undo=lambda answer: (
            None if answer.token is None else cache_fail(namespace, key, answer.token, None)
        ),
    )


def cache_set(params: wire.CacheSetParams) -> Call[wire.CacheStored]:
    return Call(method="cache.set", result=wire.CacheStored, params=params, idempotent=False)


def cache_fail(
    namespace: str, key: str, token: str, error: str | None, *, pass_on: bool = False
) -> Call[wire.CacheFailed]:
    params = wire.CacheFailParams(
        namespace=namespace, key=key, token=token, error=error, pass_on=pass_on
    )
    return Call(method="cache.fail", result=wire.CacheFailed, params=params, idempotent=False)


def _undo_permit(permit: wire.BreakerPermit) -> Call[wire.BreakerSettlement]:
    return breaker_settle(permit.name, permit.permit, "ignore", None)


def _undo_reservation(reservation: wire.LimitReservation) -> Call[wire.LimitSettlement] | None:
    if reservation.absent:
        return None
    unused = wire.LimitSettleParams(
        reservation=reservation.reservation, requests=0, tokens=0, money_micros=0
    )
    return limit_settle(unused)
