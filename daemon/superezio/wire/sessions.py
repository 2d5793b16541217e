"""Sessions, and the requests that are in flight on a connection."""

from __future__ import annotations

from superezio.wire.message import Params, Result


class SessionOpenParams(Params):
    """`token`, from an earlier open by the same uid, resumes that session."""

    name: str | None = None
    token: str | None = None


class SessionOpened(Result):
    session_id: str
    token: str
    resumed: bool


class SessionCloseParams(Params):
    session_id: str


class Session(Result):
    """A session. `used` counts what was used in it, by what it is; what was not is left out.

    These are leases, permits (of breakers), reservations (in limits), hits (values that were
    cached), coalesced (those that were waited for) and fills (those that were fetched for all).
    """

    session_id: str
    name: str | None
    uid: int
    pid: int | None
    implied: bool
    connections: int
    requests: int
    errors: int
    opened_at: str
    idle_s: float
    used: dict[str, int] = {}


class SessionList(Result):
    sessions: list[Session]


class CancelParams(Params):
    """`id` of the request in flight on this connection."""

    id: int | str
