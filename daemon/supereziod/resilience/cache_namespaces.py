"""The namespaces of the cache: whose each is, who may do what with it, and how much it may hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from superezio.errors import ConflictError, PermissionDeniedError
from superezio.resilience.cache import Cache
from superezio.resilience.cache_limits import Limits, Quota
from superezio.wire import CacheNamespace, CacheNamespaceParams
from supereziod.resilience.cache_answering import namespace_of
from supereziod.resilience.known_namespaces import KnownNamespaces, full_name
from supereziod.resilience.sharing import Asker, Audience, Owned, SharedNames


class CacheCaller(Struct, frozen=True):
    """Who asks: a process, its connection, and whether it administers."""

    peer: Asker
    connection: str
    is_admin: bool = False


class SharedNamespace(Struct, frozen=True, kw_only=True):
    """Who may use a namespace by its name, and how much it may hold."""

    audience: Audience
    quota: Quota


class Namespaces:
    """Those of a cache, by the names that callers give them."""

    def __init__(self, cache: Cache, limits: Limits, *, per_uid: int) -> None:
        self._cache = cache
        self._limits = limits
        self._names = SharedNames("namespace", {})
        self._shared: dict[str, SharedNamespace] = {}
        self._known = KnownNamespaces(per_uid=per_uid, is_empty=self._is_empty)

    def owned(self, name: str, asker: Asker) -> Owned:
        """Return what a name means to `asker`.

        Raises InvalidParamsError where it is no name, PermissionDeniedError where it is shared by
        others.
        """
        return self._names.find(name, asker)

    def find(self, caller: CacheCaller, name: str) -> str:
        """Return the full name of a namespace that is used if it is there. Raises as `owned`."""
        return full_name(self._names.find(name, caller.peer))

    def enter(self, caller: CacheCaller, name: str, now_ns: int) -> tuple[Owned, str]:
        """Return a namespace that is used from now on, if it was not: whose it is, its full name.

        Raises as `owned` does, and BusyError where the caller's user has too many.
        """
        owned = self._names.find(name, caller.peer)
        return owned, self._known.enter(owned, now_ns)

    def to_clear(self, caller: CacheCaller, params: CacheNamespaceParams) -> Owned:
        """Return what is to be cleared: one of the caller's own, or what an admin names.

        Raises PermissionDeniedError.
        """
        if caller.is_admin and params.uid is not None:
            return Owned(params.uid, params.namespace)
        if caller.is_admin and params.namespace in self._shared:
            return Owned(None, params.namespace)
        if params.uid not in {None, caller.peer.uid}:
            raise PermissionDeniedError(
                "cannot clear a namespace of another user: only an admin can",
                data={"needs": "admin"},
            )
        owned = self._names.find(params.namespace, caller.peer)
        if owned.owner is None:
            raise PermissionDeniedError(
                f"cannot clear the namespace {owned.name}, which others use, too: only an admin"
                " can. cache.delete deletes keys and tags of it.",
                data={"needs": "admin"},
            )
        return owned

    def visible(self, caller: CacheCaller) -> list[CacheNamespace]:
        """Return those that the caller may see: never what is in them."""
        shared = [
            owned
            for owned in (Owned(None, name) for name in self._shared)
            if caller.is_admin or self._names.may_see(owned, caller.peer)
        ]
        private = list(self._known) if caller.is_admin else self._known.of(caller.peer.uid)
        return [self._told(owned) for owned in shared + private]

    def shared(self) -> list[CacheNamespace]:
        """Return those that are shared."""
        return [self._told(Owned(None, name)) for name in self._shared]

    def set_shared(self, shared: Mapping[str, SharedNamespace]) -> None:
        """Share others from now on, or with others; what is shared no more is emptied.

        So is a user's own that nobody comes to any more, as its name means what is shared now.
        Raises ConflictError, and changes nothing, where they are guaranteed more than there is.
        """
        self._check_parts(each.quota for each in shared.values())
        new = shared.keys() - self._shared.keys()
        for owned in [each for each in self._known if each.name in new]:
            self._cache.clear(full_name(owned))
        for name in self._shared.keys() - shared.keys():
            self._cache.clear(f":{name}")
            self._cache.declare(f":{name}", None)
        changed = {
            name: each.quota
            for name, each in shared.items()
            if name not in self._shared or self._shared[name].quota != each.quota
        }
        # Those that are guaranteed less first, for the others to have room for more.
        for name in changed.keys() & self._shared.keys():
            self._cache.declare(f":{name}", _smaller(self._shared[name].quota, changed[name]))
        for name, quota in changed.items():
            self._cache.declare(f":{name}", quota)
        self._shared = dict(shared)
        self._names.set_audiences({name: each.audience for name, each in shared.items()})

    def _check_parts(self, quotas: Iterable[Quota]) -> None:
        used_bytes, used_entries = self._limits.promised
        for quota in quotas:
            used_bytes += quota.guaranteed_bytes
            used_entries += quota.guaranteed_entries
        if used_bytes > self._limits.max_bytes or used_entries > self._limits.max_entries:
            raise ConflictError(
                f"cannot guarantee {used_bytes} bytes and {used_entries} entries of a cache that"
                f" has {self._limits.max_bytes} and {self._limits.max_entries} until a restart"
            )

    def _is_empty(self, full: str) -> bool:
        usage = self._cache.usage(full)
        return not (usage.entries or usage.fills)

    def _told(self, owned: Owned) -> CacheNamespace:
        full = full_name(owned)
        quota = self._limits.quota if owned.owner is not None else self._shared[owned.name].quota
        return namespace_of(owned, self._cache.usage(full), quota, self._cache.counters(full))


def _smaller(one: Quota, other: Quota) -> Quota:
    """Return one that guarantees no more than either, and takes nothing away."""
    return Quota(
        max(one.max_bytes, other.max_bytes),
        max(one.max_entries, other.max_entries),
        min(one.guaranteed_bytes, other.guaranteed_bytes),
        min(one.guaranteed_entries, other.guaranteed_entries),
    )
