"""Whose requests are worked on when: no user keeps the others waiting, over any connections."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpu_views import FakeClock
from supereziod.rpc.limits import Limits
from supereziod.rpc.turns import LAPS_BETWEEN_ROUNDS, MAX_MORE_LAPS, TURN_NS, Turn, Turns
from unit.rpc.serving import Client, Nothing, Served, method, serving

MS = 1_000_000


class Work:
    """So many pieces of work of one length, and a line in the log for each."""

    def __init__(self, turns: Turns, turn: Turn, log: list[str], name: str) -> None:
        self.used_ns = 0
        self.name = name
        self._turns = turns
        self._turn = turn
        self._log = log
        self._left = 0
        self._piece_ns = 0

    def ask(self, count: int, piece_ns: int) -> None:
        self._left, self._piece_ns = count, piece_ns
        self._turns.wait(self._turn, self)

    def take_turn(self) -> None:
        self._log.append(self.name)
        self.used_ns += self._piece_ns
        self._turns.charge(self._turn, self._piece_ns)
        self._left -= 1
        if self._left:
            self._turns.wait(self._turn, self)


async def laps(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def one_round() -> None:
    await laps(LAPS_BETWEEN_ROUNDS + 1)


@pytest.fixture
def turns() -> Turns:
    return Turns()


async def test_a_user_who_always_asks_gets_one_bounded_turn_in_a_round(turns: Turns) -> None:
    log: list[str] = []
    mine, yours = Turn(), Turn()
    for number in range(100):
        Work(turns, mine, log, f"mine {number}").ask(1, 4 * MS)
    Work(turns, yours, log, "yours").ask(1, 4 * MS)
    await one_round()
    assert len(log) == 4
    assert log[3] == "yours"
    await one_round()
    assert len(log) == 7


async def test_what_a_user_asks_for_after_its_turn_waits_for_the_next(turns: Turns) -> None:
    mine, yours = Turn(), Turn()
    turns.charge(mine, TURN_NS - 1)
    assert not mine.is_over
    turns.charge(mine, 1)
    assert mine.is_over
    assert not yours.is_over
    await laps(1)
    assert not mine.is_over
    assert mine.left_ns == TURN_NS


async def test_little_that_was_used_costs_no_round_and_is_not_forgotten(turns: Turns) -> None:
    mine = Turn()
    for _ in range(4):
        turns.charge(mine, MS)
        await laps(2)
    assert mine.left_ns == TURN_NS - 4 * MS


async def test_the_loop_has_laps_to_itself_between_rounds_in_which_somebody_waits(
    turns: Turns,
) -> None:
    log: list[str] = []
    Work(turns, Turn(), log, "mine").ask(3, TURN_NS)
    for done in (1, 2, 3):
        await laps(LAPS_BETWEEN_ROUNDS)
        assert len(log) == done - 1
        await laps(1)
        assert len(log) == done


async def test_while_newcomers_are_accepted_the_next_round_is_put_off_but_not_for_ever(
    turns: Turns,
) -> None:
    log: list[str] = []
    Work(turns, Turn(), log, "mine").ask(2, TURN_NS)
    for _ in range(100):
        turns.newcomer()
        await laps(1)
    assert log == []
    await one_round()
    assert log == ["mine"]
    for _ in range(LAPS_BETWEEN_ROUNDS + MAX_MORE_LAPS + 1):
        turns.newcomer()
        await laps(1)
    assert log == ["mine", "mine"]


async def test_a_connection_that_asks_now_and_then_goes_before_those_that_always_do(
    turns: Turns,
) -> None:
    log: list[str] = []
    mine = Turn()
    for number in range(50):
        Work(turns, mine, log, f"always {number}").ask(1000, 20 * MS)
    for _ in range(60):
        await one_round()
    Work(turns, mine, log, "now and then").ask(1, MS)
    await one_round()
    assert log[-2] == "now and then"


async def test_of_many_that_have_just_come_the_last_does_not_wait_for_all(turns: Turns) -> None:
    log: list[str] = []
    mine = Turn()
    for number in range(100):
        Work(turns, mine, log, f"new {number}").ask(1, 20 * MS)
    await one_round()
    Work(turns, mine, log, "newest").ask(1, 20 * MS)
    await one_round()
    assert log[-1] == "newest"


async def test_none_that_waits_is_passed_over_for_ever(turns: Turns) -> None:
    log: list[str] = []
    mine = Turn()
    for number in range(20):
        Work(turns, mine, log, f"heavy {number}").ask(1000, 50 * MS)
    Work(turns, mine, log, "light").ask(100_000, MS)
    for _ in range(400):
        await one_round()
    assert len({name for name in log if name.startswith("heavy")}) == 20
    # By the time they used, and not by how often they had a turn.
    assert log.count("light") > 10 * log.count("heavy 0") > 0


async def test_nobody_has_a_turn_after_the_end(turns: Turns) -> None:
    log: list[str] = []
    Work(turns, Turn(), log, "mine").ask(1, MS)
    turns.close()
    await one_round()
    assert log == []


# --- on connections --------------------------------------------------------------------------


class Costly:
    """Methods whose requests take the time they are said to take."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.done = 0

    def work(self, _request: object, _params: object) -> int:
        self.clock.advance(TURN_NS / 1e9)
        self.done += 1
        return self.done


