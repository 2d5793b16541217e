"""What may be said of a guarded call, and how rates are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypedDict, cast

from superezio import wire
from superezio.calls import duration_s
from superezio.quantities import parse_duration

#: `limit/period`, with `burst N` where not all of the limit may come at once, or more of it.
_RATE: Final = re.compile(
    r"\s*(\d[\d_]*)\s*/\s*(\d*\.?\d*)\s*([a-z]+)(?:\s+burst\s+(\d[\d_]*))?\s*"
)

_LONGEST_S: Final = 10_000_000_000
#: The most of anything that every reader of JSON reads as it was written.
_MOST: Final = 2**53

#: The options of a guard that mean nothing without a limit.
_LIMITED: Final = frozenset(
    ("limit", "requests", "tokens", "money_micros", "concurrency", "key", "rates")
)

#: Rates as people write them: {"requests": "60/1m", "tokens": "90000/1m burst 20000"}, or
#: "60/1m" for requests alone; `concurrency` is a number of slots.
Rates = wire.LimitRates | Mapping[str, str | int] | str


class BreakerOptions(TypedDict, total=False):
    """The rules of a breaker of one's own, as `superezio.wire.BreakerRules` explains them."""

    window_calls: int
    window_s: int
    minimum_calls: int
    failure_rate: float
    slow_call_rate: float
    slow_call_s: float
    open_s: float
    open_limit_s: float
    half_open_calls: int
    half_open_wait_s: float
    healthy_interval_s: float
    permit_s: float
    block_limit_s: float


#: Rules as they are sent, or by their names: {"open_s": 5}.
Rules = wire.BreakerRules | BreakerOptions


class LimitOptions(TypedDict, total=False):
    """What a call takes of a limit, and how long it waits for that.

    `requests` is 1 where it is not given; `money_micros` are millionths of the configured
    currency; `concurrency` is slots, held until the call is over: one where the limit has any,
    unless given. `key` is whose call it is, where the limit has a scope of keys. `wait`: seconds,
    or text such as `1m30s`; 0, the default, does not wait. `rates` are those of a limit of one's
    own: "60/1m" for requests, or by dimension.
    """

    requests: int
    tokens: int
    money_micros: int
    concurrency: int | None
    key: str | None
    wait: float | str
    rates: Rates | None


class CachedOptions(TypedDict, total=False):
    """How long a value serves, in seconds or as text such as `1h`, and how it is fetched.

    `ttl`: fresh (an hour, where it is not given), give or take a tenth; then, for `grace`, served
    while one caller refreshes it, and for `stale_if_error` where refreshing it fails. `tags` are
    names to delete it by. `fill_wait`: how long to wait for another who fetches the value, and
    `fill_time`: how long this caller may take, 30 s each. `returns`: the type of the value, where
    the function is not annotated with it. `tell_errors`: whether those who wait get the text of an
    exception besides the name of its type (no, where it is not given): it goes to all who use the
    namespace, other users too, and may hold a secret.
    """

    ttl: float | str
    grace: float | str
    stale_if_error: float | str
    tags: Sequence[str]
    fill_wait: float | str
    fill_time: float | str
    returns: type
    tell_errors: bool


class PassOptions(LimitOptions, total=False):
    """What may be said of a call behind a limit and a breaker.

    They have the guard's name, unless `breaker` or `limit` give them another; None for one of them
    does without it. `rules` are those of a breaker of one's own, and `failure` says which
    exceptions are failures of the service.
    """

    breaker: str | None
    limit: str | None
    rules: Rules | None
    failure: Callable[[Exception], bool]


class GuardOptions(PassOptions, CachedOptions, total=False):
    """What may be said of a call behind a cache, a limit and a breaker.

    There is a cache where `cache`, `cache_key` or `ttl` is given. `cache` is the namespace, that of
    the guard's name without it; `cache_key` is the key, or for a function what makes it of the
    arguments. `used` says of what a decorated function returns what it used: {"tokens": 412}.
    """

    cache: str
    cache_key: str | Callable[..., str]
    used: Callable[[Any], Mapping[str, int]]


def breaker_rules(options: Rules | None) -> wire.BreakerRules | None:
    """Return the rules that were given, if any were. An unknown name is a TypeError."""
    if options is None or isinstance(options, wire.BreakerRules):
        return options
    if not isinstance(options, Mapping):
        raise TypeError(
            f'rules are a dict such as {{"open_s": 5}}, or wire.BreakerRules, not {options!r}'
        )
    _refuse_unknown(options, BreakerOptions.__optional_keys__)
    return wire.BreakerRules(**options) if options else None


