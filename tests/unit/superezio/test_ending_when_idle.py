"""A shared connection that is to end as soon as nobody uses it."""

from __future__ import annotations

import asyncio

from fake_daemon import FakeDaemon
from superezio import calls, wire
from superezio.aio_conversation import AsyncConversation


def converse(daemon: FakeDaemon) -> AsyncConversation:
    daemon.answers["limit.list"] = wire.LimitList(limits=[])
    return AsyncConversation(str(daemon.path), correlation_id=lambda: None)


async def ask(conversation: AsyncConversation) -> None:
    await conversation.call(calls.limit_list(), limit_s=5, session=None)


async def test_it_ends_at_once_where_nobody_uses_it_and_the_next_call_connects_anew(
    daemon: FakeDaemon,
) -> None:
    conversation = converse(daemon)
    await conversation.end_when_idle()
    await ask(conversation)
    await ask(conversation)
    assert daemon.connections == 1, "a connection made since is not the one that was to end"
    await conversation.end_when_idle()
    await ask(conversation)
    assert daemon.connections == 2
    await conversation.aclose()


async def test_it_ends_with_the_last_call_that_is_in_flight(daemon: FakeDaemon) -> None:
    conversation = converse(daemon)
    async with conversation.in_use():
        await asyncio.gather(*(ask(conversation) for _ in range(3)))
        await conversation.end_when_idle()
        await ask(conversation)
        assert daemon.connections == 1
    assert conversation.link is None
    await conversation.aclose()


async def test_a_lease_that_it_has_keeps_it_and_its_end_does_not(daemon: FakeDaemon) -> None:
    conversation = converse(daemon)
    await ask(conversation)
    conversation.keep("lease-1")
    await conversation.end_when_idle()
    await ask(conversation)
    assert daemon.connections == 1
    conversation.give_up("lease-1")
    await ask(conversation)
    await ask(conversation)
    assert daemon.connections == 2
    await conversation.aclose()
