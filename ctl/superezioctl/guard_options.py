"""The options of superezioctl guard, and what they ask of the limit and of the cache."""

from __future__ import annotations

from superezioctl.arguments import Option, UsageError, one_of, positive, seconds, whole
from superezioctl.guarding.report import micros

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from superezioctl.arguments import Arguments

_TTL_S = 3600.0
#: With any of these there has to be a limit.
_COSTS = ("tokens", "money", "slots", "key", "rate", "token_rate", "money_rate")


def check(arguments: Arguments) -> None:
    """Raise UsageError for options that say nothing without another."""
    if arguments["cache_key"] is None:
        for option in ("namespace", "ttl", "grace", "stale_if_error", "tag"):
            if arguments[option]:
                raise UsageError(f"--{option.replace('_', '-')} is for --cache-key")


def limit_params(arguments: Arguments) -> dict[str, Any]:
    """Return the parameters of the call's room in the limit."""
    params: dict[str, Any] = {
        "name": arguments["name"],
        "tokens": arguments["tokens"] or 0,
        "money_micros": arguments["money"] or 0,
        "concurrency": arguments["slots"],
        "key": arguments["key"],
        "wait_ms": milliseconds(arguments["wait"]),
    }
    rates = {
        "requests": arguments["rate"],
        "tokens": arguments["token_rate"],
        "money_micros": arguments["money_rate"],
    }
    rates = {dimension: rate for dimension, rate in rates.items() if rate is not None}
    if rates:
        params["rates"] = rates
    params["if_exists"] = all(arguments[cost] is None for cost in _COSTS)
    return params


def lifetime(arguments: Arguments) -> dict[str, Any]:
    """Return the parameters that say how long the command's output is kept, and its tags."""
    return {
        "ttl_ms": milliseconds(_TTL_S if arguments["ttl"] is None else arguments["ttl"]),
        "grace_ms": milliseconds(arguments["grace"]),
        "stale_if_error_ms": milliseconds(arguments["stale_if_error"]),
        "tags": arguments["tag"],
    }


def milliseconds(duration_s: float) -> int:
    """Return a duration as the wire has it."""
    return round(duration_s * 1000)


def _exit_code(text: str) -> int:
    """Read what a command can end with."""
    code = whole(text)
    if not 0 <= code <= 255:  # noqa: PLR2004 - a byte
        raise ValueError(f"cannot use {text!r}: an exit code is from 0 to 255")
    return code


def _rate(text: str) -> dict[str, int]:
    """Read `60/1m`."""
    amount, slash, period = text.partition("/")
    if not slash or not amount.isdecimal() or amount.strip("0") == "":
        raise ValueError(f"cannot read {text!r} as a rate: write it like 60/1m")
    return {"limit": int(amount), "period_ms": milliseconds(seconds(period))}


def _money_rate(text: str) -> dict[str, int]:
    """Read `5.00/1h`."""
    amount, slash, period = text.partition("/")
    if not slash or (limit := micros(amount)) < 1:
        raise ValueError(f"cannot read {text!r} as a rate of money: write it like 5.00/1h")
    return {"limit": limit, "period_ms": milliseconds(seconds(period))}


def _duration(default_s: float | None) -> dict[str, Any]:
    reader: Callable[[str], float] = seconds
    return {"metavar": "DURATION", "convert": reader, "default": default_s}


OPTIONS = (
    Option("--tokens", "tokens that the call may take", metavar="N", convert=positive),
    Option("--money", "money that it may cost, as 0.02", metavar="AMOUNT", convert=micros),
    Option(
        "--slots",
        "slots that it takes while it runs (default: 1 where the limit has any)",
        metavar="N",
        convert=positive,
    ),
    Option("--key", "whose call it is, where the limit has keys", metavar="KEY"),
    Option("--wait", "how long to wait for room in the limit", **_duration(0.0)),
    Option(
        "--rate",
        "calls of a limit of your own, as 60/1m",
        metavar="N/DURATION",
        convert=_rate,
    ),
    Option(
        "--token-rate",
        "tokens of a limit of your own, as 90000/1m",
        metavar="N/DURATION",
        convert=_rate,
    ),
    Option(
        "--money-rate",
        "money of a limit of your own, as 5.00/1h",
        metavar="AMOUNT/DURATION",
        convert=_money_rate,
    ),
    Option(
        "--cache-key",
        "print what is cached under it; else run the command, and cache what it prints",
        metavar="KEY",
    ),
    Option("--namespace", "of the cache (default: NAME)", metavar="NAME"),
    Option("--ttl", "how long it stays fresh (default: 1h)", **_duration(None)),
    Option("--grace", "how long it is served after that while refreshed", **_duration(0.0)),
    Option("--stale-if-error", "how long it stands in for an error", **_duration(0.0)),
    Option("--tag", "a name to delete it by, with others", metavar="TAG", repeat=True),
    Option("--fill-wait", "how long to wait while another fetches", **_duration(30.0)),
    Option("--lead", "how long the command may take to fetch", **_duration(60.0)),
    Option(
        "--ignore-code",
        "an exit code that says nothing of the service",
        metavar="CODE",
        convert=_exit_code,
        repeat=True,
    ),
    Option(
        "--throttled-code",
        "an exit code that says that the service has had enough for now",
        metavar="CODE",
        convert=_exit_code,
        repeat=True,
    ),
    Option(
        "--when-absent",
        "without a daemon: closed does not run the command, open runs it unguarded",
        metavar="HOW",
        convert=one_of("closed", "open"),
        default="closed",
    ),
)
