"""Circuit breakers: a call that is let through and settled as a success, and one that is rejected.

The guarded call is nothing, so that what is timed is what guards it.
"""

from __future__ import annotations

import time
from typing import Final

import pybreaker
from purgatory import AsyncCircuitBreakerFactory, SyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState
from purgatory.service._async.unit_of_work import AsyncRedisUnitOfWork
from redis import Redis

from bench.resilience.asking import RAW, OurClient, PlainWire
from bench.resilience.contest import Caller, Contestant, Coroutine, Place, Plain
from superezio import wire
from superezio.errors import BreakerOpenError
from superezio.resilience.breaker_answers import Permit, Rejection
from superezio.resilience.breaker_rules import BreakerRules
from superezio.resilience.call_window import CountWindow
from superezio.resilience.circuit_breaker import CircuitBreaker

PASSED: Final = "breaker: a call let through, settled"
REJECTED: Final = "breaker: a call rejected"

_LONG_S: Final = 3600
#: Opens with the first call that fails.
_EASILY: Final = wire.BreakerRules(window_calls=1, minimum_calls=1, failure_rate=1.0)


class ServiceError(Exception):
    """What the guarded call raises where it is to fail."""


def service() -> bool:
    """Stand in for the guarded call."""
    return True


def failing_service() -> bool:
    raise ServiceError


# --- ours, in process ----------------------------------------------------------------------------


def ours_passed() -> Plain:
    clock = time.monotonic_ns
    breaker = CircuitBreaker(BreakerRules(), now_ns=clock())

    def work() -> bool:
        permit = breaker.acquire(clock())
        if not isinstance(permit, Permit):
            return False
        service()
        return breaker.settle(permit.id, "success", clock()).effect == "settled"

    return work


def ours_rejected() -> Plain:
    clock = time.monotonic_ns
    rules = BreakerRules(
        window=CountWindow(calls=1),
        minimum_calls=1,
        open_duration_ns=_LONG_S * 10**9,
        max_open_duration_ns=_LONG_S * 10**9,
    )
    breaker = CircuitBreaker(rules, now_ns=clock())
    permit = breaker.acquire(clock())
    assert isinstance(permit, Permit)
    breaker.settle(permit.id, "failure", clock())

    return lambda: isinstance(breaker.acquire(clock()), Rejection)


# --- ours, over the socket -----------------------------------------------------------------------


def wire_passed(place: Place) -> Plain:
    daemon = PlainWire(place.daemon)
    acquire = wire.BreakerAcquireParams(name="bench-passed")

    def work() -> bool:
        permit = daemon.ask("breaker.acquire", acquire)["permit"]
        service()
        settle = wire.BreakerSettleParams(name="bench-passed", permit=permit, outcome="success")
        told: bool = daemon.ask("breaker.settle", settle)["effect"] == "settled"
        return told

    return work


def wire_passed_and_told(place: Place) -> Plain:
    daemon = PlainWire(place.daemon)
    acquire = wire.BreakerAcquireParams(name="bench-told")

    def work() -> bool:
        permit = daemon.ask("breaker.acquire", acquire)["permit"]
        service()
        settle = wire.BreakerSettleParams(name="bench-told", permit=permit, outcome="success")
        daemon.tell("breaker.settle", settle)
        return True

    return work


def wire_rejected(place: Place) -> Plain:
    daemon = PlainWire(place.daemon)
    acquire = wire.BreakerAcquireParams(name="bench-rejected", rules=_EASILY)
    while "result" in (answer := daemon.answer("breaker.acquire", acquire)):
        permit = answer["result"]["permit"]
        settle = wire.BreakerSettleParams(name="bench-rejected", permit=permit, outcome="failure")
        daemon.ask("breaker.settle", settle)
    again = wire.BreakerAcquireParams(name="bench-rejected")

    def work() -> bool:
        kind: str = daemon.answer("breaker.acquire", again)["error"]["data"]["kind"]
        return kind == "breaker_open"

    return work


def client_passed(place: Place) -> Plain:
    daemon = OurClient(place.daemon)
    acquire = wire.BreakerAcquireParams(name="bench-client")

    def work() -> bool:
        permit = daemon.ask("breaker.acquire", acquire, wire.BreakerPermit).permit
        service()
        settle = wire.BreakerSettleParams(name="bench-client", permit=permit, outcome="success")
        told = daemon.ask("breaker.settle", settle, wire.BreakerSettlement)
        return told.effect == "settled"

    return work


def client_rejected(place: Place) -> Plain:
    wire_rejected(place)
    daemon = OurClient(place.daemon)
    acquire = wire.BreakerAcquireParams(name="bench-rejected")

    def work() -> bool:
        try:
            daemon.ask("breaker.acquire", acquire, wire.BreakerPermit)
        except BreakerOpenError:
            return True
        return False

    return work


# --- others --------------------------------------------------------------------------------------


