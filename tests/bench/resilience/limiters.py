"""Rate limiters: one decision, granted or rejected.

In process each key has room for a hundred and then comes the next one: a limiter that remembers
each grant would otherwise be timed at how much it remembers. Over the sockets there is one key
that all share, with room for more than there is time for.
"""

from __future__ import annotations

import time
from itertools import count
from typing import Final

import limits
from aiolimiter import AsyncLimiter
from cashews import Cache, RateLimitError
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from limits.strategies import RateLimiter as Theirs

from bench.resilience.asking import RAW, OurClient, PlainWire
from bench.resilience.caches import cashews_in_memory, cashews_over_redis
from bench.resilience.contest import Caller, Contestant, Coroutine, Place, Plain
from superezio import wire
from superezio.errors import RateLimitedError
from superezio.resilience.gcra import Gcra
from superezio.resilience.rate_limiter import (
    Cost,
    Limit,
    Rate,
    RateLimiter,
    Rejection,
    Reservation,
    Scope,
)

GRANTED: Final = "limit: a decision, granted"
REJECTED: Final = "limit: a decision, rejected"

#: How many each key has room for.
_ROOM: Final = 100
_HOUR_S: Final = 3600
_PLENTY: Final = 10**9
_ONE: Final = Cost(requests=1)
_MANY: Final = wire.LimitRates(requests=wire.LimitRate(limit=_PLENTY, period_ms=1000))
_FEW: Final = wire.LimitRates(requests=wire.LimitRate(limit=1, period_ms=_HOUR_S * 1000))


# --- ours, in process ----------------------------------------------------------------------------


def ours_granted() -> Plain:
    clock = time.monotonic_ns
    limiter = RateLimiter()
    limit = Limit(requests=Rate(limit=_ROOM, period_ns=_HOUR_S * 10**9))
    numbers = count()

    def work() -> bool:
        scope = Scope("key", f"user-{next(numbers) // _ROOM}")
        now_ns = clock()
        granted = limiter.acquire(now_ns, (limiter.budget(now_ns, scope, limit),), _ONE)
        return isinstance(granted, Reservation) and limiter.settle(clock(), granted)

    return work


def ours_rejected() -> Plain:
    clock = time.monotonic_ns
    limiter = RateLimiter()
    limit = Limit(requests=Rate(limit=1, period_ns=_HOUR_S * 10**9))
    scope = Scope("key", "user")
    limiter.acquire(clock(), (limiter.budget(clock(), scope, limit),), _ONE)

    def work() -> bool:
        now_ns = clock()
        answer = limiter.acquire(now_ns, (limiter.budget(now_ns, scope, limit),), _ONE)
        return isinstance(answer, Rejection)

    return work


def gcra_granted() -> Plain:
    clock = time.monotonic_ns
    keys: dict[str, Gcra] = {}
    numbers = count()

    def work() -> bool:
        name = f"user-{next(numbers) // _ROOM}"
        key = keys.get(name)
        if key is None:
            key = keys[name] = Gcra(limit=_ROOM, period_ns=_HOUR_S * 10**9, burst=_ROOM)
        return not key.acquire(clock())

    return work


def gcra_rejected() -> Plain:
    clock = time.monotonic_ns
    keys = {"user": Gcra(limit=1, period_ns=_HOUR_S * 10**9, burst=1)}
    keys["user"].acquire(clock())
    return lambda: keys["user"].acquire(clock()) > 0


# --- ours, over the socket -----------------------------------------------------------------------


def wire_granted(place: Place) -> Plain:
    daemon = PlainWire(place.daemon)
    acquire = wire.LimitAcquireParams(name="bench-granted", rates=_MANY)

    def work() -> bool:
        return "reservation" in daemon.ask("limit.acquire", acquire)

    return work


def wire_settled(place: Place) -> Plain:
    daemon = PlainWire(place.daemon)
    acquire = wire.LimitAcquireParams(name="bench-settled", rates=_MANY)

    def work() -> bool:
        reservation = daemon.ask("limit.acquire", acquire)["reservation"]
        settle = wire.LimitSettleParams(reservation=reservation)
        settled: bool = daemon.ask("limit.settle", settle)["settled"]
        return settled

    return work


