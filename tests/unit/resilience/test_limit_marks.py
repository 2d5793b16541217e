"""What a request for room leaves on its timeline, and what it counts for its session."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from limit_host import SECOND, Asked, Connection, LimitHost, Session, User
from superezio.errors import RateLimitedError
from superezio.resilience.rate_limiter import Limit, Rate
from superezio.wire import LimitAcquireParams, LimitReservation, LimitSettleParams
from supereziod.observability.correlation import RequestScope, in_scope
from supereziod.observability.timeline import Timeline
from supereziod.resilience.limit_rules import LimitRules, ScopeRules
from supereziod.resilience.sharing import Audience

ANN = User(1001)
RULES = LimitRules(
    scopes={
        "host": ScopeRules(limit=Limit(requests=Rate(limit=1, period_ns=SECOND))),
        "user": ScopeRules(limit=Limit(tokens=Rate(limit=10, period_ns=10 * SECOND))),
    }
)
SOLE = LimitRules(scopes={"host": RULES.scopes["host"]})


@pytest.fixture
async def host(tmp_path: Path) -> LimitHost:
    audience = Audience(everyone=True)
    return LimitHost(
        tmp_path,
        shared={"openai": RULES, "sole": SOLE},
        audiences={"openai": audience, "sole": audience},
    )


class Request:
    """One request for room, with the timeline that it has where it waits."""

    def __init__(self, host: LimitHost, connection: Connection, name: str, tokens: int = 0) -> None:
        self.asked = Asked(connection, Session("s"), host.now)
        self.params = LimitAcquireParams(name=name, tokens=tokens, wait_ms=9000)
        self.timeline = Timeline(itertools.count().__next__)
        self._limits = host.service.requests

    def at_once(self) -> bytes | None:
        return self._limits.acquire(self.asked, self.params)

    def waits(self) -> asyncio.Future[LimitReservation]:
        """Wait as the dispatcher has it: within the scope of the request."""
        assert self.at_once() is None
        with in_scope(RequestScope(correlation_id="c", timeline=self.timeline)):
            return self._limits.wait(self.asked, self.params)

    @property
    def marks(self) -> list[str]:
        return [text for text, _ in self.timeline.marks]


@pytest.mark.parametrize("name", ["openai", "sole"])
async def test_room_that_is_there_is_granted_and_counted(host: LimitHost, name: str) -> None:
    request = Request(host, host.connect(ANN), name)
    assert request.at_once() is not None
    assert (request.asked.came_to, request.asked.session.reservations) == ("granted", 1)


@pytest.mark.parametrize("name", ["openai", "sole"])
async def test_what_is_refused_was_not_granted(host: LimitHost, name: str) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, name)
    request = Request(host, ann, name)
    request.params.wait_ms = 0
    with pytest.raises(RateLimitedError):
        request.at_once()
    assert (request.asked.came_to, request.asked.session.reservations) == (None, 0)


async def test_who_waits_is_told_what_is_short_for_whom_and_that_it_came(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "openai", tokens=10)
    request = Request(host, ann, "openai", tokens=3)
    granted = request.waits()
    assert request.marks == ["queued", "limited tokens of user 1001"]
    host.turn(3000)
    await granted
    await asyncio.sleep(0)
    assert request.marks == ["queued", "limited tokens of user 1001", "granted"]
    assert request.timeline.uses == {"reservations": 1}


async def test_who_waits_for_nothing_but_others_is_told_so(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "openai", tokens=10)
    host.turn(1000)
    before = Request(host, ann, "openai", tokens=8).waits()
    request = Request(host, ann, "openai")
    waits = request.waits()
    assert request.marks == ["queued", "limited by those before it"]
    host.turn(7000)
    await before
    host.turn(1000)
    await waits
    await asyncio.sleep(0)
    assert request.marks[-1] == "granted"


async def test_who_gives_up_waiting_was_granted_nothing(host: LimitHost) -> None:
    ann = host.connect(ANN)
    host.acquire(ann, "sole")
    request = Request(host, ann, "sole")
    waits = request.waits()
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    assert request.marks == ["queued", "limited requests of host"]
    assert request.timeline.uses is None


async def test_a_reservation_of_this_connection_is_settled_and_no_other(host: LimitHost) -> None:
    ann, other = host.connect(ANN), host.connect(ANN)
    number = host.acquire(ann, "sole")
    came_to = []
    for connection in (other, ann, ann):
        asked = Asked(connection, Session("s"), host.now)
        host.service.requests.settle(asked, LimitSettleParams(reservation=number))
        came_to.append(asked.came_to)
    assert came_to == [None, "settled", None]
