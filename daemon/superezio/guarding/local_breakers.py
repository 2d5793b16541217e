"""The breakers that stand in for the daemon's, in this process."""

from __future__ import annotations

from typing import Any, Final

from superezio import milliseconds, wire
from superezio.errors import BreakerOpenError
from superezio.resilience.breaker_answers import Rejection
from superezio.resilience.breaker_rules import BreakerRules
from superezio.resilience.call_window import CountWindow, TimeWindow
from superezio.resilience.circuit_breaker import CircuitBreaker

_MS_NS: Final = 1_000_000
_SECOND_NS: Final = 1_000_000_000

_RATES: Final = {
    "failure_rate": "failure_rate_threshold",
    "slow_call_rate": "slow_call_rate_threshold",
}
_COUNTS: Final = {"minimum_calls": "minimum_calls", "half_open_calls": "half_open_calls"}
_TIMES: Final = {
    "slow_call_s": "slow_call_duration_ns",
    "open_s": "open_duration_ns",
    "open_limit_s": "max_open_duration_ns",
    "half_open_wait_s": "half_open_wait_ns",
    "healthy_interval_s": "healthy_interval_ns",
    "permit_s": "permit_ttl_ns",
    "block_limit_s": "max_block_ns",
}


class LocalBreakers:
    """Breakers by name. The rules that a breaker is first asked with are its rules."""

    def __init__(self) -> None:
        self._breakers: dict[str, CircuitBreaker] = {}

    def acquire(self, params: wire.BreakerAcquireParams, now_ns: int) -> wire.BreakerPermit:
        """Raises BreakerOpenError, and ValueError for rules that cannot work."""
        breaker = self._breakers.get(params.name)
        if breaker is None:
            breaker = CircuitBreaker(local_rules(params.rules), now_ns=now_ns)
            self._breakers[params.name] = breaker
        answer = breaker.acquire(now_ns)
        if isinstance(answer, Rejection):
            raise BreakerOpenError(
                f"the circuit breaker {params.name} is {answer.state} in this process",
                retry_after_ms=milliseconds.rounded_up(answer.retry_after_ns),
                data={"name": params.name, "state": answer.state},
            )
        return wire.BreakerPermit(
            name=params.name,
            permit=answer.id,
            state=breaker.state,
            shared=False,
            expires_in_ms=breaker.rules.permit_ttl_ns // _MS_NS,
        )

    def settle(self, params: wire.BreakerSettleParams, now_ns: int) -> wire.BreakerSettlement:
        breaker = self._breakers[params.name]
        outcome = params.outcome
        if outcome == "throttled":
            after_ms = params.retry_after_ms
            effect = breaker.settle(params.permit, "ignore", now_ns).effect
            breaker.block(now_ns, None if after_ms is None else after_ms * _MS_NS)
        else:
            effect = breaker.settle(params.permit, outcome, now_ns).effect
        return wire.BreakerSettlement(effect=effect, state=breaker.state)


def local_rules(rules: wire.BreakerRules | None) -> BreakerRules:
    """Return the rules of the pure breaker: the built-in ones, but for what is given."""
    if rules is None:
        return BreakerRules()
    chosen: dict[str, Any] = {}
    if rules.window_s is not None:
        chosen["window"] = TimeWindow(seconds=rules.window_s)
    elif rules.window_calls is not None:
        chosen["window"] = CountWindow(calls=rules.window_calls)
    for given, name in (_RATES | _COUNTS).items():
        chosen[name] = getattr(rules, given)
    for given, name in _TIMES.items():
        seconds = getattr(rules, given)
        chosen[name] = None if seconds is None else round(seconds * _SECOND_NS)
    return BreakerRules(**{name: value for name, value in chosen.items() if value is not None})
