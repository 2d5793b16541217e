"""Sessions: what one program does over one or more connections, under one id.

Every connection has an implied one. A program that reconnects opens one and resumes it with the
token; the token works for the same uid only. All of it is memory, and bounded.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from superezio.errors import BusyError, NotFoundError
from superezio.wire import Session, SessionOpened
from supereziod.observability.targets import decides_over

_SECOND_NS: Final = 1_000_000_000


class SessionState:
    """One session. `requests` and `errors` count what came in under it.

    The requests of an implied one are those that `counted` tells, of its connection: to count each
    here as well would be work for nothing.
    """

    __slots__ = (
        "_used",
        "connections",
        "counted",
        "errors",
        "hits",
        "id",
        "idle_since_ns",
        "key",
        "name",
        "opened_at",
        "permits",
        "pid",
        "requests",
        "reservations",
        "token",
        "uid",
    )

    def __init__(self, *, uid: int, pid: int | None, opened_at: datetime, now_ns: int) -> None:
        #: The id as it stands in flight records.
        self.key = os.urandom(8)
        self.id = self.key.hex()
        self.uid = uid
        self.pid = pid
        self.name: str | None = None
        #: None for an implied one, which cannot be resumed.
        self.token: str | None = None
        self.connections = 1
        self.requests = 0
        self.counted: Callable[[], int] | None = None
        self.errors = 0
        self.opened_at = opened_at
        #: When the last connection left or joined; requests are not timed one by one.
        self.idle_since_ns = now_ns
        # What hot methods hand out: they add to these themselves.
        self.permits = self.reservations = self.hits = 0
        self._used: dict[str, int] = {}

    def count(self, what: str, count: int = 1) -> None:
        """Count something that was used, as in `leases` or `fills`: a word of the code's own.

        Handlers leave it to `marks.count_use`.
        """
        self._used[what] = self._used.get(what, 0) + count

    @property
    def used(self) -> dict[str, int]:
        """What was used in it, by what it is: what was not has no member."""
        hot = {"permits": self.permits, "reservations": self.reservations, "hits": self.hits}
        used = dict(self._used)
        for what, count in hot.items():
            if count:
                used[what] = used.get(what, 0) + count
        return used

    def describe(self, now_ns: int) -> Session:
        """Return the session as it goes over the wire."""
        idle_ns = 0 if self.connections else now_ns - self.idle_since_ns
        return Session(
            session_id=self.id,
            name=self.name,
            uid=self.uid,
            pid=self.pid or None,
            implied=self.token is None,
            connections=self.connections,
            requests=self.requests if self.counted is None else self.counted(),
            errors=self.errors,
            opened_at=self.opened_at.isoformat(timespec="milliseconds"),
            idle_s=idle_ns / _SECOND_NS,
            used=self.used,
        )


class Sessions:
    """All sessions. Implied ones are bounded by the connections, opened ones by `max_per_uid`."""

    def __init__(
        self,
        *,
        max_per_uid: int = 256,
        max_opened: int = 8192,
        idle_timeout_s: float = 3600.0,
        clock: Callable[[], int] = time.monotonic_ns,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._max_per_uid = max_per_uid
        self._max_opened = max_opened
        self._idle_timeout_ns = round(idle_timeout_s * _SECOND_NS)
        self._clock = clock
        self._now = now
        self._implied: dict[str, SessionState] = {}
        self._opened: dict[str, SessionState] = {}
        self._by_token: dict[str, SessionState] = {}
        self._by_uid: dict[int, dict[str, SessionState]] = {}

    def connect(self, uid: int, pid: int, counted: Callable[[], int] | None = None) -> SessionState:
        """Return the implied session of a new connection; `counted` tells how many requests."""
        state = self._new(uid, pid)
        state.counted = counted
        self._implied[state.id] = state
        return state

    def disconnect(self, implied: SessionState, opened: set[str]) -> None:
        """Forget the implied session of a closed connection, and detach it from opened ones."""
        self._implied.pop(implied.id, None)
        implied.counted = None
        for session_id in opened:
            self.detach(session_id)

    def open(
        self, *, uid: int, pid: int, name: str | None, token: str | None, joined: set[str]
    ) -> SessionOpened:
        """Open a session, or resume the one with that token. Raises NotFoundError, BusyError.

        `joined` has the sessions that the connection is attached to already; it is added to.
        """
        if token is not None:
            state = self._resumable(uid, token)
            state.connections += state.id not in joined
        else:
            self._make_room(uid)
            state = self._new(uid, pid)
            state.token = secrets.token_urlsafe(24)
            self._opened[state.id] = self._by_token[state.token] = state
            self._by_uid.setdefault(uid, {})[state.id] = state
        joined.add(state.id)
        state.name = name if name is not None else state.name
        return SessionOpened(
            session_id=state.id, token=state.token or "", resumed=token is not None
        )

    def detach(self, session_id: str) -> None:
        """Take one connection off an opened session, which stays to be resumed."""
        state = self._opened.get(session_id)
        if state is not None:
            state.connections -= 1
            state.idle_since_ns = self._clock()

    def close(self, session_id: str, *, uid: int, everyone: bool) -> bool:
        """End an opened session; False if the caller has none of that id."""
        state = self._opened.get(session_id)
        if state is None or not (everyone or state.uid == uid):
            return False
        decides_over(f"session {session_id}", owner=state.uid)
        self._forget(state)
        return True

    def find(self, session_id: str, uid: int) -> SessionState | None:
        """Return the opened session of that id, if it belongs to `uid`."""
        state = self._opened.get(session_id)
        return state if state is not None and state.uid == uid else None

    @property
    def counts(self) -> tuple[int, int]:
        """How many were opened and are there, and how many connections have one of their own."""
        return len(self._opened), len(self._implied)

    def visible_to(self, uid: int, *, everyone: bool) -> Iterator[Session]:
        """Yield the sessions of `uid`, or of everyone."""
        self._expire(self._opened)
        now_ns = self._clock()
        for states in (self._opened, self._implied):
            for state in states.values():
                if everyone or state.uid == uid:
                    yield state.describe(now_ns)

    def _new(self, uid: int, pid: int) -> SessionState:
        return SessionState(uid=uid, pid=pid, opened_at=self._now(), now_ns=self._clock())

    def _resumable(self, uid: int, token: str) -> SessionState:
        state = self._by_token.get(token)
        if state is None or state.uid != uid or self._is_expired(state):
            raise NotFoundError(
                "cannot resume: no session of yours has that token. Open a new one."
            )
        return state

    def _make_room(self, uid: int) -> None:
        own = self._by_uid.get(uid, {})
        if len(own) >= self._max_per_uid:
            self._drop_idlest(own, f"{len(own)} of yours are open")
        if len(self._opened) >= self._max_opened:
            self._expire(self._opened)
        if len(self._opened) >= self._max_opened:
            self._drop_idlest(own, f"{len(self._opened)} are open on this host")

    def _drop_idlest(self, states: dict[str, SessionState], why: str) -> None:
        idle = [state for state in states.values() if not state.connections]
        if not idle:
            raise BusyError(f"cannot open a session: {why}, and none of yours is idle")
        self._forget(min(idle, key=lambda state: state.idle_since_ns))

    def _expire(self, states: dict[str, SessionState]) -> None:
        for state in [each for each in states.values() if self._is_expired(each)]:
            self._forget(state)

    def _is_expired(self, state: SessionState) -> bool:
        if state.connections:
            return False
        return self._clock() - state.idle_since_ns > self._idle_timeout_ns

    def _forget(self, state: SessionState) -> None:
        del self._opened[state.id]
        del self._by_token[state.token or ""]
        own = self._by_uid[state.uid]
        del own[state.id]
        if not own:
            del self._by_uid[state.uid]
