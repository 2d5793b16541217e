"""The self-check: only silence, and only again and again, means stuck."""

from __future__ import annotations

import asyncio

from supereziod.health.self_check import SelfCheck


class Door:
    """What the daemon's own call meets."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.silent = False

    async def knock(self) -> None:
        if self.silent:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error


async def test_an_answer_is_no_fault() -> None:
    check = SelfCheck(Door().knock)
    await check.look(patience_s=5)
    assert (check.fault, check.stuck) == (None, False)


async def test_a_refusal_is_a_fault_but_never_stuck() -> None:
    door = Door()
    door.error = ConnectionRefusedError("the table is full")
    check = SelfCheck(door.knock)
    for _ in range(20):
        await check.look(patience_s=5)
    assert not check.stuck
    assert check.fault == "the daemon could not call itself: the table is full"


async def test_silence_three_times_in_a_row_is_stuck_until_there_is_an_answer() -> None:
    door = Door()
    door.silent = True
    check = SelfCheck(door.knock)
    for stuck in (False, False, True):
        await check.look(patience_s=0.001)
        assert check.stuck is stuck
    assert check.fault == "the daemon has not answered itself, 3 times in a row"
    door.silent = False
    await check.look(patience_s=5)
    assert check.fault is None
    assert not check.stuck


async def test_an_answer_between_silences_starts_the_count_again() -> None:
    door = Door()
    check = SelfCheck(door.knock, stuck_after=2)
    for silent in (True, False, True):
        door.silent = silent
        await check.look(patience_s=0.001 if silent else 5)
    assert not check.stuck


async def test_a_client_that_times_out_by_itself_met_silence() -> None:
    door = Door()
    door.error = TimeoutError()
    check = SelfCheck(door.knock, stuck_after=1)
    await check.look(patience_s=5)
    assert check.stuck


async def test_a_daemon_that_answers_itself_alone_says_why_nobody_else_can_connect() -> None:
    door, reach = Door(), ["nobody can connect: the socket was removed", None]
    check = SelfCheck(door.knock, out_of_reach=lambda: reach[0])
    await check.look(patience_s=5)
    assert (check.fault, check.stuck) == (reach[0], False), "a restart would not mend it"
    del reach[0]
    await check.look(patience_s=5)
    assert check.fault is None
