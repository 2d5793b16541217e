"""Several users with connections that come, cancel and die, judged by what each was told.

The judge knows no more than clients do together: who was told to fetch what and has not ended it,
who waits, and which value was set where. Rules are those of semantics 3.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Struct

from cache_host import ANN, BEN, EVE, MS, ROOT, CacheHost, Line, User, limits, shared_with
from superezio.errors import (
    BusyError,
    FillFailedError,
    FillTimeoutError,
    PermissionDeniedError,
)
from superezio.resilience.cache_limits import Quota
from superezio.resilience.namespaces import ENTRY_OVERHEAD_BYTES
from superezio.wire import CacheAnswer, CacheStats

MAX_BYTES = 14 * ENTRY_OVERHEAD_BYTES
OWNER_BYTES = 6 * ENTRY_OVERHEAD_BYTES
BOUNDS = limits(
    max_bytes=MAX_BYTES,
    max_value_bytes=1000,
    quota=Quota(5 * ENTRY_OVERHEAD_BYTES, 100),
    owner=Quota(OWNER_BYTES, 100, 2 * ENTRY_OVERHEAD_BYTES, 2),
    max_promised=3,
    max_fills=6,
    max_leads_per_holder=2,
    max_leads_per_user=3,
)
WAITERS, NAMESPACES = 4, 2
SHARED = {"common": shared_with(ANN, BEN)}

USERS = st.sampled_from((ANN, ANN, BEN, EVE))
NAMES = st.sampled_from(("n", "n", "n", "common", "common", "o", "p"))
KEYS = st.sampled_from(("k", "k", "k", "l", "m", "q"))
PICKS = st.integers(0, 99)
SPANS = st.sampled_from((5, 20, 60))

T = TypeVar("T")
#: A key as the judge names it: whose its namespace is (None: of those who share it), both names.
Place = tuple[int | None, str, str]


class Leading(Struct):
    """A caller that was told to fetch."""

    line: Line
    token: str
    until: int
    outdated: bool = False


class Waiting(Struct, eq=False):
    """A request that has no answer yet."""

    line: Line
    place: Place
    future: asyncio.Future[CacheAnswer]
    lead_ms: int
    until: int


class _StillLoop(asyncio.SelectorEventLoop):
    """One whose timers never ring: the machine says when what is due happens."""

    def time(self) -> float:
        return 0.0


class CachesMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = _StillLoop()
        self.host = self.loop.run_until_complete(self._made())
        self.lines: list[Line] = []
        self.leading: dict[Place, Leading] = {}
        self.waiting: list[Waiting] = []
        self.values: dict[Place, set[str]] = {}
        self.dead: set[str] = set()
        self.old_tokens: list[tuple[Place, str, Line]] = []
        self.count = 0

    async def _made(self) -> CacheHost:
        return CacheHost(
            shared=SHARED, limits=BOUNDS, waiters_per_uid=WAITERS, namespaces_per_uid=NAMESPACES
        )

    def run(self) -> None:
        """Let the loop call back what it has to, and note what clients are told by that."""
        self.loop.run_until_complete(asyncio.sleep(0))
        self._collect()

    # --- who asks ---------------------------------------------------------------------------------

    @rule(user=USERS)
    def connect(self, user: User) -> None:
        if len(self.lines) < 8:
            self.lines.append(self.host.connect(user))

    @precondition(lambda self: self.lines)
    @rule(pick=PICKS, name=NAMES, key=KEYS, fill=st.booleans(), wait=SPANS, lead=SPANS)
    def ask(self, pick: int, name: str, key: str, *, fill: bool, wait: int, lead: int) -> None:
        self.run()
        line = self.lines[pick % len(self.lines)]
        waits = sum(each.line.user == line.user for each in self.waiting)
        place = self._place(line, name, key)
        refused, taken_over = self._is_refused(line), place in self.leading
        told = self._stats(self.host.connect(ROOT)).namespaces
        assert sum(each.waiting for each in told) == len(self.waiting)
        try:
            answer = self._on_loop(
                lambda: line.ask(key, name, fill=fill, wait_ms=wait, lead_ms=lead)
            )
        except PermissionDeniedError:
            assert (name, line.user) == ("common", EVE)
        except BusyError as busy:
            limit = busy.data["limit"]
            assert waits == WAITERS if limit == "waiters_per_uid" else self._namespaces(line) == 2
        else:
            assert (name, line.user) != ("common", EVE)
            if isinstance(answer, asyncio.Future):
                assert fill
                assert waits < WAITERS
                assert place in self.leading, "it waits for nobody"
                until = self.host.now + wait * MS
                self.waiting.append(Waiting(line, place, answer, lead, until))
                self._collect()
            else:
                if fill and answer.status == "miss":
                    assert refused
                if answer.token is not None:
                    assert taken_over or not refused
                self._told(line, place, answer, lead)
                assert fill or answer.token is None

    @precondition(lambda self: self.lines)
    @rule(pick=PICKS, name=st.sampled_from(("n", "common")), key=KEYS, many=st.integers(2, 4))
    def many_ask(self, pick: int, name: str, key: str, many: int) -> None:
        for each in range(many):
            self.ask(pick + each, name, key, fill=True, wait=60, lead=20)

    @precondition(lambda self: self.waiting)
    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        gone = self.waiting.pop(pick % len(self.waiting))
        assert gone.future.cancel()

    @precondition(lambda self: self.waiting)
    @rule(pick=PICKS, many=st.integers(1, 3))
    def waiters_are_gone_when_their_leader_dies(self, pick: int, many: int) -> None:
        """The race: the lead reaches requests whose cancellation was not heard of yet."""
        place = self.waiting[pick % len(self.waiting)].place
        same = [each for each in self.waiting if each.place == place]
        gone = same[: min(many, max(1, len(same) - 1))]
        self.waiting = [each for each in self.waiting if each not in gone]
        leader = self.leading[place].line

        def at_once() -> None:
            for each in gone:
                assert each.future.cancel()
            leader.close()

        self._close(leader, by=at_once)

    @rule(user=st.sampled_from((ANN, BEN)), many=st.integers(1, 3), pick=PICKS)
    def a_crowd_is_there_when_its_leader_dies(self, user: User, many: int, pick: int) -> None:
        self.run()
        for _ in range(4):
            self.lines.append(self.host.connect(user))
            self.ask(len(self.lines) - 1, "n", "k", fill=True, wait=60, lead=20)
        if self.waiting:
            self.waiters_are_gone_when_their_leader_dies(pick, many)
        for line in self.lines[8:]:
            self._close(line)

    @precondition(lambda self: self.lines)
    @rule(pick=PICKS)
    def close(self, pick: int) -> None:
        self._close(self.lines[pick % len(self.lines)])

    def _close(self, line: Line, by: Callable[[], None] | None = None) -> None:
        self.lines.remove(line)
        self.waiting = [each for each in self.waiting if each.line is not line]
        for place in [place for place, each in self.leading.items() if each.line is line]:
            del self.leading[place]
        self._on_loop(by or line.close)
        self._collect()

    @rule(ms=st.sampled_from((1, 5, 20)))
    def time_passes(self, ms: int) -> None:
        self.host.now += ms * MS

    @rule(ms=st.sampled_from((0, 5, 20)))
    def what_is_due_happens(self, ms: int) -> None:
        self.run()
        self._on_loop(lambda: self.host.pass_ms(ms))
        for place in [place for place, each in self.leading.items() if self._is_late(each)]:
            del self.leading[place]
        self._collect()
        assert all(each.until > self.host.now for each in self.waiting), "one waits too long"

    # --- who leads --------------------------------------------------------------------------------

    @precondition(lambda self: self.leading)
    @rule(pick=PICKS, size=st.sampled_from((0, 0, 1200)))
    def deliver(self, pick: int, size: int) -> None:
        place, leading = self._leading(pick)
        value = self._value(place, size)
        _, name, key = place
        late = self._is_late(leading)
        waits = [each for each in self.waiting if each.place == place]
        settled = self._on_loop(
            lambda: leading.line.set(value, key, name, token=leading.token, ttl_ms=50, grace_ms=20)
        )
        self._ended(place)
        assert settled.accepted != late
        if late or leading.outdated or size:
            assert not settled.stored
        if not late and not leading.outdated:
            assert all(each.future.done() for each in waits), "it goes to all who wait"
        self._collect()
        if late or leading.outdated:
            self.dead.add(value)

    @precondition(lambda self: self.leading)
    @rule(pick=PICKS, error=st.sampled_from(("HTTP 503", None)))
    def fail(self, pick: int, error: str | None) -> None:
        place, leading = self._leading(pick)
        _, name, key = place
        late = self._is_late(leading)
        waits = [each for each in self.waiting if each.place == place]
        answer = self._on_loop(lambda: leading.line.fail(leading.token, error, key, name))
        self._ended(place)
        if error is not None:
            assert answer.accepted != late
            if not late:
                assert all(each.future.done() for each in waits), "the error goes to all"
        else:
            assert answer.accepted
        self._collect()

    @precondition(lambda self: self.old_tokens and self.lines)
    @rule(pick=PICKS, thief=PICKS)
    def use_a_token_that_is_not_good(self, pick: int, thief: int) -> None:
        tokens = self.old_tokens + [
            (place, each.token, each.line) for place, each in self.leading.items()
        ]
        (owner, name, key), token, holder = tokens[-1 - pick % len(tokens)]
        line = self.lines[thief % len(self.lines)]
        current = self.leading.get((owner, name, key))
        if current is not None and (current.token, current.line) == (token, line):
            return
        try:
            told = self._on_loop(lambda: line.set("stolen", key, name, token=token))
            failed = self._on_loop(lambda: line.fail(token, "stolen", key, name))
        except PermissionDeniedError:
            assert (name, line.user) == ("common", EVE)
            return
        assert not any((told.accepted, told.stored, failed.accepted)), holder
        self._collect()

    # --- who sets and deletes ---------------------------------------------------------------------

    @precondition(lambda self: self.lines)
    @rule(pick=PICKS, name=NAMES, key=KEYS)
    def put(self, pick: int, name: str, key: str) -> None:
        self.run()
        line = self.lines[pick % len(self.lines)]
        place = self._place(line, name, key)
        waits = [each for each in self.waiting if each.place == place]
        value = self._value(place, 0)
        try:
            self._on_loop(lambda: line.set(value, key, name, ttl_ms=50, tags=["t"]))
        except PermissionDeniedError:
            assert (name, line.user) == ("common", EVE)
        except BusyError:
            assert self._namespaces(line) == NAMESPACES
        else:
            assert all(each.future.done() for each in waits), "it goes to all who wait"
            self._outdated(place)
        self._collect()

    @precondition(lambda self: self.lines)
    @rule(pick=PICKS, names=st.lists(st.sampled_from(("n", "o")), min_size=3, max_size=6))
    def much_is_put(self, pick: int, names: list[str]) -> None:
        for number, name in enumerate(names):
            self.put(pick, name, "klmq"[number % 4])

    @precondition(lambda self: self.lines)
    @rule(pick=PICKS, name=NAMES, key=KEYS, by_tag=st.booleans())
    def delete(self, pick: int, name: str, key: str, *, by_tag: bool) -> None:
        line = self.lines[pick % len(self.lines)]
        try:
            if by_tag:
                line.delete(tag="t", namespace=name)
            else:
                line.delete(key=key, namespace=name)
        except PermissionDeniedError:
            assert (name, line.user) == ("common", EVE)
        else:
            if not by_tag:
                place = self._place(line, name, key)
                self.dead |= self.values.get(place, set())
                self._outdated(place)

    # --- what always holds ------------------------------------------------------------------------

    @invariant()
    def no_lead_is_lost(self) -> None:
        for each in self.waiting:
            assert each.place in self.leading, "somebody waits, and nobody fetches"
            assert self.leading[each.place].line in self.lines

    @invariant()
    def no_more_is_held_than_may_be(self) -> None:
        stats = self._stats(self.host.connect(ROOT))
        assert stats.used_bytes <= MAX_BYTES
        for user in (ANN, BEN, EVE):
            mine = [each for each in stats.namespaces if each.uid == user.uid]
            assert sum(each.used_bytes for each in mine) <= OWNER_BYTES
            assert len(mine) <= NAMESPACES
        leads = sum(each.fills for each in stats.namespaces)
        assert leads <= BOUNDS.max_fills

    @invariant()
    def one_sees_ones_own_alone(self) -> None:
        for user in (ANN, BEN, EVE):
            stats = self._stats(self.host.connect(user))
            owners = {each.uid for each in stats.namespaces}
            assert owners <= ({user.uid} if user is EVE else {user.uid, None})

    def teardown(self) -> None:
        """All goes: nothing is remembered of anybody."""
        for line in list(self.lines):
            self._close(line)
        self.run()
        stats = self._stats(self.host.connect(ROOT))
        assert {(each.fills, each.waiting) for each in stats.namespaces} <= {(0, 0)}
        assert not self.host.caches._uids
        assert not self.host.caches._waits._waits
        assert not self.host.caches._waits._waiting
        self.host.close()
        self.loop.close()

    # --- within -----------------------------------------------------------------------------------

    def _on_loop(self, act: Callable[[], T]) -> T:
        """Act on the loop, in one turn of it."""

        async def acting() -> T:
            return act()

        return self.loop.run_until_complete(acting())

    def _collect(self) -> None:
        """Take note of what those who waited were told."""
        for each in [each for each in self.waiting if each.future.done()]:
            self.waiting.remove(each)
            error = each.future.exception()
            if error is None:
                self._told(each.line, each.place, each.future.result(), each.lead_ms)
            elif isinstance(error, FillTimeoutError):
                assert each.until <= self.host.now
            else:
                assert isinstance(error, FillFailedError)
                assert "HTTP 503" in error.message

    def _told(self, line: Line, place: Place, answer: CacheAnswer, lead_ms: int) -> None:
        assert answer.shared == (place[0] is None)
        if answer.text is not None:
            assert answer.text.startswith(f"{place}|"), "it was set elsewhere"
            assert answer.text not in self.dead, "it was deleted"
        if answer.token is not None:
            assert answer.status in {"lead", "stale"}
            before = self.leading.get(place)
            assert before is None or self._is_late(before), "two fetch one key"
            assert line in self.lines
            self._ended(place)
            self.leading[place] = Leading(line, answer.token, self.host.now + lead_ms * MS)

    def _ended(self, place: Place) -> None:
        ended = self.leading.pop(place, None)
        if ended is not None:
            self.old_tokens.append((place, ended.token, ended.line))

    def _outdated(self, place: Place) -> None:
        if place in self.leading:
            self.leading[place].outdated = True

    def _leading(self, pick: int) -> tuple[Place, Leading]:
        return list(self.leading.items())[pick % len(self.leading)]

    def _is_late(self, leading: Leading) -> bool:
        return leading.until <= self.host.now

    def _is_refused(self, line: Line) -> bool:
        leads = [each.line for each in self.leading.values()]
        return (
            len(leads) >= BOUNDS.max_fills
            or leads.count(line) >= BOUNDS.max_leads_per_holder
            or sum(each.user == line.user for each in leads) >= BOUNDS.max_leads_per_user
        )

    def _place(self, line: Line, name: str, key: str) -> Place:
        return (None if name in SHARED else line.user.uid, name, key)

    def _value(self, place: Place, size: int) -> str:
        """Return a value like no other, that says where it was set."""
        self.count += 1
        value = f"{place}|{self.count}".ljust(size, ".")
        self.values.setdefault(place, set()).add(value)
        return value

    def _stats(self, line: Line) -> CacheStats:
        return self.host.caches.stats(line.caller)

    def _namespaces(self, line: Line) -> int:
        return sum(each.uid is not None for each in self._stats(line).namespaces)


#: Against a mutant, whose examples are the same each time and the first failure is enough.
AGAINST_MUTANT = "SUPEREZIO_MUTANT" in os.environ

TestCachesModel = CachesMachine.TestCase
TestCachesModel.settings = settings(
    max_examples=200 if AGAINST_MUTANT else 100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate] if AGAINST_MUTANT else tuple(Phase),
)
