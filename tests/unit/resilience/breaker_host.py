"""Breakers with users, connections and a clock that a test moves: time fires the real timer."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import Struct, field

from gpu_views import FakeClock
from superezio import wire
from superezio.errors import BreakerOpenError
from superezio.resilience.breaker_rules import BreakerRules
from superezio.resilience.call_window import CountWindow
from superezio.wire import Event
from supereziod.observability.correlation import RequestScope, in_scope, numbered_id
from supereziod.observability.events import EventLog
from supereziod.resilience.breaker_administration import Who
from supereziod.resilience.breaker_settings import BreakerLimits, BreakerSettings
from supereziod.resilience.breakers import Breakers
from supereziod.resilience.sharing import Audience

SECOND = 1_000_000_000
RULES = BreakerRules(
    window=CountWindow(calls=4),
    minimum_calls=2,
    failure_rate_threshold=0.5,
    slow_call_rate_threshold=0.75,
    slow_call_duration_ns=SECOND,
    open_duration_ns=10 * SECOND,
    max_open_duration_ns=60 * SECOND,
    healthy_interval_ns=100 * SECOND,
    half_open_calls=2,
    permit_ttl_ns=30 * SECOND,
    max_block_ns=120 * SECOND,
)


class User(Struct, frozen=True):
    uid: int
    groups: frozenset[int] = frozenset()

    @property
    def who(self) -> Who:
        return Who(self, is_admin=self.uid == 0)


class Line(Struct, frozen=True):
    """A connection."""

    id: str
    peer: User


class Session(Struct):
    """What requests count for."""

    permits: int = 0


class Asking(Struct, kw_only=True):
    """A request, which goes by the id of its `meta`, or else by its number."""

    origin: Line
    number: int = 1
    meta: wire.Meta | None = None
    session: Session = field(default_factory=Session)
    came_to: str | None = None

    @property
    def correlation_id(self) -> str:
        given = None if self.meta is None else self.meta.correlation_id
        return given or numbered_id(self.origin.id, self.number)


def a_request(user: User, over: str | None = None, cause: str | None = None) -> Asking:
    """Return a request over a connection: one of the user's, if none is given."""
    return Asking(
        origin=Line(over or f"of {user.uid}", user),
        meta=None if cause is None else wire.Meta(correlation_id=cause),
    )


ROOT = User(0)
ANNA = User(1000, frozenset({50}))
BEN = User(1001, frozenset({50}))
CARL = User(1002)
#: `openai` is shared by a group; any other name is private.
SETTINGS = BreakerSettings(
    default=RULES,
    shared={"openai": RULES},
    audiences={"openai": Audience(gids=frozenset({50}), group_names=("ai",))},
    limits=BreakerLimits(
        breakers_per_uid=4, permits_per_connection=8, permits_per_uid=12, idle_s=3600.0
    ),
)


class Quiet:
    """A logger for events that nobody reads."""

    def info(self, *_: Any, **__: Any) -> None:
        """Take a line."""

    warning = debug = info


