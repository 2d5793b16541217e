"""The events of the past, of which no user's own push out those of others, or of the host.

What belongs to nobody (the GPUs, health, what is shared) has half of the room for sure, and what
belongs to users the other half. One takes of the other's what that does not use. A user has a
quarter of all at most: beyond that, its own oldest event makes room for its newest. An event that
is told to all, and says whose doing it is (`by_uid` in its data), counts as that user's, too.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque

from superezio.wire import Event


class EventHistory:
    """Up to `capacity` events. Loop-owned."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._share = max(capacity // 4, 1)
        self._hosts: deque[Event] = deque()
        self._users: OrderedDict[int, Event] = OrderedDict()
        #: The numbers of each user's events.
        self._of_uid: dict[int, deque[int]] = {}

    def add(self, event: Event) -> None:
        """Take in a new event, and let go of an old one where there is no room."""
        uid = _whose(event)
        if uid is None:
            self._hosts.append(event)
        else:
            self._users[event.seq] = event
            own = self._of_uid.setdefault(uid, deque())
            own.append(event.seq)
            if len(own) > self._share:
                self._drop_oldest_of(uid)
                return
        if len(self._hosts) + len(self._users) > self._capacity:
            self._make_room()

    def recent(self, count: int) -> list[Event]:
        """Return up to `count` of the newest events, oldest first."""
        if count <= 0:
            return []
        all_of_them = heapq.merge(self._hosts, self._users.values(), key=_seq)
        return list(all_of_them)[-count:]

    def _make_room(self) -> None:
        if len(self._hosts) > self._capacity // 2:
            self._hosts.popleft()
            return
        uid = _whose(next(iter(self._users.values())))
        if uid is not None:
            self._drop_oldest_of(uid)

    def _drop_oldest_of(self, uid: int) -> None:
        own = self._of_uid[uid]
        del self._users[own.popleft()]
        if not own:
            del self._of_uid[uid]


def _whose(event: Event) -> int | None:
    """Return the user for whom an event counts, None for the host's."""
    if event.uid is not None:
        return event.uid
    by_uid: int | None = event.data.get("by_uid")
    return by_uid


def _seq(event: Event) -> int:
    return event.seq
