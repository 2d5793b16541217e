"""Where a follower of events stands, so that a restart of the daemon neither repeats nor hides."""

from __future__ import annotations

from superezio.wire import EventNotification, SubscribeResult

#: How many past events a follower asks for when it comes back.
CATCH_UP = 1000


class Place:
    """The last event handed out, and of which daemon: numbers start again with each one."""

    def __init__(self, *, replay: int) -> None:
        self._first_replay = replay
        self._daemon_pid: int | None = None
        self._last_seq = 0

    @property
    def replay(self) -> int:
        """How many past events to ask for in the next subscription."""
        return self._first_replay if self._daemon_pid is None else CATCH_UP

    def resume(self, subscribed: SubscribeResult, *, daemon_pid: int) -> list[EventNotification]:
        """Return the past events of a new subscription that were not seen yet."""
        if daemon_pid != self._daemon_pid:
            self._daemon_pid = daemon_pid
            self._last_seq = 0
        missed = [event for event in subscribed.replay if event.seq > self._last_seq]
        if not missed:
            self._last_seq = max(self._last_seq, subscribed.next_seq - 1)
        return [
            EventNotification(subscription=subscribed.subscription, event=event, lost=0)
            for event in missed
        ]

    def advance(self, notification: EventNotification) -> None:
        """Note that `notification` was handed out."""
        self._last_seq = notification.event.seq
