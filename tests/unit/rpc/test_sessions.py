from __future__ import annotations

import pytest

from superezio.errors import BusyError, NotFoundError
from superezio.wire import SessionOpened
from supereziod.rpc.sessions import Sessions

SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = SECOND

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)


class Program:
    """A program's connections and what they joined."""

    def __init__(self, sessions: Sessions, uid: int = 1000) -> None:
        self.sessions = sessions
        self.uid = uid
        self.connect()

    def connect(self) -> None:
        self.joined: set[str] = set()
        self.implied = self.sessions.connect(self.uid, 77)

    def disconnect(self) -> None:
        self.sessions.disconnect(self.implied, self.joined)

    def open(self, *, token: str | None = None, name: str | None = None) -> SessionOpened:
        return self.sessions.open(uid=self.uid, pid=77, name=name, token=token, joined=self.joined)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(max_per_uid=2, max_opened=3, idle_timeout_s=60.0, clock=clock)


def test_every_connection_has_a_session_of_its_own(sessions: Sessions) -> None:
    program = Program(sessions)
    program.implied.requests += 3
    (session,) = sessions.visible_to(1000, everyone=False)
    assert (session.implied, session.requests, session.pid, session.connections) == (True, 3, 77, 1)
    program.disconnect()
    assert list(sessions.visible_to(1000, everyone=False)) == []


def test_a_session_is_resumed_by_its_token(sessions: Sessions, clock: Clock) -> None:
    program = Program(sessions)
    opened = program.open(name="train")
    assert not opened.resumed
    program.disconnect()
    clock.advance(30)
    program.connect()
    resumed = program.open(token=opened.token)
    assert resumed == SessionOpened(session_id=opened.session_id, token=opened.token, resumed=True)
    found = sessions.find(opened.session_id, 1000)
    assert found is not None
    assert (found.name, found.connections) == ("train", 1)


def test_resuming_twice_over_one_connection_counts_it_once(sessions: Sessions) -> None:
    program = Program(sessions)
    opened = program.open()
    program.open(token=opened.token)
    found = sessions.find(opened.session_id, 1000)
    assert found is not None
    assert found.connections == 1
    program.disconnect()
    assert found.connections == 0


def test_a_token_works_for_its_uid_only(sessions: Sessions) -> None:
    opened = Program(sessions).open()
    with pytest.raises(NotFoundError):
        Program(sessions, uid=1001).open(token=opened.token)
    with pytest.raises(NotFoundError):
        Program(sessions).open(token="gu\u00e9ss")
    assert sessions.find(opened.session_id, 1001) is None


def test_who_sees_which_sessions(sessions: Sessions) -> None:
    Program(sessions).open()
    Program(sessions, uid=1001)
    assert {each.uid for each in sessions.visible_to(1001, everyone=False)} == {1001}
    assert len(list(sessions.visible_to(1001, everyone=True))) == 3


def test_a_closed_session_is_gone(sessions: Sessions) -> None:
    program = Program(sessions)
    opened = program.open()
    assert not sessions.close(opened.session_id, uid=1001, everyone=False)
    assert sessions.close(opened.session_id, uid=1000, everyone=False)
    assert not sessions.close(opened.session_id, uid=1000, everyone=False)
    with pytest.raises(NotFoundError):
        program.open(token=opened.token)
    program.disconnect()


def test_an_admin_may_close_anyones(sessions: Sessions) -> None:
    opened = Program(sessions).open()
    assert sessions.close(opened.session_id, uid=0, everyone=True)


def test_an_idle_session_ends_in_time(sessions: Sessions, clock: Clock) -> None:
    program = Program(sessions)
    opened = program.open()
    clock.advance(1000)
    assert sessions.find(opened.session_id, 1000) is not None, "a connected one is not idle"
    program.disconnect()
    program.connect()
    clock.advance(61)
    with pytest.raises(NotFoundError):
        program.open(token=opened.token)
    assert all(each.implied for each in sessions.visible_to(1000, everyone=False))


def test_how_long_a_session_is_idle_is_told(sessions: Sessions, clock: Clock) -> None:
    program = Program(sessions)
    program.open()
    program.disconnect()
    clock.advance(5)
    (session,) = sessions.visible_to(1000, everyone=False)
    assert (session.idle_s, session.connections) == (5.0, 0)


def test_sessions_are_bounded_per_uid_and_the_idlest_goes_first(
    sessions: Sessions, clock: Clock
) -> None:
    first, second = Program(sessions), Program(sessions)
    oldest, newer = first.open(), second.open()
    with pytest.raises(BusyError, match="2 of yours are open, and none of yours is idle"):
        first.open()
    first.disconnect()
    clock.advance(1)
    second.disconnect()
    third = Program(sessions)
    third.open()
    assert sessions.find(oldest.session_id, 1000) is None
    assert sessions.find(newer.session_id, 1000) is not None


def test_one_uid_does_not_push_out_anothers(sessions: Sessions, clock: Clock) -> None:
    greedy = Program(sessions, uid=1001)
    greedy.open(), greedy.open()
    modest = Program(sessions, uid=1002)
    kept = modest.open()
    late = Program(sessions, uid=1003)
    with pytest.raises(BusyError, match="3 are open on this host"):
        late.open()
    greedy.disconnect()
    with pytest.raises(BusyError):
        late.open()
    clock.advance(61)
    late.open()
    assert sessions.find(kept.session_id, 1002) is not None
