"""Events for a program that waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from superezio import calls, envelope, wire
from superezio.calls import Call
from superezio.connection import Backoff, Connection
from superezio.errors import ConnectionLostError, ShuttingDownError
from superezio.following import Place

T = TypeVar("T")


class Events:
    """Events as they come: an iterator that waits, made by `Client.events`. Close it after use."""

    def __init__(
        self,
        socket_path: str,
        types: Sequence[str],
        *,
        replay: int,
        reconnect_timeout_s: float | None,
        clock: Callable[[], int],
        sleep: Callable[[float], None],
    ) -> None:
        self._types = types
        self._place = Place(replay=replay)
        self._reconnect_timeout_s = reconnect_timeout_s
        self._clock = clock
        self._sleep = sleep
        self._connection = Connection(socket_path, clock=clock, sleep=sleep)
        self._ready: deque[wire.EventNotification] = deque()
        self._closed = False
        #: How many past events the first answer brought: so many can be had without waiting.
        self.replayed = 0
        #: Those of `types` that the daemon knows no event of; None of a daemon that does not say.
        self.unknown_types: list[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> wire.EventNotification:
        """Return the next event. Raises StopIteration once closed, or what `open` raises."""
        while not self._ready:
            if self._closed:
                raise StopIteration
            try:
                self._take(envelope.decode_line(self._connection.receive(None)))
            except ConnectionLostError:
                self.open(self._reconnect_timeout_s, patient=True)
        notification = self._ready.popleft()
        self._place.advance(notification)
        return notification

    def close(self) -> None:
        """End the subscription."""
        self._closed = True
        self._connection.close()

    def open(self, timeout_s: float | None, *, patient: bool) -> None:
        """Subscribe. Raises DaemonNotRunningError or ReplyTimeoutError after `timeout_s`."""
        deadline_ns = None if timeout_s is None else self._clock() + round(timeout_s * 1e9)
        backoff = Backoff(deadline_ns=deadline_ns, clock=self._clock)
        while True:
            try:
                self._subscribe(deadline_ns, patient=patient)
            except (ConnectionLostError, ShuttingDownError):
                pause_s = backoff.next_pause_s()
                if pause_s is None:
                    raise
                self._sleep(pause_s)
            else:
                return

    def _subscribe(self, deadline_ns: int | None, *, patient: bool) -> None:
        self._ready.clear()
        self._connection.close()
        self._connection.connect(deadline_ns, patient=patient)
        try:
            pong = self._ask(calls.system_ping(), deadline_ns)
            subscription = calls.events_subscribe(self._types, self._place.replay)
            subscribed = self._ask(subscription, deadline_ns)
        except BaseException:
            self._connection.close()
            raise
        missed = self._place.resume(subscribed, daemon_pid=pong.pid)
        self.replayed = len(missed)
        self.unknown_types = subscribed.unknown_types
        self._ready.extend(missed)

    def _ask(self, call: Call[T], deadline_ns: int | None) -> T:
        self._connection.send(
            envelope.encode(call.method, call.params, id_=1, meta=None), deadline_ns
        )
        while True:
            reply = envelope.decode_line(self._connection.receive(deadline_ns))
            if envelope.answers(reply, 1):
                return envelope.result_of(reply, call.result)
            self._take(reply)

    def _take(self, message: envelope.Reply) -> None:
        if message.method == "event":
            notification = envelope.decode_body(message.params, wire.EventNotification)
            self._ready.append(notification)
