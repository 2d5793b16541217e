"""Who has what of the limits: one account a user, one holder a connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import islice, repeat
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from superezio.resilience.rate_limiter import Budget, Limit, Reservation, Scope, Waiter
from supereziod.resilience.sharing import Asker

if TYPE_CHECKING:
    from supereziod.resilience.named_limit import NamedLimit

_FOUND_AT_ONCE: Final = 256
_NOT_SOLE: Final = Budget(Scope("host"), Limit())
_number = itemgetter(0)
_open_of = attrgetter("open")
_priced_of = attrgetter("priced")

Kept: TypeAlias = "dict[int, Reservation | Way]"


class Session(Protocol):
    """What a request counts for."""

    id: str
    #: Grants that were asked for in it.
    reservations: int


class Connection(Protocol):
    """Where a request comes from."""

    id: str
    #: Its ways to the limits, by name. Those who keep limits fill and empty it.
    limit_ways: dict[str, Way]

    @property
    def peer(self) -> Asker: ...


class Request(Protocol):
    """What is asked for room: read at once, and not kept.

    `came_to` is told what one that is answered at once has come to.
    """

    came_to: str | None

    @property
    def origin(self) -> Connection: ...
    @property
    def session(self) -> Session: ...
    @property
    def received_ns(self) -> int: ...


class Account:
    """What one user has of that which is bounded."""

    __slots__ = (
        "holders", "keys", "names", "oldest_open", "oldest_priced", "reservations",
        "slot_reservations", "uid", "waiters",
    )  # fmt: skip

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.holders: dict[Holder, None] = {}
        self.names = 0
        #: Those that keep no slot, and those that do.
        self.reservations = 0
        self.slot_reservations = 0
        self.waiters = 0
        self.keys = 0
        self.oldest_open = Oldest(_open_of)
        self.oldest_priced = Oldest(_priced_of)

    def __bool__(self) -> bool:
        """Whether it has anything."""
        return bool(
            self.holders
            or self.names
            or self.reservations
            or self.slot_reservations
            or self.waiters
            or self.keys
        )


class Holder:
    """One connection: what it has reserved, what it waits for, and its ways to the limits."""

    __slots__ = (
        "account", "oldest_open", "oldest_priced", "open", "priced", "slots", "waiting", "ways",
    )  # fmt: skip

    def __init__(self, account: Account, ways: dict[str, Way]) -> None:
        self.account = account
        #: By number, the oldest first: those that keep neither a slot nor capped money. Of one
        #: request and nothing else that was taken of a sole budget there is only the way, as most
        #: are never settled.
        self.open: Kept = {}
        #: Those of limits with a cap on money: what they cost may be known only afterwards.
        self.priced: Kept = {}
        #: Those that keep a slot.
        self.slots: Kept = {}
        self.oldest_open = Oldest(_open_of)
        self.oldest_priced = Oldest(_priced_of)
        self.waiting: dict[Waiter, NamedLimit] = {}
        self.ways = ways

    def find(self, number: int) -> Reservation | Way | None:
        """Return an open reservation."""
        return self.open.get(number) or self.priced.get(number) or self.slots.get(number)

    def all_open(self) -> Iterator[tuple[int, Reservation | Way]]:
        """Yield all that are open, by number."""
        yield from (*self.open.items(), *self.priced.items(), *self.slots.items())


class Oldest:
    """The oldest reservations of some connections, of one kind: some are found at a time.

    So to take one is O(1), over many; and what is never settled costs nothing until it is too much.
    """

    __slots__ = ("_found", "_kept_of")

    def __init__(self, kept_of: Callable[[Holder], Kept]) -> None:
        self._kept_of = kept_of
        #: The oldest last. All that are not in it are younger.
        self._found: list[tuple[int, Holder]] = []

    def take(self, holders: Iterable[Holder]) -> tuple[int, Holder] | None:
        """Return the oldest that is open, which is to be settled now, and who holds it."""
        if (found := self._first_found()) is None:
            by_age = (zip(self._kept_of(each), repeat(each)) for each in holders)
            self._found = list(islice(merge(*by_age, key=_number), _FOUND_AT_ONCE))
            self._found.reverse()
            found = self._first_found()
        return found

    def _first_found(self) -> tuple[int, Holder] | None:
        while self._found:
            number, holder = self._found.pop()
            if number in self._kept_of(holder):
                return number, holder
        return None


class Way:
    """How the requests of one connection get to one limit: found once, then used again.

    `fixed` are the budgets that all its requests have in common; where it `varies`, those of a
    session or a key come to them.
    """

    __slots__ = (
        "account", "answer", "fixed", "found", "holder", "named", "open",
        "sole", "varies", "waiting",
    )  # fmt: skip

    def __init__(self, named: NamedLimit, holder: Holder, fixed: tuple[Budget, ...]) -> None:
        self.named = named
        self.holder = holder
        # What the request path reads of the holder, at hand.
        self.account = holder.account
        self.open = holder.open
        self.fixed = fixed
        self.varies = named.varies
        #: The one budget of all its requests, where nothing else has to be asked; else one that
        #: has no meter of requests.
        alone = len(fixed) == 1 and not (named.varies or named.is_capped)
        self.sole = fixed[0] if alone else _NOT_SOLE
        self.waiting = named.waiting
        self.answer = named.answer
        #: What was found by session and key.
        self.found: dict[tuple[str, str | None], tuple[Budget, ...]] = {}