def pybreaker_passed() -> Plain:
    breaker = pybreaker.CircuitBreaker(fail_max=20)
    return lambda: bool(breaker.call(service))


def pybreaker_rejected() -> Plain:
    return _turned_away(pybreaker.CircuitBreaker(fail_max=1, reset_timeout=_LONG_S))


def pybreaker_redis_passed(place: Place) -> Plain:
    storage = pybreaker.CircuitRedisStorage("closed", _redis(place), namespace="passed")
    breaker = pybreaker.CircuitBreaker(fail_max=20, state_storage=storage)
    return lambda: bool(breaker.call(service))


def pybreaker_redis_rejected(place: Place) -> Plain:
    storage = pybreaker.CircuitRedisStorage("closed", _redis(place), namespace="rejected")
    return _turned_away(
        pybreaker.CircuitBreaker(fail_max=1, reset_timeout=_LONG_S, state_storage=storage)
    )


def _turned_away(breaker: pybreaker.CircuitBreaker) -> Plain:
    breaker.open()

    def work() -> bool:
        try:
            breaker.call(service)
        except pybreaker.CircuitBreakerError:
            return True
        return False

    return work


def _redis(place: Place) -> Redis:
    return Redis(unix_socket_path=str(place.redis))


def purgatory_passed() -> Plain:
    factory = SyncCircuitBreakerFactory()

    def work() -> bool:
        with factory.get_breaker("bench"):
            return service()

    return work


def purgatory_rejected() -> Plain:
    factory = SyncCircuitBreakerFactory(default_threshold=1, default_ttl=_LONG_S)

    def work(guarded: Plain = service) -> bool:
        try:
            with factory.get_breaker("bench"):
                guarded()
        except OpenedState:
            return True
        except ServiceError:
            pass
        return False

    work(failing_service)
    return work


def purgatory_redis_passed(place: Place) -> Coroutine:
    factory = _purgatory_over_redis(place)

    async def work() -> bool:
        async with await factory.get_breaker("passed"):
            return service()

    return work


def purgatory_redis_rejected(place: Place) -> Coroutine:
    factory = _purgatory_over_redis(place)

    async def work() -> bool:
        for guarded in (failing_service, service):
            try:
                async with await factory.get_breaker("rejected"):
                    guarded()
            except OpenedState:
                return True
            except ServiceError:
                pass
        return False

    return work


def _purgatory_over_redis(place: Place) -> AsyncCircuitBreakerFactory:
    work = AsyncRedisUnitOfWork(f"unix://{place.redis}")
    return AsyncCircuitBreakerFactory(default_threshold=1, default_ttl=_LONG_S, uow=work)


# --- who is timed --------------------------------------------------------------------------------

_CONSECUTIVE: Final = "failure rate, slow calls, Retry-After"
_PYBREAKER: Final = f"{_CONSECUTIVE}; two calls at once (it holds a lock over the call)"
_PURGATORY: Final = f"{_CONSECUTIVE}; a bound on half-open calls"
_IN_STEPS: Final = "; one transaction"
#: It raises one error object again and again, whose traceback grows; the rounds take ever longer.
_GROWING: Final = "; a bound on memory (each rejection is kept in a traceback)"

IN_PROCESS: Final = (
    Contestant(PASSED, "superezio", "", ours_passed),
    Contestant(PASSED, "pybreaker", _PYBREAKER, pybreaker_passed),
    Contestant(PASSED, "purgatory", _PURGATORY, purgatory_passed),
    Contestant(REJECTED, "superezio", "", ours_rejected),
    Contestant(REJECTED, "pybreaker", _PYBREAKER, pybreaker_rejected),
    Contestant(REJECTED, "purgatory", _PURGATORY + _GROWING, purgatory_rejected),
)

OVER_SOCKETS: Final = (
    Caller(PASSED, "superezio, raw wire", RAW, wire_passed, "daemon"),
    Caller(PASSED, "superezio, raw wire, settle not awaited", RAW, wire_passed_and_told, "daemon"),
    Caller(PASSED, "superezio.Client", "", client_passed, "daemon"),
    Caller(PASSED, "pybreaker + Redis", _PYBREAKER + _IN_STEPS, pybreaker_redis_passed, "redis"),
    Caller(PASSED, "purgatory + Redis", _PURGATORY + _IN_STEPS, purgatory_redis_passed, "redis"),
    Caller(REJECTED, "superezio, raw wire", RAW, wire_rejected, "daemon"),
    Caller(REJECTED, "superezio.Client", "", client_rejected, "daemon"),
    Caller(
        REJECTED, "pybreaker + Redis", _PYBREAKER + _IN_STEPS, pybreaker_redis_rejected, "redis"
    ),
    Caller(
        REJECTED, "purgatory + Redis", _PURGATORY + _IN_STEPS, purgatory_redis_rejected, "redis"
    ),
)