@pytest.fixture
def costly() -> Costly:
    return Costly()


@pytest.fixture
async def served(tmp_path: Path, costly: Costly) -> AsyncIterator[Served]:
    methods = [
        method("work", Nothing, costly.work),
        method("quick", Nothing, lambda _request, _params: costly.done),
        method("hot", Nothing, lambda _request, _params: b"1", hot=True),
    ]
    async with serving(tmp_path, methods, clock=costly.clock) as running:
        yield running


WORK = b'{"jsonrpc":"2.0","id":%d,"method":"work"}\n'
#: Turns that may pass while a client of this process gets its answer.
SLACK = 20


async def flood(served: Served, connections: int, requests: int) -> list[Client]:
    clients = [await served.client() for _ in range(connections)]
    for client in clients:
        await client.send_raw(b"".join(WORK % number for number in range(1, requests + 1)))
    await clients[0].receive()
    return clients


@pytest.mark.parametrize("name", ["quick", "hot"])
async def test_a_newcomer_is_answered_while_one_user_fills_all_its_turns(
    served: Served, costly: Costly, name: str
) -> None:
    await flood(served, connections=30, requests=30)
    before = costly.done
    newcomer = await served.client()
    await newcomer.call(name)
    assert costly.done - before <= SLACK
    assert costly.done < 900


async def test_all_that_waits_is_answered_in_order(served: Served) -> None:
    clients = await flood(served, connections=5, requests=20)
    for client in clients:
        first = 2 if client is clients[0] else 1
        answers = [await client.receive() for _ in range(first, 21)]
        assert [answer["id"] for answer in answers] == list(range(first, 21))


async def test_a_batch_is_cut_where_the_turn_ends_and_answered_as_one(
    served: Served, costly: Costly
) -> None:
    batch = await served.client()
    members = [{"jsonrpc": "2.0", "id": number, "method": "work"} for number in range(500)]
    await batch.send(members)
    newcomer = await served.client()
    answer = await newcomer.call("quick")
    assert answer["result"] < 500
    assert [each["id"] for each in await batch.receive()] == list(range(500))
    assert costly.done == 500


async def test_a_batch_that_was_begun_is_answered_before_the_next_is_begun(
    served: Served, costly: Costly
) -> None:
    """Each that is open keeps up to megabytes of answers."""
    clients = [await served.client() for _ in range(10)]
    for client in clients:
        await client.send([{"jsonrpc": "2.0", "id": each, "method": "work"} for each in range(20)])
    answers = [await client.receive() for client in clients]
    spans = [each[-1]["result"] - each[0]["result"] for each in answers]
    # One of them was begun, and cut, before any had waited for its turn.
    assert sorted(spans)[:9] == [19] * 9
    assert costly.done == 200


async def test_what_came_while_the_turn_was_over_is_answered_after_the_end_of_input(
    served: Served,
) -> None:
    await flood(served, connections=3, requests=5)
    last = await served.client()
    await last.send_raw(WORK % 1 + WORK % 2 + (WORK % 3).rstrip())
    last.writer.write_eof()
    assert [(await last.receive())["id"] for _ in range(3)] == [1, 2, 3]
    assert await last.closed()


async def test_a_connection_that_ends_while_it_waits_leaves_the_others_their_turns(
    served: Served,
) -> None:
    clients = await flood(served, connections=10, requests=10)
    for client in clients[1:]:
        await client.aclose()
    await served.closed(9)
    answers = [await clients[0].receive() for _ in range(9)]
    assert [answer["id"] for answer in answers] == list(range(2, 11))


async def test_refusals_take_their_user_s_time_too(tmp_path: Path) -> None:
    """What the rate limit refuses costs more than an answer, and nothing else limits it."""
    clock = FakeClock()

    def reading() -> int:
        clock.now_ns += MS
        return clock.now_ns

    limits = Limits(requests_per_second=1, requests_burst=1)
    hot = method("hot", Nothing, lambda _request, _params: b"1", hot=True)
    async with serving(tmp_path, [hot], clock=reading, limits=limits) as served:
        newcomer, flooding = await served.client(), await served.client()
        await newcomer.call("hot")
        await flooding.send_raw(b'{"jsonrpc":"2.0","id":1,"method":"hot"}\n' * 2000)
        refusal = await newcomer.call("hot")
        assert refusal["error"]["data"]["limit"] == "requests_per_second"
        assert served.server.traffic.requests < 200
        for _ in range(2000):
            await flooding.receive()


async def test_the_daemon_s_own_connections_are_outside_of_all_turns(
    tmp_path: Path, costly: Costly
) -> None:
    methods = [
        method("work", Nothing, costly.work),
        method("quick", Nothing, lambda _request, _params: costly.done),
    ]
    async with serving(tmp_path, methods, clock=costly.clock, own_pid=os.getpid()) as served:
        batch, other = await served.client(), await served.client()
        await other.call("quick")
        await batch.send([{"jsonrpc": "2.0", "id": each, "method": "work"} for each in range(50)])
        assert (await other.call("quick"))["result"] in {0, 50}
        assert len(await batch.receive()) == 50
