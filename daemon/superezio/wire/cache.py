"""The cache: values by key in namespaces, which one caller fetches where many ask.

A namespace is named. The name is private to the caller's uid, unless the configuration shares it.
"""

from __future__ import annotations

from typing import Literal

from superezio.wire.message import Params, Result

#: hit: a fresh value. stale: one past its time, that may be served; with a token, refresh it.
#: lead: there is none: fetch it and cache.set it with the token. miss: there is none, and no lead
#: was asked for, or there are too many already: fetch it for yourself. filled: another fetched it.
CacheStatus = Literal["hit", "stale", "lead", "miss", "filled"]


class CacheGetParams(Params):
    """Look a key up. `fill`: be ready to fetch the value where nobody has it.

    With `fill`, one caller of all leads, and has `lead_ms` to deliver with cache.set or
    cache.fail; the others wait for it, `wait_ms` at most. Both are cut to what the configuration
    allows, and so are the times of cache.set.
    """

    namespace: str
    key: str
    fill: bool = False
    wait_ms: int = 30_000
    lead_ms: int = 30_000


class CacheAnswer(Result):
    """What there is: `text`, or `data` in base64. `token` goes with the duty to fetch."""

    status: CacheStatus
    text: str | None = None
    data: bytes | None = None
    age_ms: int | None = None
    token: str | None = None
    shared: bool = False


class CacheSetParams(Params):
    """Set a value: `text`, or `data` in base64; one of them.

    With the `token` of a lead it goes to all who wait, and is stored unless it was invalidated in
    the meantime. Fresh for `ttl_ms`, give or take a tenth; then it is served for `grace_ms` while
    one caller refreshes it, and for `stale_if_error_ms` where refreshing it fails. `tags` are
    names by which it may be deleted together with others.
    """

    namespace: str
    key: str
    text: str | None = None
    data: bytes | None = None
    ttl_ms: int = 3_600_000
    grace_ms: int = 0
    stale_if_error_ms: int = 0
    tags: list[str] = []
    token: str | None = None


class CacheStored(Result):
    """`accepted` is false where the token is not good any more: then nobody got the value.

    `stored` is false where it is too large or was invalidated meanwhile: `not_stored` says which,
    and `max_bytes` how large a value may be. `ttl_ms` is there where it was cut to the longest
    there is.
    """

    accepted: bool
    stored: bool
    not_stored: Literal["too_large", "outdated"] | None = None
    max_bytes: int | None = None
    ttl_ms: int | None = None


class CacheFailParams(Params):
    """Give a lead up. All who wait are told the `error`; without one the first of them leads.

    `pass_on`: it was the caller that was turned away (by its limit, say), not the value that could
    not be had. The error is told to nobody: where no old value stands in for it, the first leads.
    """

    namespace: str
    key: str
    token: str
    error: str | None = None
    pass_on: bool = False


class CacheFailed(Result):
    """`accepted` as in cache.set. The old value is there where it may stand in for an error."""

    accepted: bool
    text: str | None = None
    data: bytes | None = None
    age_ms: int | None = None


class CacheDeleteParams(Params):
    """Delete a `key`, or all with a `tag`; one of them. Fills under way are outdated by it."""

    namespace: str
    key: str | None = None
    tag: str | None = None


class CacheNamespaceParams(Params):
    """A namespace by name. `uid`: that of another user, for admins."""

    namespace: str
    uid: int | None = None


class CacheDeleted(Result):
    """How many entries went."""

    entries: int


class CacheCounters(Result):
    """What happened in a namespace since it is known. Each get is a hit, a stale_served or a miss.

    `coalesced`: misses that waited for another's fetch. `outdated`: values that were invalidated
    while they were fetched. `passed_on`: how often a caller that waited took a lead over.
    """

    hits: int
    misses: int
    coalesced: int
    refused: int
    stale_served: int
    stale_on_error: int
    stored: int
    too_large: int
    outdated: int
    failed: int
    passed_on: int
    timed_out: int
    evicted_expired: int
    evicted_quota: int
    evicted_total: int
    deleted: int
    replaced: int


class CacheNamespace(Result):
    """A namespace as it is. `uid` is its owner's, null where it is shared."""

    namespace: str
    uid: int | None
    shared: bool
    used_bytes: int
    max_bytes: int
    entries: int
    max_entries: int
    fills: int
    waiting: int
    counters: CacheCounters


class CacheStats(Result):
    """The caller's namespaces, and what all together hold."""

    used_bytes: int
    max_bytes: int
    entries: int
    max_entries: int
    namespaces: list[CacheNamespace]
