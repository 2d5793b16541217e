"""The bench of the three parts: nobody is timed who does not do the work, and all have turns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bench.resilience.contest import (
    Caller,
    Contestant,
    Place,
    Spread,
    WorkFailedError,
    in_turns,
    timed_in_turns,
)
from bench.resilience.crowd import Result, Round
from bench.resilience.redis_server import RedisServer, installed
from bench.resilience.rows import Compared, in_groups, in_process_row, skipped_row, socket_row


def plain(answers: Callable[[], bool], name: str = "plain") -> Contestant:
    return Contestant("a thing to do", name, "nothing", lambda: answers)


def awaited(answers: Callable[[], Awaitable[bool]]) -> Contestant:
    return Contestant("a thing to do", "awaited", "nothing", lambda: answers)


def test_each_has_one_turn_in_a_round_and_another_is_first_in_the_next() -> None:
    assert list(in_turns("abc", 4)) == [*"abc", *"bca", *"cab", *"abc"]


def test_all_are_timed_plain_calls_and_coroutines_alike() -> None:
    async def coroutine() -> bool:
        return True

    contestants = [plain(lambda: True), awaited(coroutine)]
    took = timed_in_turns(contestants, rounds=3, seconds=0.001)
    assert set(took) == set(contestants)
    for each in took.values():
        assert 0 < each.least <= each.median <= each.most


def test_who_does_not_do_the_work_is_not_timed() -> None:
    with pytest.raises(WorkFailedError, match="plain: no a thing to do"):
        timed_in_turns([plain(lambda: False)], rounds=1, seconds=0.001)


def test_who_stops_doing_the_work_in_a_round_has_no_figure() -> None:
    answers = iter([True] * 500)

    async def coroutine() -> bool:
        return next(answers, False)

    with pytest.raises(WorkFailedError, match="awaited: no a thing to do"):
        timed_in_turns([awaited(coroutine)], rounds=1, seconds=0.05)


def test_a_spread_is_the_median_and_the_ends() -> None:
    assert Spread.of([5, 1, 9, 3, 100]) == Spread(5, 1, 100)


def test_a_round_tells_how_much_how_long_and_what_it_cost_the_server() -> None:
    waits_ns = [*([10_000] * 990), *([5_000_000] * 10)]
    told = Round.of(waits_ns, seconds=0.5, server_s=0.02)
    assert (told.a_second, told.p50_us, told.server_us) == (2000, 10, 20)
    assert 10 < told.p99_us <= 5000


def test_a_row_says_what_is_shared_and_what_is_not_done() -> None:
    row = in_process_row(plain(lambda: True), Spread(1234.4, 1000, 2000))
    assert row.by == "plain"
    assert (row.took, row.spread) == ("1,234 ns", "1,000 - 2,000")
    assert (row.shared_in, row.does_not_do) == ("the process", "nothing")


def test_a_row_over_a_socket_is_of_one_client_and_of_eight() -> None:
    caller = Caller("a thing", "somebody", "nothing", _nowhere, "daemon")
    alone = Result.of([Round(20_000, 50, 90, 10), Round(10_000, 70, 80, 12)])
    at_once = Result.of([Round(30_000, 250, 900, 8)])
    row = socket_row(caller, alone, at_once)
    assert (row.took, row.spread, row.p99) == ("60.0 us", "50.0 - 70.0", "85 us")
    assert (row.p50_of_8, row.p99_of_8, row.a_second_of_8) == ("250 us", "900 us", "30,000")
    assert (row.server_cpu, row.shared_in) == ("8.0 us", "the host")


def test_where_redis_is_missing_its_row_says_what_installs_it() -> None:
    row = skipped_row(Caller("a thing", "somebody", "nothing", _nowhere, "redis"))
    assert row.by == "somebody"
    assert row.took == "skipped"
    assert "apt-get install redis-server" in row.does_not_do


def test_an_operation_is_named_where_its_rows_begin() -> None:
    rows = [Compared("one", "a"), Compared("one", "b"), Compared("two", "a")]
    assert [row.operation for row in in_groups(rows)] == ["one", "", "two"]


@pytest.mark.skipif(not installed(), reason="redis-server is not installed")
def test_redis_is_reached_over_its_unix_socket_alone_and_ends(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        assert server.socket_path.is_socket()
        log = (tmp_path / "redis" / "redis.log").read_text()
        assert "port=0" in log
        pid = server.pid
    assert not Path(f"/proc/{pid}").exists()


def _nowhere(_: Place) -> Callable[[], bool]:
    raise NotImplementedError
