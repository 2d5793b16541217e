"""What is no call of a service: to look at breakers, and to decide over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from superezio import wire
from superezio.errors import NotFoundError, PermissionDeniedError
from superezio.resilience.breaker_answers import Transition
from supereziod.observability.targets import decides_over
from supereziod.resilience.breaker_book import BreakerBook
from supereziod.resilience.breaker_register import BreakerRegister
from supereziod.resilience.breaker_views import view_of
from supereziod.resilience.kept_breaker import KeptBreaker
from supereziod.resilience.metrics import SeenBreaker
from supereziod.resilience.sharing import Asker, Owned, is_name


class Who(NamedTuple):
    """Who asks what is no call: to look, or to decide over the breaker."""

    asker: Asker
    is_admin: bool


class BreakerAdministration:
    """Who may see which breaker, and who may decide over it. Loop-owned."""

    def __init__(
        self, register: BreakerRegister, book: BreakerBook, *, clock: Callable[[], int]
    ) -> None:
        self._register = register
        self._book = book
        self._clock = clock

    def get(self, name: str, who: Who, *, uid: int | None = None) -> wire.Breaker:
        """Return a breaker as it is. Raises NotFoundError; for `uid`, see `reset`."""
        now_ns = self._clock()
        return view_of(self._existing(self._owned(name, who, uid), now_ns), now_ns)

    def list(self, who: Who) -> wire.BreakerList:
        """Return the breakers that one may use, one's own and shared ones; for admins all."""
        now_ns = self._clock()
        seen = [
            kept
            for kept in self._book
            if who.is_admin or self._register.names.may_see(kept.owned, who.asker)
        ]
        for kept in seen:
            self._book.expire(kept, now_ns)
        seen.sort(key=lambda kept: (kept.owned.name, kept.owned.owner or -1))
        return wire.BreakerList(breakers=[view_of(kept, now_ns) for kept in seen])

    def seen(self) -> Iterator[SeenBreaker]:
        """Yield all breakers as they are now, as far as they are counted.

        An open one whose time is over is half-open in this: only no call has come yet.
        """
        now_ns = self._clock()
        for kept in self._book:
            if now_ns >= kept.due_ns:
                self._book.expire(kept, now_ns)
            yield SeenBreaker(kept.owned, _state_at(kept, now_ns), kept.rejected)

    def force_open(
        self, name: str, who: Who, *, uid: int | None = None, correlation_id: str | None = None
    ) -> wire.Breaker:
        """Let a breaker reject every call until `reset` or `disable`; see `reset`."""
        kept, now_ns = self._to_decide(name, who, uid)
        moved = kept.breaker.force_open(now_ns, correlation_id=correlation_id)
        return self._decided(kept, moved, now_ns, who)

    def disable(
        self, name: str, who: Who, *, uid: int | None = None, correlation_id: str | None = None
    ) -> wire.Breaker:
        """Let every call through and record none until `reset` or `force_open`; see `reset`."""
        kept, now_ns = self._to_decide(name, who, uid)
        moved = kept.breaker.disable(now_ns, correlation_id=correlation_id)
        return self._decided(kept, moved, now_ns, who)

    def reset(
        self, name: str, who: Who, *, uid: int | None = None, correlation_id: str | None = None
    ) -> wire.Breaker:
        """Begin anew, closed, with nothing recorded.

        A shared breaker is an admin's to decide over, another one its owner's. `uid` is for
        admins: whose it is. Raises PermissionDeniedError, and NotFoundError where nothing is
        called so; but one may force one's own open, or disable it, before its first call.
        """
        kept, now_ns = self._to_decide(name, who, uid, make=False)
        moved = kept.breaker.reset(now_ns, correlation_id=correlation_id)
        return self._decided(kept, moved, now_ns, who)

    def _owned(self, name: str, who: Who, uid: int | None) -> Owned:
        """Return which breaker is meant by one who looks or decides."""
        names = self._register.names
        if who.is_admin and (uid is not None or names.is_shared(name)) and is_name(name):
            return Owned(uid, name)
        if uid is not None and uid != who.asker.uid and not who.is_admin:
            raise PermissionDeniedError(
                f"cannot look at breakers of uid {uid}: that is for admins",
                data={"name": name, "needs": "admin"},
            )
        return names.find(name, who.asker)

    def _existing(self, owned: Owned, now_ns: int) -> KeptBreaker:
        kept = self._book.get(owned)
        if kept is None:
            raise NotFoundError(
                f"there is no breaker {owned.name} of uid {owned.owner}: one is there from its"
                " first call on, until nobody has used it for long",
                data={"name": owned.name},
            )
        self._book.expire(kept, now_ns)
        return kept

    def _to_decide(
        self, name: str, who: Who, uid: int | None, *, make: bool = True
    ) -> tuple[KeptBreaker, int]:
        """Return the breaker that `who` may decide over, and the time."""
        now_ns = self._clock()
        owned = self._owned(name, who, uid)
        decides_over(f"breaker {owned.name}", owner=owned.owner)
        if owned.owner is None and not who.is_admin:
            raise PermissionDeniedError(
                f"cannot decide over the breaker {name}: it is shared, so that only an admin may",
                data={"name": name, "needs": "admin"},
            )
        own = owned.owner == who.asker.uid and not self._register.names.is_shared(name)
        if make and own and self._book.get(owned) is None:
            self._register.make(owned, None, now_ns)
        return self._existing(owned, now_ns), now_ns

    def _decided(
        self, kept: KeptBreaker, moved: Iterable[Transition], now_ns: int, who: Who
    ) -> wire.Breaker:
        self._book.touch(kept, now_ns)
        self._book.moved(kept, moved, now_ns, by=who.asker.uid)
        return view_of(kept, now_ns)


def _state_at(kept: KeptBreaker, now_ns: int) -> wire.BreakerState:
    state = kept.breaker.state
    if state == "open" and not kept.breaker.retry_after_ns(now_ns):
        return "half_open"
    return state
