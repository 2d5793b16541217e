"""The real limits of the daemon over a real database, with a clock and connections of a test."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from superezio.wire import (
    LimitAcquireParams,
    LimitParams,
    LimitReservation,
    LimitResetParams,
    LimitSettleParams,
    LimitState,
)
from supereziod.observability.events import EventLog
from supereziod.resilience.limit_accounts import Way
from supereziod.resilience.limit_rules import LimitBounds, LimitRules
from supereziod.resilience.limit_service import DOCUMENT, LimitService
from supereziod.resilience.sealing import Seal
from supereziod.resilience.sharing import Audience
from supereziod.resilience.spend import SpendBook
from supereziod.stopgap import Stopgap
from supereziod.storage import Database, Documents, StorageError

MS = 1_000_000
SECOND = 1000 * MS


class User(Struct, frozen=True):
    uid: int
    groups: frozenset[int] = frozenset()


class Connection:
    def __init__(self, id_: str, peer: User) -> None:
        self.id = id_
        self.peer = peer
        self.limit_ways: dict[str, Way] = {}


class Session(Struct):
    id: str
    reservations: int = 0


class Asked:
    def __init__(self, origin: Connection, session: Session, received_ns: int) -> None:
        self.origin = origin
        self.session = session
        self.received_ns = received_ns
        self.came_to: str | None = None


class TestDisk:
    """Has all on the disk at once, unless it is `slow`: then when it is told."""

    __test__ = False

    def __init__(self) -> None:
        self.slow = False
        self.acts: list[Callable[[], None]] = []
        self.syncs = 0
        self.done: list[Callable[[StorageError | None], None]] = []

    def soon(self, act: Callable[[], None]) -> None:
        if self.slow:
            self.acts.append(act)
        else:
            act()

    def sync(self, done: Callable[[StorageError | None], None]) -> None:
        self.syncs += 1
        if self.slow:
            self.done.append(done)
        else:
            done(None)

    def turn(self, fault: StorageError | None = None) -> None:
        """Do what is asked for, once."""
        acts, self.acts = self.acts, []
        done, self.done = self.done, []
        for act in acts:
            act()
        for each in done:
            each(fault)


class LimitHost:
    """Call it on a loop: what waits is a future of it. `turn` is what the loop's timer does."""

    def __init__(
        self,
        directory: Path,
        *,
        shared: Mapping[str, LimitRules] | None = None,
        audiences: Mapping[str, Audience] | None = None,
        bounds: LimitBounds | None = None,
        boot_id: str = "boot",
        timer: bool = True,
    ) -> None:
        self.path = directory / "state.db"
        self.shared = dict(shared or {})
        self.audiences = dict(audiences or {})
        self.bounds = bounds or LimitBounds()
        self.boot_id = boot_id
        self._timer = timer
        self.now = 1000 * SECOND
        #: The noon of a day in the middle of a month.
        self.wall = 1_900_000_000.0
        self.events = EventLog()
        self.disk = TestDisk()
        self._connections = 0
        self.start()

    def start(self) -> None:
        """Begin a life of the daemon."""
        schema = f"{Documents.SCHEMA}; {SpendBook.SCHEMA}"
        self.database = Database.open(self.path, schema=schema)
        self.seal = Seal(Documents(self.database), self.path.with_name("sealed"))
        self.service = LimitService(
            self.database,
            shared=self.shared,
            audiences=self.audiences,
            bounds=self.bounds,
            currency="USD",
            events=self.events,
            boot_id=self.boot_id,
            disk=self.disk,
            clock=lambda: self.now,
            wall=lambda: self.wall,
            ended_in_order=self.seal.break_(),
            stopgap=Stopgap(self.path.parent),
        )
        if not self._timer:  # real time passes too, and nothing is to be due by it
            self.service.requests._waits._deadlines._arm = lambda: None  # type: ignore[method-assign]
        self.service.administration.tell_what_is_lost()
        self.keep()

    def keep(self, *, final: bool = False) -> None:
        """Write what the keeper writes each second."""
        body = self.service.snapshot(final=final)
        if body is not None:
            with suppress(StorageError):  # the keeper goes on, too
                Documents(self.database).put(DOCUMENT, body)

    def end(self, *, final: bool) -> None:
        """End this life: in order, or as by kill -9 right after a snapshot."""
        if final:
            self.keep(final=True)
            self.seal.set()
        self.service.requests.close()
        self.database.close()

    def connect(self, user: User) -> Connection:
        self._connections += 1
        return Connection(f"c{self._connections}", user)

    def disconnect(self, connection: Connection) -> None:
        self.service.requests.connection_closed(connection.id)

    def asked(self, connection: Connection, session: str | None = None) -> Asked:
        return Asked(connection, Session(session or f"s-{connection.id}"), self.now)

    def acquire(self, connection: Connection, name: str, **params: Any) -> int:
        """Return the number of what is reserved at once."""
        session = params.pop("session", None)
        asked = LimitAcquireParams(name=name, **params)
        answer = self.service.requests.acquire(self.asked(connection, session), asked)
        if answer is None and asked.money_micros:
            future = self.service.requests.wait(self.asked(connection, session), asked)
            assert future.done(), "it would wait"
            return future.result().reservation
        assert answer is not None, "it would wait"
        decoded = json.loads(answer)
        assert decoded["name"] == name
        number: int = decoded["reservation"]
        return number

    def wait(
        self, connection: Connection, name: str, *, wait_ms: int = 10_000, **params: Any
    ) -> Awaitable[LimitReservation]:
        """Stand in the line, as what is not there at once does."""
        asked = self.asked(connection)
        wanted = LimitAcquireParams(name=name, wait_ms=wait_ms, **params)
        assert self.service.requests.acquire(asked, wanted) is None, "it does not wait"
        return self.service.requests.wait(asked, wanted)

    def settle(self, connection: Connection, number: int, **params: Any) -> bool:
        settled: bool = self.settled(connection, number, **params)["settled"]
        return settled

    def settled(self, connection: Connection, number: int, **params: Any) -> dict[str, Any]:
        """Settle, and return all of the answer."""
        wanted = LimitSettleParams(reservation=number, **params)
        answer = self.service.requests.settle(self.asked(connection), wanted)
        decoded: dict[str, Any] = json.loads(answer)
        return decoded

    def peek(
        self, user: User, name: str, *, is_admin: bool = False, session: str = "", **params: Any
    ) -> LimitState:
        wanted = LimitParams(name=name, **params)
        return self.service.administration.peek(user, wanted, session=session, is_admin=is_admin)

    def left(self, user: User, name: str, dimension: str, **params: Any) -> int:
        """What is left of one dimension of the narrowest budget that has it."""
        lines = self.peek(user, name, **params).budgets
        return [each.available for each in lines if each.dimension == dimension][-1]

    def reset(self, user: User, name: str, *, is_admin: bool = False, **params: Any) -> bool:
        wanted = LimitResetParams(name=name, **params)
        return self.service.administration.reset(user, wanted, is_admin=is_admin)

    def turn(self, elapsed_ms: int = 0) -> None:
        """Let time pass, and have the loop do what is due."""
        self.now += elapsed_ms * MS
        self.service.requests._waits._deadlines.run_due()

    def on_disk(self) -> dict[tuple[str, str, str, str], tuple[str, int]]:
        """What is committed of money, as another process reads it: by name, scope and window."""
        with sqlite3.connect(self.path) as connection:
            rows = connection.execute(
                "SELECT name, scope, scope_name, kind, key, micros FROM spend"
            ).fetchall()
        connection.close()
        return {tuple(row[:4]): (row[4], row[5]) for row in rows}
