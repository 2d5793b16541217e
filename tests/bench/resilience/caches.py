"""Caches: a hit, a miss that is filled, and a set.

A value is 1,000 characters, as an answer of a model is. The keys of hits and sets come in turn out
of a thousand; that of a miss is new each time, and the cache is bounded, so that in process the
oldest goes for it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from itertools import count, cycle
from typing import Any, Final

from cachetools import LRUCache, TTLCache, cached
from cashews import Cache as Cashews
from cashews import register_backend
from cashews.backends.redis import Redis as CashewsRedis
from cashews.picklers import PicklerType
from redis import Redis

from bench.resilience.asking import RAW, OurClient, PlainWire
from bench.resilience.contest import Caller, Contestant, Coroutine, Place, Plain
from superezio import wire
from superezio.resilience.cache import Cache
from superezio.resilience.cache_answers import Hit, Lead, Value
from superezio.resilience.cache_limits import Lifetime, Limits, Quota

HIT: Final = "cache: a hit"
FILLED: Final = "cache: a miss that is filled"
SET: Final = "cache: a set"

_TEXT: Final = "x" * 1000
_KEYS: Final = [f"key-{number}" for number in range(1000)]
_ENTRIES: Final = 10_000
_TTL_S: Final = 3600
_LIFETIME: Final = Lifetime(ttl_ns=_TTL_S * 10**9)
_SPACE: Final = "bench"

Fetch = Callable[[str], str]

register_backend("unix", CashewsRedis, pass_uri=True, pickler=PicklerType.DEFAULT)


def fetch(key: str) -> str:
    """Stand in for what is fetched where the cache has nothing."""
    return _TEXT if key else ""


async def fetch_coroutine(key: str) -> str:
    return fetch(key)


def new_keys() -> Callable[[], str]:
    """Return what makes keys that no other process has, nor had."""
    numbers = count()
    begun = f"{os.getpid()}-{time.monotonic_ns()}"
    return lambda: f"{begun}-{next(numbers)}"


# --- ours, in process ----------------------------------------------------------------------------


def _ours() -> Cache:
    plenty = 100 << 20
    quota = Quota(max_bytes=plenty, max_entries=_ENTRIES)
    return Cache(
        Limits(max_bytes=plenty, max_entries=_ENTRIES, max_value_bytes=1 << 20, quota=quota)
    )


def ours_hit() -> Plain:
    clock, cache, keys = time.monotonic_ns, _ours(), cycle(_KEYS)
    for key in _KEYS:
        cache.put(_SPACE, key, Value.of(fetch(key)), _LIFETIME, now_ns=clock())

    def work() -> bool:
        answer = cache.get(_SPACE, next(keys), holder=1, now_ns=clock())
        return isinstance(answer, Hit) and answer.value.content == _TEXT

    return work


def ours_filled() -> Plain:
    clock, cache, key_of = time.monotonic_ns, _ours(), new_keys()

    def work() -> bool:
        key = key_of()
        answer = cache.get(_SPACE, key, holder=1, now_ns=clock())
        if not isinstance(answer, Lead):
            return False
        value = Value.of(fetch(key))
        return cache.fill(answer.token, value, _LIFETIME, holder=1, now_ns=clock()).stored

    return work


def ours_set() -> Plain:
    clock, cache, keys = time.monotonic_ns, _ours(), cycle(_KEYS)

    def work() -> bool:
        value = Value.of(_TEXT)
        return cache.put(_SPACE, next(keys), value, _LIFETIME, now_ns=clock()).stored

    return work


# --- ours, over the socket -----------------------------------------------------------------------


def wire_hit(place: Place) -> Plain:
    daemon, keys = PlainWire(place.daemon), cycle(_KEYS)
    for key in _KEYS:
        daemon.ask("cache.set", wire.CacheSetParams(namespace=_SPACE, key=key, text=_TEXT))

    def work() -> bool:
        params = wire.CacheGetParams(namespace=_SPACE, key=next(keys), fill=True)
        told: bool = daemon.ask("cache.get", params)["text"] == _TEXT
        return told

    return work


def wire_filled(place: Place) -> Plain:
    daemon, key_of = PlainWire(place.daemon), new_keys()

    def work() -> bool:
        key = key_of()
        params = wire.CacheGetParams(namespace=_SPACE, key=key, fill=True)
        token = daemon.ask("cache.get", params)["token"]
        value = wire.CacheSetParams(namespace=_SPACE, key=key, text=fetch(key), token=token)
        stored: bool = daemon.ask("cache.set", value)["stored"]
        return stored

    return work


def wire_set(place: Place) -> Plain:
    daemon, keys = PlainWire(place.daemon), cycle(_KEYS)

    def work() -> bool:
        value = wire.CacheSetParams(namespace=_SPACE, key=next(keys), text=_TEXT)
        stored: bool = daemon.ask("cache.set", value)["stored"]
        return stored

    return work


def client_hit(place: Place) -> Plain:
    wire_hit(place)
    daemon, keys = OurClient(place.daemon), cycle(_KEYS)

    def work() -> bool:
        params = wire.CacheGetParams(namespace=_SPACE, key=next(keys), fill=True)
        return daemon.ask("cache.get", params, wire.CacheAnswer).text == _TEXT

    return work


def client_filled(place: Place) -> Plain:
    daemon, key_of = OurClient(place.daemon), new_keys()

    def work() -> bool:
        key = key_of()
        params = wire.CacheGetParams(namespace=_SPACE, key=key, fill=True)
        token = daemon.ask("cache.get", params, wire.CacheAnswer).token
        value = wire.CacheSetParams(namespace=_SPACE, key=key, text=fetch(key), token=token)
        return daemon.ask("cache.set", value, wire.CacheStored).stored

    return work


def client_set(place: Place) -> Plain:
    daemon, keys = OurClient(place.daemon), cycle(_KEYS)

    def work() -> bool:
        value = wire.CacheSetParams(namespace=_SPACE, key=next(keys), text=_TEXT)
        return daemon.ask("cache.set", value, wire.CacheStored).stored

    return work


# --- cachetools ----------------------------------------------------------------------------------


def ttl_hit() -> Plain:
    return _tools_hit(TTLCache(_ENTRIES, _TTL_S))


def lru_hit() -> Plain:
    return _tools_hit(LRUCache(_ENTRIES))


def _tools_hit(cache: Any) -> Plain:
    lock, keys = threading.Lock(), cycle(_KEYS)
    for key in _KEYS:
        cache[key] = fetch(key)

    def work() -> bool:
        with lock:
            return bool(cache[next(keys)] == _TEXT)

    return work


def ttl_filled() -> Plain:
    return _tools_filled(cached(TTLCache(_ENTRIES, _TTL_S), lock=threading.Lock())(fetch))


def ttl_filled_once() -> Plain:
    once = cached(TTLCache(_ENTRIES, _TTL_S), condition=threading.Condition())
    return _tools_filled(once(fetch))


def lru_filled() -> Plain:
    return _tools_filled(cached(LRUCache(_ENTRIES), lock=threading.Lock())(fetch))


def _tools_filled(through: Fetch) -> Plain:
    key_of = new_keys()
    return lambda: through(key_of()) == _TEXT


def ttl_set() -> Plain:
    return _tools_set(TTLCache(_ENTRIES, _TTL_S))


def lru_set() -> Plain:
    return _tools_set(LRUCache(_ENTRIES))


def _tools_set(cache: Any) -> Plain:
    lock, keys = threading.Lock(), cycle(_KEYS)

    def work() -> bool:
        with lock:
            cache[next(keys)] = _TEXT
        return True

    return work


# --- cashews -------------------------------------------------------------------------------------


def cashews_in_memory(entries: int) -> Cashews:
    cache = Cashews()
    cache.setup("mem://", size=entries)
    return cache


def cashews_over_redis(place: Place) -> Cashews:
    """Return one that raises what goes wrong, which it would otherwise keep to itself."""
    cache = Cashews()
    cache.setup(f"unix://{place.redis}", suppress=False)
    return cache


def cashews_hit() -> Coroutine:
    return _cashews_hit(cashews_in_memory(_ENTRIES))


def cashews_filled() -> Coroutine:
    return _cashews_filled(cashews_in_memory(_ENTRIES), lock=False)


def cashews_set() -> Coroutine:
    return _cashews_set(cashews_in_memory(_ENTRIES))


def cashews_redis_hit(place: Place) -> Coroutine:
    return _cashews_hit(cashews_over_redis(place))


def cashews_redis_filled(place: Place) -> Coroutine:
    return _cashews_filled(cashews_over_redis(place), lock=False)


def cashews_redis_filled_once(place: Place) -> Coroutine:
    return _cashews_filled(cashews_over_redis(place), lock=True)


def cashews_redis_set(place: Place) -> Coroutine:
    return _cashews_set(cashews_over_redis(place))


def _cashews_hit(cache: Cashews) -> Coroutine:
    keys, to_set = cycle(_KEYS), list(_KEYS)

    async def work() -> bool:
        while to_set:  # the first time, which is not timed
            await cache.set(to_set.pop(), _TEXT, expire=_TTL_S)
        return bool(await cache.get(next(keys)) == _TEXT)

    return work


def _cashews_filled(cache: Cashews, *, lock: bool) -> Coroutine:
    through = cache(ttl=_TTL_S, key="{key}", lock=lock)(fetch_coroutine)
    key_of = new_keys()

    async def work() -> bool:
        return bool(await through(key_of()) == _TEXT)

    return work


def _cashews_set(cache: Cashews) -> Coroutine:
    keys = cycle(_KEYS)

    async def work() -> bool:
        return bool(await cache.set(next(keys), _TEXT, expire=_TTL_S))

    return work


# --- Redis alone ---------------------------------------------------------------------------------


def redis_hit(place: Place) -> Plain:
    redis, keys = Redis(unix_socket_path=str(place.redis)), cycle(_KEYS)
    for key in _KEYS:
        redis.set(f"plain-{key}", _TEXT, ex=_TTL_S)
    return lambda: bool(redis.get(f"plain-{next(keys)}").decode() == _TEXT)


def redis_filled(place: Place) -> Plain:
    redis, key_of = Redis(unix_socket_path=str(place.redis)), new_keys()

    def work() -> bool:
        key = key_of()
        if redis.get(key) is not None:
            return False
        return bool(redis.set(key, fetch(key), ex=_TTL_S))

    return work


def redis_set(place: Place) -> Plain:
    redis, keys = Redis(unix_socket_path=str(place.redis)), cycle(_KEYS)
    return lambda: bool(redis.set(f"plain-{next(keys)}", _TEXT, ex=_TTL_S))


# --- who is timed --------------------------------------------------------------------------------

_OUTDATED: Final = "invalidating a fill under way"
_STALE: Final = f"serving stale while one refreshes, {_OUTDATED}"
_TTL: Final = f"single-flight, {_STALE}"
_LRU: Final = f"a time to live, {_TTL}"
_CASHEWS: Final = f"a bound in bytes, {_OUTDATED}"
_CASHEWS_ALONE: Final = f"single-flight between processes, {_OUTDATED}"
_CASHEWS_LOCK: Final = f"{_OUTDATED}, waking who waits (they poll), outliving a leader"

IN_PROCESS: Final = (
    Contestant(HIT, "superezio", "", ours_hit),
    Contestant(HIT, "cachetools, TTLCache", _TTL, ttl_hit),
    Contestant(HIT, "cachetools, LRUCache", _LRU, lru_hit),
    Contestant(HIT, "cashews, in memory", _CASHEWS, cashews_hit),
    Contestant(FILLED, "superezio", "", ours_filled),
    Contestant(FILLED, "cachetools, TTLCache, lock", _TTL, ttl_filled),
    Contestant(FILLED, "cachetools, TTLCache, condition", _STALE, ttl_filled_once),
    Contestant(FILLED, "cachetools, LRUCache, lock", _LRU, lru_filled),
    Contestant(FILLED, "cashews, in memory", _CASHEWS, cashews_filled),
    Contestant(SET, "superezio", "", ours_set),
    Contestant(SET, "cachetools, TTLCache", _TTL, ttl_set),
    Contestant(SET, "cachetools, LRUCache", _LRU, lru_set),
    Contestant(SET, "cashews, in memory", _CASHEWS, cashews_set),
)

OVER_SOCKETS: Final = (
    Caller(HIT, "superezio, raw wire", RAW, wire_hit, "daemon"),
    Caller(HIT, "superezio.Client", "", client_hit, "daemon"),
    Caller(HIT, "cashews + Redis", _CASHEWS_ALONE, cashews_redis_hit, "redis"),
    Caller(HIT, "redis-py", _TTL, redis_hit, "redis"),
    Caller(FILLED, "superezio, raw wire", RAW, wire_filled, "daemon"),
    Caller(FILLED, "superezio.Client", "", client_filled, "daemon"),
    Caller(FILLED, "cashews + Redis, lock", _CASHEWS_LOCK, cashews_redis_filled_once, "redis"),
    Caller(FILLED, "cashews + Redis", _CASHEWS_ALONE, cashews_redis_filled, "redis"),
    Caller(FILLED, "redis-py", _TTL, redis_filled, "redis"),
    Caller(SET, "superezio, raw wire", RAW, wire_set, "daemon"),
    Caller(SET, "superezio.Client", "", client_set, "daemon"),
    Caller(SET, "cashews + Redis", _CASHEWS_ALONE, cashews_redis_set, "redis"),
    Caller(SET, "redis-py", _TTL, redis_set, "redis"),
)