def wire_rejected(place: Place) -> Plain:
    daemon = PlainWire(place.daemon)
    acquire = wire.LimitAcquireParams(name="bench-rejected", rates=_FEW)
    while "result" in daemon.answer("limit.acquire", acquire):
        pass

    def work() -> bool:
        kind: str = daemon.answer("limit.acquire", acquire)["error"]["data"]["kind"]
        return kind == "rate_limited"

    return work


def client_granted(place: Place) -> Plain:
    daemon = OurClient(place.daemon)
    acquire = wire.LimitAcquireParams(name="bench-granted", rates=_MANY)
    return lambda: bool(daemon.ask("limit.acquire", acquire, wire.LimitReservation).name)


def client_rejected(place: Place) -> Plain:
    wire_rejected(place)
    daemon = OurClient(place.daemon)
    acquire = wire.LimitAcquireParams(name="bench-rejected", rates=_FEW)

    def work() -> bool:
        try:
            daemon.ask("limit.acquire", acquire, wire.LimitReservation)
        except RateLimitedError:
            return True
        return False

    return work


# --- the package limits -------------------------------------------------------------------------


def fixed_granted() -> Plain:
    return _keyed(FixedWindowRateLimiter(MemoryStorage()))


def moving_granted() -> Plain:
    return _keyed(MovingWindowRateLimiter(MemoryStorage()))


def _keyed(limiter: Theirs) -> Plain:
    item = limits.RateLimitItemPerHour(_ROOM)
    numbers = count()
    return lambda: bool(limiter.hit(item, f"user-{next(numbers) // _ROOM}"))


def fixed_rejected() -> Plain:
    return _used_up(FixedWindowRateLimiter(MemoryStorage()))


def moving_rejected() -> Plain:
    return _used_up(MovingWindowRateLimiter(MemoryStorage()))


def _used_up(limiter: Theirs) -> Plain:
    item = limits.RateLimitItemPerHour(1)
    # The kinds of window keep different things under their keys.
    key = f"rejected by {type(limiter).__name__}"
    while limiter.hit(item, key):
        pass
    return lambda: not limiter.hit(item, key)


def fixed_redis_granted(place: Place) -> Plain:
    return _with_plenty(FixedWindowRateLimiter(_storage(place)), "fixed")


def moving_redis_granted(place: Place) -> Plain:
    return _with_plenty(MovingWindowRateLimiter(_storage(place)), "moving")


def _with_plenty(limiter: Theirs, key: str) -> Plain:
    item = limits.RateLimitItemPerSecond(_PLENTY)
    return lambda: bool(limiter.hit(item, key))


def fixed_redis_rejected(place: Place) -> Plain:
    return _used_up(FixedWindowRateLimiter(_storage(place)))


def moving_redis_rejected(place: Place) -> Plain:
    return _used_up(MovingWindowRateLimiter(_storage(place)))


def _storage(place: Place) -> RedisStorage:
    return RedisStorage(f"redis+unix://{place.redis}")


# --- others --------------------------------------------------------------------------------------


def aiolimiter_granted() -> Coroutine:
    numbers = count()
    limiter = AsyncLimiter(_ROOM, _HOUR_S)

    async def work() -> bool:
        nonlocal limiter
        if next(numbers) % _ROOM == 0:
            limiter = AsyncLimiter(_ROOM, _HOUR_S)
        await limiter.acquire()
        return True

    return work


def aiolimiter_rejected() -> Coroutine:
    limiter = AsyncLimiter(1, _HOUR_S)

    async def work() -> bool:
        for _ in range(2):
            if not limiter.has_capacity():
                return True
            await limiter.acquire()
        return False

    return work


