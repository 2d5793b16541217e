"""metrics.get over the socket."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from metrics_lint import problems, value
from superezio.wire import MetricsText, NoParams
from supereziod.observability.metrics import Family, Metric, counter, single
from supereziod.rpc.commands.metrics import FRESH_NS, MetricsCommands
from supereziod.rpc.limits import Limits
from unit.rpc.built import daemon


async def test_anyone_is_told_what_goes_over_the_socket(tmp_path: Path) -> None:
    async with daemon(tmp_path, role="observer") as built:
        client = await built.client()
        for _ in range(3):
            await client.call("system.ping")
        result = (await client.call("metrics.get"))["result"]
    text = result["text"]
    assert result["content_type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert problems(text) == []
    assert value(text, "superezio_connections") == built.server.traffic.connections
    assert value(text, "superezio_requests_total") == 4
    assert value(text, "superezio_in_flight_requests") == 1, "the first one waits for the library"


class Asked:
    """A source that counts how often it is asked."""

    families: Final[tuple[Family, ...]] = (counter("superezio_asked_total", "How often it was"),)

    def __init__(self) -> None:
        self.times = 0

    def collect(self) -> list[Metric]:
        self.times += 1
        return [single(self.families[0], self.times)]


async def test_those_who_ask_while_the_library_is_imported_share_an_answer() -> None:
    source = Asked()
    now_ns = 0
    commands = MetricsCommands([source], clock=lambda: now_ns)
    request: Any = None
    waiting = [commands.get(request, NoParams()) for _ in range(5000)]
    assert all(isinstance(each, asyncio.Future) for each in waiting)
    first, *others = [each for each in waiting if isinstance(each, asyncio.Future)]
    first.cancel()
    texts = {answer.text for answer in await asyncio.gather(*others)}
    assert (len(texts), source.times) == (1, 1)
    now_ns += FRESH_NS
    at_once = commands.get(request, NoParams())
    assert isinstance(at_once, MetricsText)
    assert value(at_once.text, "superezio_asked_total") == 2


async def test_a_page_is_written_four_times_a_second_at_most_however_often_it_is_asked_for() -> (
    None
):
    source, now_ns = Asked(), 0
    commands = MetricsCommands([source], clock=lambda: now_ns)
    request: Any = None
    first = commands.get(request, NoParams())
    assert isinstance(first, asyncio.Future)
    await first
    for _ in range(1000):
        now_ns += FRESH_NS // 100
        answer = commands.get(request, NoParams())
        assert isinstance(answer, MetricsText)
        assert value(answer.text, "superezio_asked_total") == source.times
    assert source.times == 1 + 10


class NotYet:
    """A source that cannot say what it has the first time."""

    def __init__(self) -> None:
        self.declared = 0

    @property
    def families(self) -> tuple[Family, ...]:
        self.declared += 1
        if self.declared == 1:
            raise LookupError("not yet")
        return Asked.families

    def collect(self) -> list[Metric]:
        return [single(Asked.families[0], 1)]


async def test_after_a_failure_the_next_one_tries_again() -> None:
    commands = MetricsCommands([NotYet()])
    request: Any = None
    first, second = (commands.get(request, NoParams()) for _ in range(2))
    assert isinstance(first, asyncio.Future)
    assert isinstance(second, asyncio.Future)
    failed = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(each) for each in failed] == [LookupError, LookupError]
    again = commands.get(request, NoParams())
    assert isinstance(again, asyncio.Future)
    assert "superezio_asked_total 1.0" in (await again).text


async def test_the_first_ones_are_answered_over_the_socket(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        clients = [await built.client() for _ in range(8)]
        answers = await asyncio.gather(*(client.call("metrics.get") for client in clients))
    assert [value(each["result"]["text"], "superezio_requests_total") for each in answers] == [
        8
    ] * 8


async def test_connections_that_were_refused_are_counted(tmp_path: Path) -> None:
    limits = Limits(connections=2, connections_reserved=0)
    async with daemon(tmp_path, role="user", limits=limits) as built:
        built.server._own_pid = -1
        first, _, third = [await built.client() for _ in range(3)]
        assert (await third.receive())["error"]["data"]["limit"] == "connections"
        text = await _text(first)
    assert value(text, "superezio_refused_connections_total") == 1
    assert value(text, "superezio_connections") == 2


async def _text(client: Any) -> str:
    text: str = (await client.call("metrics.get"))["result"]["text"]
    return text
