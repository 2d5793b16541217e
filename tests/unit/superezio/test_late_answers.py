"""What the daemon answers to one who has left meanwhile is not lost: it may have to be undone."""

from __future__ import annotations

import asyncio

import pytest

from fake_daemon import FakeDaemon
from superezio import envelope
from superezio.link import Link

ANSWER = envelope.Reply(id=1)
NOTIFICATION = envelope.encode("system.ping", None, id_=None, meta=None)


@pytest.fixture
async def link(daemon: FakeDaemon) -> Link:
    return await Link.open(str(daemon.path))


async def test_an_answer_after_the_cancellation_goes_to_who_asks_for_it(link: Link) -> None:
    heard: list[envelope.Reply] = []
    answer = link.request(1, NOTIFICATION)
    answer.cancel()
    link.forget(1)
    link.expect_late(1, heard.append)
    link._dispatch(ANSWER)
    link._dispatch(ANSWER)
    assert heard == [ANSWER]
    await link.aclose()


async def test_an_answer_before_the_cancelled_one_has_run_again_does_so_too(link: Link) -> None:
    """Its future is cancelled, and nobody has said yet that a late answer is expected."""
    heard: list[envelope.Reply] = []
    answer = link.request(1, NOTIFICATION)
    answer.cancel()
    link._dispatch(ANSWER)
    link.expect_late(1, heard.append)
    assert heard == [ANSWER]
    link.forget(1)
    await link.aclose()


async def test_nothing_is_kept_for_those_who_expect_nothing(link: Link) -> None:
    heard: list[envelope.Reply] = []
    answer = link.request(1, NOTIFICATION)
    answer.cancel()
    link._dispatch(ANSWER)
    link.forget(1)
    link.expect_late(1, heard.append)
    assert heard == []
    await link.aclose()
    link.expect_late(1, heard.append)
    await asyncio.sleep(0)
    assert heard == []
