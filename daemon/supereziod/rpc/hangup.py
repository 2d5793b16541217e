"""Tells a peer that stopped sending from one that is gone.

Both read as the end of the stream. On a Unix socket the kernel reports a hang-up only for the
latter, and an epoll with no events of its own becomes readable at exactly that moment.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable


def has_hung_up(fd: int) -> bool:
    """Whether the other side is closed for good, not only for sending."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


class HangupWatch:
    """Calls `gone` once, when the other side of a half-closed socket is closed for good."""

    def __init__(self, fd: int, gone: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._gone = gone
        self._epoll = select.epoll()
        self._epoll.register(fd, 0)
        self._loop.add_reader(self._epoll.fileno(), self._report)

    def close(self) -> None:
        """Stop watching."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _report(self) -> None:
        self.close()
        self._gone()
