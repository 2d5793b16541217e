"""The service against the definition in fractions: users, connections, restarts, and the disk."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from math import floor
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from limit_host import MS, Connection, LimitHost, User
from limiter_model import Amounts, LimiterModel, ScopeModel, WordModel
from limiter_model import Rate as RateModel
from superezio.errors import NeverPassesError, PermissionDeniedError, RateLimitedError
from superezio.resilience.rate_limiter import Limit, Rate
from superezio.wire import LimitRate, LimitRates, LimitRemaining, LimitReservation
from supereziod.resilience.limit_rules import LimitBounds, LimitRules, ScopeRules
from supereziod.resilience.sharing import Audience

STUDENTS = 10
ANN, BOB = User(1001, frozenset({STUDENTS})), User(1002, frozenset({STUDENTS}))
EVE = User(1003)
LONGEST_BLOCK_MS = 50
SLOT_RETRY = 1000 * MS
DAY_CAP = 40
#: Of both users together; one of them can overshoot half of it.
HOST_CAP = 70
SHARE = Fraction(1, 2)
DAY_S = 86_400
#: In memory, where that can be: each example has a database of its own.
SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

HOST = Limit(
    requests=Rate(limit=3, period_ns=20 * MS, burst=6),
    tokens=Rate(limit=7, period_ns=30 * MS, burst=20),
    longest_block_ns=LONGEST_BLOCK_MS * MS,
)
OF_USER = Limit(
    money=Rate(limit=5, period_ns=7 * MS, burst=30),
    concurrency=2,
    longest_block_ns=LONGEST_BLOCK_MS * MS,
)
PLAIN = Limit(
    requests=Rate(limit=1, period_ns=3 * MS, burst=4), longest_block_ns=LONGEST_BLOCK_MS * MS
)
SHARED = {
    "paid": LimitRules(
        scopes={
            "host": ScopeRules(limit=HOST, caps_micros={"day": HOST_CAP}),
            "user": ScopeRules(limit=OF_USER, caps_micros={"day": DAY_CAP}),
        }
    ),
    "plain": LimitRules(scopes={"host": ScopeRules(limit=PLAIN)}),
}
#: A private limit: one name, whose rates are always given.
OWN = LimitRates(
    requests=LimitRate(limit=1, period_ms=10, burst=3), tokens=LimitRate(limit=9, period_ms=5)
)

NAMES = st.sampled_from(("paid", "paid", "plain", "own"))
AMOUNTS = st.fixed_dictionaries(
    {
        "requests": st.sampled_from((0, 1, 1, 1, 2)),
        "tokens": st.sampled_from((0, 0, 1, 5, 12)),
        "money": st.sampled_from((0, 0, 1, 9)),
        "concurrency": st.sampled_from((0, 0, 1)),
    }
)
ONE = st.just({"requests": 1, "tokens": 0, "money": 0, "concurrency": 0})
USED = st.none() | st.fixed_dictionaries(
    {
        "requests": st.sampled_from((0, 1, 3)),
        "tokens": st.sampled_from((0, 2, 60)),
        "money_micros": st.sampled_from((0, 3, 25)),
    }
)
PICKS = st.integers(0, 9)


class Taken:
    """What somebody was told to have, and by whom it is held."""

    def __init__(self, name: str, holder: int, cost: Amounts, at: int, micros_of: str) -> None:
        self.name = name
        self.holder = holder
        self.cost = cost
        self.at = at
        self.day = micros_of


def model_of(limit: Limit) -> ScopeModel:
    return ScopeModel(
        rates={
            name: RateModel(rate.limit, rate.period_ns, rate.at_once)
            for name in ("requests", "tokens", "money")
            if (rate := getattr(limit, name)) is not None
        },
        slots=limit.concurrency,
        slot_retry=SLOT_RETRY,
        longest_block=limit.longest_block_ns,
    )


class LimitsMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.scratch = tempfile.TemporaryDirectory(prefix="limits-", dir=SCRATCH)
        self.loop = asyncio.new_event_loop()
        own = Limit(
            requests=Rate(limit=1, period_ns=10 * MS, burst=3),
            tokens=Rate(limit=9, period_ns=5 * MS),
            longest_block_ns=LONGEST_BLOCK_MS * MS,
        )
        self.model = LimiterModel(
            {
                "paid host": model_of(HOST),
                "paid 1001": model_of(OF_USER),
                "paid 1002": model_of(OF_USER),
                "plain host": model_of(PLAIN),
                **{f"own {uid}": model_of(own) for uid in (1001, 1002, 1003)},
            }
        )
        #: By whose budget ("" is the host's) and day.
        self.spent: dict[tuple[str, str], int] = {}
        #: By user and day, in full.
        self.overshot: dict[tuple[str, str], int] = {}
        self.host: LimitHost = self.on_loop(
            lambda: LimitHost(
                Path(self.scratch.name),
                shared=SHARED,
                audiences={name: Audience(gids=frozenset({STUDENTS})) for name in SHARED},
                bounds=LimitBounds(longest_block_ns=LONGEST_BLOCK_MS * MS),
                timer=False,
            )
        )
        #: What each user's word has pushed rates of the host by.
        self.words: dict[tuple[int, str, str], WordModel] = {}
        self.reset_people()

    def reset_people(self) -> None:
        self.people = [ANN, ANN, BOB, EVE]
        self.connections = [self.host.connect(user) for user in self.people]
        self.open: dict[int, Taken] = {}
        self.waiting: list[tuple[asyncio.Future[LimitReservation], Taken]] = []

    def on_loop(self, action: Callable[[], Any]) -> Any:
        """Act as the loop's callbacks do."""

        async def act() -> Any:
            try:
                return action()
            finally:
                await asyncio.sleep(0)

        return self.loop.run_until_complete(act())

    def teardown(self) -> None:
        if hasattr(self, "host"):
            for future, _ in self.waiting:
                future.cancel()
            self.on_loop(lambda: self.host.end(final=False))
            self.loop.close()
            self.scratch.cleanup()

    # --- the model ------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        return self.host.now

    def today(self) -> str:
        return f"{datetime.fromtimestamp(self.host.wall, UTC):%Y-%m-%d}"

    def scopes(self, name: str, holder: int) -> tuple[str, ...]:
        uid = self.people[holder].uid
        if name == "own":
            return (f"own {uid}",)
        return ("paid host", f"paid {uid}") if name == "paid" else ("plain host",)

    def take(self, taken: Taken) -> None:
        self.model.take(self.now, self.scopes(taken.name, taken.holder), taken.cost)
        if taken.name == "paid":
            self.add_spend(taken.holder, taken.cost["money"])

    def add_spend(self, holder: int, micros: int, of_host: int | None = None) -> None:
        uid = str(self.people[holder].uid)
        for whose, more in ((uid, micros), ("", micros if of_host is None else of_host)):
            place = (whose, self.today())
            self.spent[place] = self.spent.get(place, 0) + more

    def is_over_cap(self, name: str, holder: int, micros: int) -> bool:
        if name != "paid":
            return False
        uid, day = str(self.people[holder].uid), self.today()
        # What names no cost has one that is known afterwards: something has to be left.
        least = micros or 1
        return (
            self.spent.get((uid, day), 0) + least > DAY_CAP
            or self.spent.get(("", day), 0) + least > HOST_CAP
            or self.overshot.get((uid, day), 0) > HOST_CAP * SHARE
        )

    def overshoot(self, holder: int, micros: int) -> int:
        """Count what one spent beyond its reservation; return what counts for the host."""
        place = (str(self.people[holder].uid), self.today())
        before = self.overshot.get(place, 0)
        self.overshot[place] = before + micros
        return floor(min(Fraction(micros), max(Fraction(0), HOST_CAP * SHARE - before)))

    def close(self, taken: Taken, used: dict[str, int] | None) -> None:
        actual = dict(taken.cost)
        if used is not None:
            actual |= {"requests": used["requests"], "tokens": used["tokens"]}
            actual["money"] = used["money_micros"]
        scopes = self.scopes(taken.name, taken.holder)
        before = {
            (scope, name): max(rate.tat, self.now)
            for scope in scopes
            for name, rate in self.model.scopes[scope].rates.items()
        }
        self.model.settle(self.now, scopes, taken.cost, actual, taken.at)
        more = any(actual[each] > taken.cost[each] for each in actual)
        if more and taken.name != "own":
            for (scope, name), was in before.items():
                rate = self.model.scopes[scope].rates[name]
                if rate.tat <= was:
                    continue
                if scope.endswith(" host"):
                    who = (self.people[taken.holder].uid, scope, name)
                    word = self.words.setdefault(who, WordModel())
                    most = max(LONGEST_BLOCK_MS * MS, floor(rate.interval(rate.burst) * SHARE))
                    rate.tat = was + word.counts(self.now, rate.tat - was, most, SHARE)
                most = self.now + rate.interval(rate.burst) + LONGEST_BLOCK_MS * MS
                rate.tat = min(rate.tat, most)
        delta = actual["money"] - taken.cost["money"]
        # Of a window that is over nothing is given back; what is more counts now,
        # whether any money was reserved or not.
        if taken.name == "paid" and (delta > 0 or taken.day == self.today()):
            of_host = self.overshoot(taken.holder, delta) if delta > 0 else delta
            self.add_spend(taken.holder, delta, of_host)

    # --- what may happen ------------------------------------------------------------------------

    @rule(elapsed=st.sampled_from((0, 1, 3, 10, 40)))
    def time_passes(self, elapsed: int) -> None:
        self.host.now += elapsed * MS

    @rule()
    def a_day_passes(self) -> None:
        self.host.wall += DAY_S

    @rule(
        holder=st.integers(0, 3),
        name=NAMES,
        cost=AMOUNTS | ONE,
        patience=st.sampled_from((0, 0, 8, 90)),
    )
    def somebody_asks(self, holder: int, name: str, cost: Amounts, patience: int) -> None:
        connection = self.connections[holder]
        params = {
            "requests": cost["requests"],
            "tokens": cost["tokens"],
            "money_micros": cost["money"],
            "concurrency": cost["concurrency"],
            "rates": OWN if name == "own" else None,
        }
        taken = Taken(name, holder, cost, self.now, self.today())
        if name != "own" and STUDENTS not in self.people[holder].groups:
            self.refused(PermissionDeniedError, connection, name, params)
            return
        scopes = self.scopes(name, holder)
        if self.is_over_cap(name, holder, cost["money"]):
            error = self.refused(RateLimitedError, connection, name, params)
            assert error.data["dimension"] == "money"
            return
        if self.model.never(scopes, cost):
            self.refused(NeverPassesError, connection, name, params)
            return
        waits = self.model.waits(self.now, scopes, cost)
        others_wait = any(each.name == name for _, each in self.waiting)
        try:
            number = self.on_loop(lambda: self.host.acquire(connection, name, **params))
        except RateLimitedError as error:
            assert waits or others_wait, "it under-grants"
            if not others_wait:
                longest = -(-max(waits.values()) // MS)
                assert error.retry_after_ms == longest  # noqa: PT017 - not always raised
            if patience:
                future = self.on_loop(
                    lambda: self.host.wait(connection, name, wait_ms=patience, **params)
                )
                self.waiting.append((future, taken))
        else:
            assert not waits, "it over-grants"
            assert number not in self.open
            self.open[number] = taken
            self.take(taken)

    def refused(
        self, kind: type[Any], connection: Connection, name: str, params: dict[str, Any]
    ) -> Any:
        try:
            self.on_loop(lambda: self.host.acquire(connection, name, **params))
        except kind as error:
            return error
        raise AssertionError(f"it was granted, and not refused with {kind.kind}")

    @precondition(lambda self: self.waiting)
    @rule(elapsed=st.sampled_from((0, 1, 5, 20)), times=st.integers(1, 3))
    def the_loop_turns(self, elapsed: int, times: int) -> None:
        for _ in range(times):
            self.on_loop(lambda: self.host.turn(elapsed))
            self.hear()
        for future, taken in self.waiting:
            assert not future.done()
            first = next(each for _, each in self.waiting if each.name == taken.name)
            if first is taken and not self.is_over_cap(
                taken.name, taken.holder, taken.cost["money"]
            ):
                scopes = self.scopes(taken.name, taken.holder)
                assert self.model.waits(self.now, scopes, taken.cost), "it waits for what is there"

    def hear(self) -> None:
        """Take what waiters were told, in the order in which it was decided."""
        granted: list[tuple[int, Taken]] = []
        for future, taken in list(self.waiting):
            if not future.done():
                continue
            self.waiting.remove((future, taken))
            if future.exception() is None:
                granted.append((future.result().reservation, taken))
        for number, taken in sorted(granted, key=lambda each: each[0]):
            scopes = self.scopes(taken.name, taken.holder)
            assert not self.model.waits(self.now, scopes, taken.cost), "a waiter is over-granted"
            ahead = [
                each
                for _, each in self.waiting
                if (each.name, each.holder) == (taken.name, taken.holder) and each.at < taken.at
            ]
            assert not ahead, "one who came later, for the same, was served first"
            assert not self.is_over_cap(taken.name, taken.holder, taken.cost["money"])
            taken.at, taken.day = self.now, self.today()
            self.open[number] = taken
            self.take(taken)

    @rule(pick=PICKS, used=USED, by=st.integers(0, 3), own=st.sampled_from((True, True, False)))
    def somebody_settles(
        self, pick: int, used: dict[str, int] | None, by: int, *, own: bool
    ) -> None:
        if not self.open:
            return
        number = sorted(self.open)[pick % len(self.open)]
        taken = self.open[number]
        by = taken.holder if own else by
        connection = self.connections[by]
        settled = self.on_loop(lambda: self.host.settle(connection, number, **(used or {})))
        assert settled == (by == taken.holder)
        if settled:
            del self.open[number]
            self.close(taken, used)
            again = self.on_loop(lambda: self.host.settle(connection, number, requests=1000))
            assert not again

    @rule(
        pick=PICKS,
        retry_after=st.sampled_from((None, 5, 40, 10**9)),
        left=st.none() | st.integers(0, 4),
    )
    def the_far_side_speaks(self, pick: int, retry_after: int | None, left: int | None) -> None:
        if not self.open:
            return
        number = sorted(self.open)[pick % len(self.open)]
        taken = self.open.pop(number)
        remaining = None if left is None else LimitRemaining(requests=left)
        connection = self.connections[taken.holder]
        assert self.on_loop(
            lambda: self.host.settle(
                connection, number, retry_after_ms=retry_after, remaining=remaining
            )
        )
        self.close(taken, None)
        widest = self.model.scopes[self.scopes(taken.name, taken.holder)[0]]
        if retry_after is not None:
            widest.block(self.now, retry_after * MS)
        if left is not None:
            widest.rates["requests"].lower(self.now, left)

    @rule(holder=st.integers(0, 3))
    def a_connection_ends(self, holder: int) -> None:
        connection = self.connections[holder]
        self.on_loop(lambda: self.host.disconnect(connection))
        self.connections[holder] = self.host.connect(self.people[holder])
        for number, taken in list(self.open.items()):
            if taken.holder == holder:
                del self.open[number]
                self.close(taken, None)
        for future, taken in list(self.waiting):
            if taken.holder == holder:
                assert future.done()
                assert future.exception() is not None
                self.waiting.remove((future, taken))

    @rule(pick=PICKS)
    def a_request_is_cancelled(self, pick: int) -> None:
        if self.waiting:
            future, _ = self.waiting.pop(pick % len(self.waiting))
            self.on_loop(future.cancel)

    @rule()
    def what_is_idle_is_forgotten(self) -> None:
        self.on_loop(self.host.service._registry.sweep)

    @precondition(lambda self: self.open or self.waiting)
    @rule(final=st.booleans(), down=st.sampled_from((0, 5, 60)))
    def the_daemon_restarts(self, *, final: bool, down: int) -> None:
        for future, _ in self.waiting:
            self.on_loop(future.cancel)
        self.host.now += 1000 * MS  # a second: the keeper has written
        for connection in self.connections if final else ():
            self.on_loop(partial(self.host.disconnect, connection))
        self.on_loop(self.host.keep)
        self.on_loop(lambda: self.host.end(final=final))
        self.host.now += down * MS
        self.on_loop(self.host.start)
        if final:
            for taken in self.open.values():
                self.close(taken, None)
        self.model.restart(self.now, final=final)
        self.words = {}
        self.reset_people()

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def all_is_owed_that_the_definition_says(self) -> None:
        if not hasattr(self, "host"):
            return
        registry = self.host.service._registry
        for owned, named in registry.limits.items():
            for budget in named.limiter.budgets():
                whose = budget.scope.name or "host"
                model = self.model.scopes[f"{owned.name} {whose}"]
                assert budget.in_use == model.in_use
                owed = {str(n): max(r.tat_ns, self.now) for n, r in budget.rates().items()}
                assert owed == {n: max(r.tat, self.now) for n, r in model.rates.items()}

    @invariant()
    def what_is_spent_is_on_disk(self) -> None:
        if not hasattr(self, "host"):
            return
        today = self.today()
        found = {
            (scope_name, key): micros
            for (name, scope, scope_name, kind), (key, micros) in self.host.on_disk().items()
            if name == "paid" and kind == "day" and key == today
        }
        assert {k: v for k, v in found.items() if v} == {
            k: v for k, v in self.spent.items() if v and k[1] == today
        }

    @invariant()
    def everything_is_counted(self) -> None:
        if not hasattr(self, "host"):
            return
        assert self.host.service.requests.waiters == len(self.waiting)
        holders = self.host.service._registry.holders.values()
        assert sum(len(list(each.all_open())) for each in holders) == len(self.open)
        accounts = {id(each.account): each.account for each in holders}
        counted = sum(each.reservations + each.slot_reservations for each in accounts.values())
        assert counted == len(self.open)


MUTANT = "SUPEREZIO_MUTANT" in os.environ
LimitsMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("SUPEREZIO_MODEL_EXAMPLES", "60")),
    stateful_step_count=40,
    deadline=None,
    derandomize=MUTANT,
    phases=(Phase.generate,) if MUTANT else tuple(Phase),
    suppress_health_check=[HealthCheck.too_slow],
)
TestLimits = LimitsMachine.TestCase