class BreakerHost:
    """The service, as the daemon has it. To be closed."""

    def __init__(self, settings: BreakerSettings = SETTINGS, *, spread: float = 0.0) -> None:
        self.settings = settings
        self.clock = FakeClock(1000 * SECOND)
        self.log = EventLog(logger=Quiet())
        self.boot = "boot"
        self.spread = spread
        self.asked = 0
        # The loop is there and does not turn: the test says when a timer is due.
        self._loop = asyncio.new_event_loop()
        asyncio._set_running_loop(self._loop)
        self.breakers = self._new()

    def close(self) -> None:
        self.breakers.close()
        asyncio._set_running_loop(None)
        self._loop.close()

    # --- calls ----------------------------------------------------------------------------------

    def acquire(
        self,
        user: User,
        name: str = "openai",
        *,
        over: str | None = None,
        rules: wire.BreakerRules | None = None,
        cause: str | None = None,
    ) -> int:
        """Return the id of a permit. `over` is the connection: one of the user's, if not given."""
        self.asked += 1
        cause = cause or f"call-{self.asked}"
        with in_scope(RequestScope(correlation_id=cause)):
            return self.granted(user, name, over=over, rules=rules, cause=cause).permit

    def granted(
        self,
        user: User,
        name: str = "openai",
        *,
        over: str | None = None,
        rules: wire.BreakerRules | None = None,
        cause: str = "asking",
    ) -> wire.BreakerPermit:
        """Return the answer to a call that is let through."""
        params = wire.BreakerAcquireParams(name=name, rules=rules)
        answer = self.breakers.acquire(a_request(user, over, cause), params)
        return msgspec.json.decode(answer, type=wire.BreakerPermit)

    def refused(self, user: User, name: str = "openai", **members: Any) -> BreakerOpenError:
        """Return the error of a call that is turned away."""
        try:
            self.acquire(user, name, **members)
        except BreakerOpenError as error:
            return error
        raise AssertionError("it was let through")

    def settle(
        self,
        user: User,
        permit: int,
        outcome: wire.CallOutcome,
        name: str = "openai",
        *,
        over: str | None = None,
        retry_after_s: float | None = None,
        cause: str = "settling",
    ) -> str:
        with in_scope(RequestScope(correlation_id=cause)):
            answer = self.breakers.settle(
                a_request(user, over, cause),
                wire.BreakerSettleParams(
                    name=name,
                    permit=permit,
                    outcome=outcome,
                    retry_after_ms=None if retry_after_s is None else round(retry_after_s * 1000),
                ),
            )
        return msgspec.json.decode(answer, type=wire.BreakerSettlement).effect

    def call(
        self, user: User, outcome: wire.CallOutcome, name: str = "openai", *, times: int = 1
    ) -> None:
        for _ in range(times):
            self.settle(user, self.acquire(user, name), outcome, name)

    def trip(self, user: User, name: str = "openai") -> None:
        self.call(user, "failure", name, times=2)
        assert self.state(name, user) == "open"

    def view(self, name: str = "openai", user: User = ROOT, uid: int | None = None) -> wire.Breaker:
        return self.breakers.get(name, user.who, uid=uid)

    def state(self, name: str = "openai", user: User = ROOT) -> str:
        return self.view(name, user).state

    # --- time, and restarts ---------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass, and the timer fire when it is set to. It never goes back."""
        if seconds < 0:
            raise ValueError(f"time would go back by {-seconds} s")
        target_ns = self.clock.now_ns + round(seconds * SECOND)
        while (due_ns := self.next_due_ns()) is not None and due_ns <= target_ns:
            self.clock.now_ns = max(due_ns, self.clock.now_ns)
            self.breakers._book._deadlines.run_due()
        self.clock.now_ns = target_ns

    def next_due_ns(self) -> int | None:
        heap = self.breakers._book._deadlines._heap
        return heap[0][0] if heap else None

    def restart(self, *, reboot: bool = False, away_s: float = 0.0, kill: bool = False) -> None:
        """Begin another life, with what the last one wrote: at its end, or before it was killed."""
        body = self.breakers.snapshot(final=not kill)
        self.breakers.close()
        self.clock.advance(away_s)
        if reboot:
            self.boot, self.clock.now_ns = f"{self.boot}+", 5 * SECOND
        self.breakers = self._new()
        self.breakers.load(body)

    def _new(self) -> Breakers:
        return Breakers(
            self.settings,
            events=self.log,
            boot_id=self.boot,
            clock=self.clock,
            spread=lambda: self.spread,
        )

    # --- events ---------------------------------------------------------------------------------

    def events(self) -> list[Event]:
        return self.log.recent(4096)

    def event(self) -> Event:
        return self.log.recent(1)[0]

    def told(self) -> list[str]:
        return [event.type for event in self.events()]


def with_rules(settings: BreakerSettings = SETTINGS, **changes: Any) -> BreakerSettings:
    """Return settings whose rules, of all breakers, differ."""
    rules = msgspec.structs.replace(settings.default, **changes)
    return msgspec.structs.replace(
        settings, default=rules, shared=dict.fromkeys(settings.shared, rules)
    )
