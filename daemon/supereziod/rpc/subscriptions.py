"""Events pushed to those who asked: in order, numbered, and never at the price of memory.

A subscriber that does not keep up has its oldest unsent events dropped; the next one it gets says
how many. An event is encoded once, however many it goes to.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import msgspec

from superezio.errors import BusyError
from superezio.wire import Event, Role, Severity, SubscribeResult
from supereziod.rpc.peers import Peer
from supereziod.rpc.replies import notification_line
from supereziod.rpc.vocabulary import EVENT_TYPES

_NEWEST: Final = 1 << 30
#: What a subscription may name: types, and the beginnings that stand for several.
_KNOWN: Final = frozenset(EVENT_TYPES) | {f"{type_.partition('.')[0]}." for type_ in EVENT_TYPES}
_encode = msgspec.json.Encoder().encode


class Events(Protocol):
    """The event log, as far as subscriptions use it."""

    next_seq: int

    def recent(self, count: int) -> list[Event]:
        """Return up to `count` of the newest events, oldest first."""

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call `listener` for each event until the returned function is called."""

    def emit(self, type_: str, message: str, *, severity: Severity, uid: int | None) -> object:
        """Record an event."""


class Subscriber(Protocol):
    """The connection that events are pushed to."""

    peer: Peer
    role: Role
    subscriptions: dict[str, Callable[[], None]]

    @property
    def writable(self) -> bool:
        """Whether what is pushed now goes out, and does not pile up."""

    def push(self, line: bytes) -> None:
        """Send a line."""


class Subscriptions:
    """All subscriptions. Personal events reach the uid they belong to, and admins."""

    def __init__(
        self,
        events: Events,
        *,
        max_per_connection: int = 16,
        max_per_uid: int = 256,
        max_queued: int = 1024,
    ) -> None:
        self._events = events
        self._max_per_connection = max_per_connection
        self._max_per_uid = max_per_uid
        self._max_queued = max_queued
        self._all: dict[str, _Subscription] = {}
        self._of_uid: Counter[int] = Counter()
        self._stop_listening = events.listen(self._offer)

    def __len__(self) -> int:
        return len(self._all)

    def close(self) -> None:
        """Hear no more events."""
        self._stop_listening()

    def subscribe(
        self, subscriber: Subscriber, *, types: list[str], replay: int
    ) -> SubscribeResult:
        """Push events of `types` from now on. Returns those of the past that were asked for."""
        self._check_room(subscriber)
        subscription = _Subscription(subscriber, tuple(types), self._max_queued)
        past = [each for each in self._events.recent(_NEWEST) if subscription.wants(each)]
        self._all[subscription.id] = subscription
        self._of_uid[subscriber.peer.uid] += 1
        subscriber.subscriptions[subscription.id] = partial(self._end, subscription.id)
        return SubscribeResult(
            subscription=subscription.id,
            next_seq=self._events.next_seq,
            replay=past[-replay:] if replay > 0 else [],
            unknown_types=[each for each in types if each not in _KNOWN],
        )

    def unsubscribe(self, subscriber: Subscriber, subscription_id: str) -> bool:
        """End a subscription of this connection; False if it has none of that id."""
        end = subscriber.subscriptions.pop(subscription_id, None)
        if end is None:
            return False
        end()
        return True

    def end_all(self, subscriber: Subscriber) -> None:
        """End all subscriptions of a connection that is gone."""
        for end in subscriber.subscriptions.values():
            end()
        subscriber.subscriptions.clear()

    def flush(self, subscriber: Subscriber) -> None:
        """Send what waited for a connection that takes data again."""
        for subscription_id in list(subscriber.subscriptions):
            subscription = self._all.get(subscription_id)
            while subscription and subscriber.writable and subscription.queue:
                self._send(subscription, subscription.queue.popleft())

    def _check_room(self, subscriber: Subscriber) -> None:
        if len(subscriber.subscriptions) >= self._max_per_connection:
            raise BusyError(
                f"a connection may have up to {self._max_per_connection} subscriptions",
                data={"limit": "subscriptions_per_connection"},
            )
        uid = subscriber.peer.uid
        if subscriber.role != "admin" and self._of_uid[uid] >= self._max_per_uid:
            raise BusyError(
                f"uid {uid} has {self._of_uid[uid]} subscriptions, which is all it may",
                data={"limit": "subscriptions_per_uid"},
            )

    def _end(self, subscription_id: str) -> None:
        uid = self._all.pop(subscription_id).subscriber.peer.uid
        self._of_uid[uid] -= 1
        if not self._of_uid[uid]:
            del self._of_uid[uid]

    def _offer(self, event: Event) -> None:
        encoded: bytes | None = None
        for subscription in list(self._all.values()):
            if not subscription.wants(event):
                continue
            if encoded is None:
                encoded = _encode(event)
            if subscription.queue or not subscription.subscriber.writable:
                subscription.hold(encoded)
            else:
                self._send(subscription, encoded)

    def _send(self, subscription: _Subscription, event: bytes) -> None:
        params = b'{"subscription":"%b","event":%b,"lost":%d}' % (
            subscription.id.encode(),
            event,
            subscription.lost,
        )
        subscription.lost = 0
        subscription.subscriber.push(notification_line("event", params))


class _Subscription:
    """One subscription; `queue` holds the encoded events that its connection could not take yet."""

    __slots__ = ("_max_queued", "_prefixes", "_types", "id", "lost", "queue", "subscriber")

    def __init__(self, subscriber: Subscriber, types: tuple[str, ...], max_queued: int) -> None:
        self.id = os.urandom(8).hex()
        self.subscriber = subscriber
        self._types = frozenset(types)
        self._prefixes = tuple(each for each in types if each.endswith("."))
        self._max_queued = max_queued
        self.queue: deque[bytes] = deque()
        self.lost = 0

    def wants(self, event: Event) -> bool:
        named = event.type in self._types or event.type.startswith(self._prefixes)
        if self._types and not named:
            return False
        if event.uid is None or self.subscriber.role == "admin":
            return True
        return event.uid == self.subscriber.peer.uid

    def hold(self, event: bytes) -> None:
        if len(self.queue) >= self._max_queued:
            self.queue.popleft()
            self.lost += 1
        self.queue.append(event)