def limit_params(
    name: str, options: LimitOptions, *, if_exists: bool = False
) -> wire.LimitAcquireParams:
    """Return what to ask for. Raises TypeError for an unknown name, ValueError.

    `if_exists`: nothing is limited where there is no such limit.
    """
    _refuse_unknown(options, LimitOptions.__optional_keys__)
    rates = options.get("rates")
    return wire.LimitAcquireParams(
        name=name,
        requests=options.get("requests", 1),
        tokens=options.get("tokens", 0),
        money_micros=options.get("money_micros", 0),
        concurrency=options.get("concurrency"),
        key=options.get("key"),
        wait_ms=milliseconds(options.get("wait", 0)),
        rates=None if rates is None else limit_rates(rates),
        if_exists=if_exists,
    )


def limit_rates(rates: Rates) -> wire.LimitRates:
    """Return rates as they are sent. Raises ValueError where they cannot be read, or TypeError."""
    if isinstance(rates, wire.LimitRates):
        return rates
    if isinstance(rates, str):
        return wire.LimitRates(requests=limit_rate(rates))
    known = set(wire.LimitRates.__struct_fields__)
    if unknown := sorted(set(rates) - known):
        raise ValueError(
            f"cannot limit {', '.join(unknown)}: what is limited is {', '.join(sorted(known))}."
            " Caps by day and month are those of a shared name, [limit.shared.NAME] of the"
            " configuration"
        )
    slots = rates.get("concurrency")
    if slots is not None and not isinstance(slots, int):
        raise TypeError(f"concurrency is a number of slots, not {slots!r}")
    return wire.LimitRates(
        requests=_rate_of(rates, "requests"),
        tokens=_rate_of(rates, "tokens"),
        money_micros=_rate_of(rates, "money_micros"),
        concurrency=slots,
    )


def limit_rate(text: str) -> wire.LimitRate:
    """Return the rate that `text` names: `60/1m`, `60/m`, `90000/1m burst 20000`.

    Raises ValueError, with an example, for anything else.
    """
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"cannot read {text!r} as a rate: write it like 60/1m or 10/1s burst 20")
    limit, count, unit, burst = match.groups()
    period_ms = round(parse_duration(f"{count or 1}{unit}") * 1000)
    return wire.LimitRate(
        limit=int(limit), period_ms=period_ms, burst=None if burst is None else int(burst)
    )


def milliseconds(duration: float | str) -> int:
    """Return a duration as it is sent. Raises ValueError for what is none, or less than none."""
    seconds = duration_s(duration)
    if not 0 <= seconds <= _LONGEST_S:
        raise ValueError(f"{duration!r} is no duration: it is 0 to {_LONGEST_S} seconds")
    return round(seconds * 1000)


def amount(what: str, given: int) -> int:
    """Return an amount of something as it is sent. Raises ValueError for what is none."""
    if not isinstance(given, int) or not 0 <= given <= _MOST:
        raise ValueError(f"{given!r} is no amount of {what}: it is a whole number, 0 or more")
    return given


def refuse_unknown_cache_options(options: CachedOptions) -> None:
    """Raise TypeError for a name that is no option."""
    _refuse_unknown(options, CachedOptions.__optional_keys__)


def refuse_unknown_pass_options(options: PassOptions) -> None:
    """Raise TypeError for a name that is no option."""
    _refuse_unknown(options, PassOptions.__optional_keys__)


def limit_part(options: GuardOptions) -> LimitOptions:
    """Return what of a guard's options is for the limit. An unknown option is a TypeError."""
    _refuse_unknown(options, GuardOptions.__optional_keys__)
    return cast("LimitOptions", _part(options, LimitOptions.__optional_keys__))


def asks_for_a_limit(options: GuardOptions) -> bool:
    """Return whether a guard needs its limit: it says which one, or what a call takes of it."""
    return not options.keys().isdisjoint(_LIMITED)


def cache_part(options: GuardOptions) -> CachedOptions:
    """Return what of a guard's options is for the cache."""
    return cast("CachedOptions", _part(options, CachedOptions.__optional_keys__))


def _part(options: GuardOptions, names: frozenset[str]) -> dict[str, object]:
    return {name: value for name, value in options.items() if name in names}


def _rate_of(rates: Mapping[str, str | int], dimension: str) -> wire.LimitRate | None:
    rate = rates.get(dimension)
    if rate is None:
        return None
    if not isinstance(rate, str):
        raise TypeError(f"{dimension} needs a rate like 60/1m, not {rate!r}")
    return limit_rate(rate)


def _refuse_unknown(options: Mapping[str, Any], names: frozenset[str]) -> None:
    unknown = sorted(options.keys() - names)
    if unknown:
        raise TypeError(
            f"unknown option {', '.join(unknown)}: the options are {', '.join(sorted(names))}"
        )
