"""What programs share when they call a service: breakers, limits and the cache."""

from __future__ import annotations

from typing import Final

from supereziod.catalog.explained import Explained

_BREAKERS: Final = "superezioctl breaker list"
_LIMITS: Final = "superezioctl limit list"
_OF_THIS_NAME: Final = "journalctl -u superezio -b NAME=@NAME@"
_WHO: Final = "journalctl -u superezio AUDIT=1"

EXPLAINED: Final[dict[str, Explained]] = {
    "breaker.opened": Explained(
        "A service fails, and calls to it are rejected for now",
        "Too many calls of @NAME@ failed or were too slow. Programs are told to wait OPEN_S seconds"
        " instead of piling up; then a few calls decide.",
        "See whether the service is down, or the network. Nothing has to be reset: it closes by"
        " itself when calls go well.",
        (_BREAKERS, _OF_THIS_NAME),
    ),
    "breaker.half_open": Explained(
        "A few calls decide whether a service is well again",
        "The breaker of @NAME@ lets some calls through.",
        "Nothing.",
        (_BREAKERS,),
    ),
    "breaker.closed": Explained(
        "Calls to a service go through again",
        "The few calls went well, or somebody reset the breaker of @NAME@ (REASON).",
        "Nothing.",
        (_OF_THIS_NAME,),
    ),
    "breaker.forced_open": Explained(
        "Somebody has every call to a service rejected",
        "The breaker of @NAME@ stays open until it is reset, also over restarts. If it is shared,"
        " an audit record says who did it.",
        "Reset it when the service may be called again.",
        ("superezioctl breaker reset @NAME@", _WHO),
    ),
    "breaker.disabled": Explained(
        "Somebody has switched a breaker off",
        "Every call to @NAME@ goes through, however many fail, until the breaker is reset.",
        "Reset it when it may judge calls again.",
        ("superezioctl breaker reset @NAME@", _WHO),
    ),
    "breaker.unreadable": Explained(
        "What was stored of circuit breakers cannot be read",
        "Those breakers begin anew, closed. One that was forced open is so no more.",
        "Force open again what has to be.",
        (_BREAKERS, "df -h /var/lib/superezio"),
    ),
    "cache.cleared": Explained(
        "A namespace of the cache was emptied",
        "What was in @NAMESPACE@ is fetched anew by whoever asks first.",
        "Nothing. Where it is shared, or another user's, an audit record says who did it.",
        ("superezioctl cache stats", _WHO),
    ),
    "limit.blocked": Explained(
        "A service wants no requests for a while",
        "It told a program so (Retry-After), and all that share the limit @NAME@ keep to it for"
        " BLOCKED_S seconds.",
        "Nothing, if it is short. If it comes often, the rates of the limit are above what the"
        " service grants: lower them.",
        (_LIMITS, "superezioctl limit show @NAME@"),
    ),
    "limit.spent": Explained(
        "A cap on money is reached",
        "No further request that costs money passes the limit @NAME@ until the day or month is"
        " over. Told once for each.",
        "See who spent it. Raise the cap in the configuration and reload, or let it stand.",
        ("superezioctl limit show @NAME@", "systemctl reload superezio.service"),
    ),
    "limit.overshot": Explained(
        "A user used more than it had reserved",
        "What is beyond counts for that user, not for all who share the limit @NAME@.",
        "Ask its owner to reserve what requests need.",
        ("superezioctl limit show @NAME@", _OF_THIS_NAME),
    ),
    "limit.reset": Explained(
        "All of a rate limit is there again, as somebody asked",
        "The limit @NAME@ grants a full burst at once, which the service may not like. BY_UID says"
        " whose doing it was.",
        "Nothing. Where it is shared, or another user's, there is an audit record.",
        ("superezioctl limit show @NAME@", _WHO),
    ),
    "limit.restarted": Explained(
        "Rate limits begin with nothing",
        "The daemon ended suddenly, or the host was booted, so that what limits had granted last is"
        " not known. Each grows at its own rate; money that was spent is known.",
        "Nothing: programs wait a little longer at first.",
        (_LIMITS,),
    ),
    "limit.debts_unreadable": Explained(
        "What was spent beyond reservations in an earlier run cannot be read",
        "It had been kept in /run/superezio while /var/lib/superezio could not be written. Caps on"
        " money may let through as much more until the day or month is over.",
        "Compare what the services say was spent with what counts.",
        (_LIMITS,),
    ),
    "limit.state_lost": Explained(
        "What rate limits had granted cannot be read",
        "They begin with nothing and grow at their own rates.",
        "Look at the disk of /var/lib/superezio.",
        ("df -h /var/lib/superezio", _LIMITS),
    ),
}
