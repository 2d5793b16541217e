"""A guarded call that is cancelled at any of its awaits leaves nothing taken, by a real daemon."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import pytest

from cancelling import CancelledAt, Moment
from live_daemon import LiveDaemon
from superezio import AsyncClient

pytestmark = [pytest.mark.installed, pytest.mark.timeout(60)]

ROOM: Any = {"requests": 0, "concurrency": 1, "wait": "10s", "rates": {"concurrency": 1}}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDaemon]:
    live = LiveDaemon(tmp_path_factory.mktemp("daemon")).start()
    yield live
    live.close()


async def nothing_is_taken(watching: AsyncClient, name: str) -> None:
    """Wait until nothing of that name is out: what was given back may be on its way."""
    async with asyncio.timeout(5):
        while any(out := await taken(watching, name)):
            """Look again."""
    assert out == (0, 0, 0, 0, 0)


async def taken(watching: AsyncClient, name: str) -> tuple[int, ...]:
    """Return permits, reservations and fills of a name, and who waits for room and for a value."""
    breakers = (await watching.breaker_list()).breakers
    limits = [each for each in (await watching.limit_list()).limits if each.name == name]
    spaces = [each for each in (await watching.cache_stats()).namespaces if each.namespace == name]
    return (
        sum(each.permits for each in breakers if each.name == name),
        sum(each.reservations for each in limits),
        sum(each.fills for each in spaces),
        sum(each.waiters for each in limits),
        sum(each.waiting for each in spaces),
    )


async def cancelled_at_each(
    call: Callable[[int], Coroutine[Any, Any, None]],
    moment: Moment,
    watching: AsyncClient,
    name: str,
    *,
    beside: Callable[[int], AbstractAsyncContextManager[object]] = nullcontext,
) -> int:
    """Make the call anew for each of its waits, cancelled there; return how many there are.

    After each one nothing of that name may be taken. `beside` is what others do meanwhile.
    """
    for number in itertools.count(1):
        cancelled = CancelledAt(call(number), number, moment)
        async with beside(number):
            try:
                await cancelled
            except asyncio.CancelledError:
                assert cancelled.came_to_it
        await nothing_is_taken(watching, name)
        if not cancelled.came_to_it:
            return number - 1
    raise AssertionError


@asynccontextmanager
async def meanwhile(
    doing: Callable[[asyncio.Event, asyncio.Event], Coroutine[Any, Any, None]],
) -> AsyncIterator[None]:
    """Do something until the block is over, which begins when that says so."""
    begun, over = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(doing(begun, over))
    await begun.wait()
    try:
        yield
    finally:
        over.set()
        await task


@pytest.mark.parametrize("moment", ["waits", "goes on"])
async def test_a_call_of_all_three(daemon: LiveDaemon, moment: Moment) -> None:
    name = f"three {moment}".replace(" ", "-")
    path = str(daemon.socket_path)
    async with AsyncClient(path) as client, AsyncClient(path) as watching:

        async def call(number: int) -> None:
            key = f"key {number}"
            async with client.guard(name, cache_key=key, **ROOM) as guarded:
                await asyncio.sleep(0)
                guarded.value = number

        waits = await cancelled_at_each(call, moment, watching, name)
        assert waits >= 7, "three questions, the block, and three answers of how it ended"


@pytest.mark.parametrize("moment", ["waits", "goes on"])
async def test_a_decorated_call(daemon: LiveDaemon, moment: Moment) -> None:
    name = f"decorated {moment}".replace(" ", "-")
    path = str(daemon.socket_path)
    async with AsyncClient(path) as client, AsyncClient(path) as watching:

        @client.guard(name, cache_key=str, **ROOM)
        async def fetch(number: int) -> int:
            await asyncio.sleep(0)
            return number

        async def call(number: int) -> None:
            await fetch(number)

        waits = await cancelled_at_each(call, moment, watching, name)
        assert waits >= 7


@pytest.mark.parametrize("moment", ["waits", "goes on"])
async def test_a_call_that_waits_for_room(daemon: LiveDaemon, moment: Moment) -> None:
    name = f"room {moment}".replace(" ", "-")
    path = str(daemon.socket_path)
    async with (
        AsyncClient(path) as client,
        AsyncClient(path) as other,
        AsyncClient(path) as watching,
    ):

        async def call(_number: int) -> None:
            async with client.guard(name, **ROOM):
                await asyncio.sleep(0)

        async def hold(begun: asyncio.Event, over: asyncio.Event) -> None:
            """Keep the only slot until the call waits for it."""
            async with other.limit(name, **ROOM):
                begun.set()
                while not (await taken(watching, name))[3] and not over.is_set():
                    """Look again."""

        waits = await cancelled_at_each(
            call, moment, watching, name, beside=lambda _number: meanwhile(hold)
        )
        assert waits >= 5


@pytest.mark.parametrize("moment", ["waits", "goes on"])
async def test_a_call_that_is_to_fetch_after_another_gave_up(
    daemon: LiveDaemon, moment: Moment
) -> None:
    name = f"turn {moment}".replace(" ", "-")
    path = str(daemon.socket_path)
    async with (
        AsyncClient(path) as client,
        AsyncClient(path) as other,
        AsyncClient(path) as watching,
    ):

        async def call(number: int) -> None:
            async with client.guard(name, cache_key=str(number), **ROOM) as guarded:
                guarded.value = number

        async def give_up(number: int, begun: asyncio.Event, over: asyncio.Event) -> None:
            """Lead, until the call waits for its turn."""
            token = (await other.cache_get(name, str(number), fill=True)).token
            assert token is not None
            begun.set()
            while not (await taken(watching, name))[4] and not over.is_set():
                """Look again."""
            await other.cache_fail(name, str(number), token, error=None)

        waits = await cancelled_at_each(
            call,
            moment,
            watching,
            name,
            beside=lambda number: meanwhile(functools.partial(give_up, number)),
        )
        assert waits >= 6
