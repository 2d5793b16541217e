"""Who has what of the limits: one account a user, one holder a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from superezio.resilience.rate_limiter import Budget, Reservation, Waiter
from supereziod.resilience.sharing import Asker

if TYPE_CHECKING:
    from supereziod.resilience.named_limit import NamedLimit


class Session(Protocol):
    """What a request counts for."""

    id: str
    #: Grants that were asked for in it.
    reservations: int


class Connection(Protocol):
    """Where a request comes from."""

    id: str

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

    __slots__ = ("connections", "keys", "names", "reservations", "uid", "waiters")

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.connections = 0
        self.names = 0
        self.reservations = 0
        self.waiters = 0
        self.keys = 0

    def __bool__(self) -> bool:
        """Whether it has anything."""
        return bool(
            self.connections or self.names or self.reservations or self.waiters or self.keys
        )


class Holder:
    """One connection: what it has reserved, what it waits for, and its ways to the limits."""

    __slots__ = ("account", "open", "waiting", "ways")

    def __init__(self, account: Account) -> None:
        self.account = account
        #: By number, the oldest first. Of one request and nothing else that was taken of a sole
        #: budget there is only the way, as most are never settled.
        self.open: dict[int, Reservation | Way] = {}
        self.waiting: dict[Waiter, NamedLimit] = {}
        self.ways: dict[str, Way] = {}


class Way:
    """How the requests of one connection get to one limit: found once, then used again.

    `fixed` are the budgets that all its requests have in common; where it `varies`, those of a
    session or a key come to them.
    """

    __slots__ = (
        "answer_head", "answer_tail", "fixed", "found", "holder", "named", "sole", "varies",
        "waiting",
    )  # fmt: skip

    def __init__(self, named: NamedLimit, holder: Holder, fixed: tuple[Budget, ...]) -> None:
        self.named = named
        self.holder = holder
        self.fixed = fixed
        self.varies = named.varies
        #: The one budget of all its requests, where nothing else has to be asked.
        self.sole = fixed[0] if len(fixed) == 1 and not (named.varies or named.is_capped) else None
        self.waiting = named.waiting
        self.answer_head = named.answer_head
        self.answer_tail = named.answer_tail
        #: What was found by session and key.
        self.found: dict[tuple[str, str | None], tuple[Budget, ...]] = {}