def cashews_granted() -> Coroutine:
    cache = cashews_in_memory(1_000_000)

    async def service(user: str) -> bool:
        return bool(user)

    limited = cache.rate_limit(limit=_ROOM, period=_HOUR_S, key="{user}")(service)
    numbers = count()

    async def work() -> bool:
        return bool(await limited(f"user-{next(numbers) // _ROOM}"))

    return work


def cashews_redis_granted(place: Place) -> Coroutine:
    return _cashews(cashews_over_redis(place), _PLENTY)


def cashews_rejected() -> Coroutine:
    return _cashews_rejected(cashews_in_memory(1_000))


def cashews_redis_rejected(place: Place) -> Coroutine:
    return _cashews_rejected(cashews_over_redis(place))


def _cashews(cache: Cache, room: int) -> Coroutine:
    async def service() -> bool:
        return True

    limited = cache.rate_limit(limit=room, period=_HOUR_S, key=f"room-{room}")(service)

    async def work() -> bool:
        return bool(await limited())

    return work


def _cashews_rejected(cache: Cache) -> Coroutine:
    limited = _cashews(cache, 1)

    async def work() -> bool:
        for _ in range(2):
            try:
                await limited()
            except RateLimitError:
                return True
        return False

    return work


# --- who is timed --------------------------------------------------------------------------------

_WINDOW: Final = "settle, waiting, several dimensions"
_FIXED: Final = f"{_WINDOW}; an exact limit (twice it, over a window's end)"
_MOVING: Final = f"{_WINDOW}; a bound on memory (it keeps each grant)"
_AIOLIMITER: Final = "settle, several dimensions, a fair queue, keys"
_CASHEWS: Final = f"{_FIXED}; rejecting for free (it counts)"
_GCRA: Final = f"{_WINDOW} (a part of the above)"

IN_PROCESS: Final = (
    Contestant(GRANTED, "superezio, reserved and settled", "", ours_granted),
    Contestant(GRANTED, "superezio, Gcra alone", _GCRA, gcra_granted),
    Contestant(GRANTED, "limits, fixed window", _FIXED, fixed_granted),
    Contestant(GRANTED, "limits, moving window", _MOVING, moving_granted),
    Contestant(GRANTED, "aiolimiter", _AIOLIMITER, aiolimiter_granted),
    Contestant(GRANTED, "cashews, in memory", _CASHEWS, cashews_granted),
    Contestant(REJECTED, "superezio", "", ours_rejected),
    Contestant(REJECTED, "superezio, Gcra alone", _GCRA, gcra_rejected),
    Contestant(REJECTED, "limits, fixed window", _FIXED, fixed_rejected),
    Contestant(REJECTED, "limits, moving window", _MOVING, moving_rejected),
    Contestant(
        REJECTED, "aiolimiter", f"{_AIOLIMITER}, rejecting (it is asked)", aiolimiter_rejected
    ),
    Contestant(REJECTED, "cashews, in memory", _CASHEWS, cashews_rejected),
)

OVER_SOCKETS: Final = (
    Caller(GRANTED, "superezio, raw wire, never settled", RAW, wire_granted, "daemon"),
    Caller(GRANTED, "superezio, raw wire, settled", RAW, wire_settled, "daemon"),
    Caller(GRANTED, "superezio.Client, never settled", "", client_granted, "daemon"),
    Caller(GRANTED, "limits + Redis, fixed window", _FIXED, fixed_redis_granted, "redis"),
    Caller(GRANTED, "limits + Redis, moving window", _MOVING, moving_redis_granted, "redis"),
    Caller(GRANTED, "cashews + Redis", _CASHEWS, cashews_redis_granted, "redis"),
    Caller(REJECTED, "superezio, raw wire", RAW, wire_rejected, "daemon"),
    Caller(REJECTED, "superezio.Client", "", client_rejected, "daemon"),
    Caller(REJECTED, "limits + Redis, fixed window", _FIXED, fixed_redis_rejected, "redis"),
    Caller(REJECTED, "limits + Redis, moving window", _MOVING, moving_redis_rejected, "redis"),
    Caller(REJECTED, "cashews + Redis", _CASHEWS, cashews_redis_rejected, "redis"),
)
