"""What changed, pushed to those who subscribe."""

from __future__ import annotations

from typing import Any

from superezio.wire.message import Params, Result, Severity


class Event(Result):
    """Something that changed. `seq` grows by one per event of this daemon."""

    seq: int
    time: str
    type: str
    severity: Severity
    message: str
    gpu: str | None
    lease: str | None
    uid: int | None
    correlation_id: str | None
    data: dict[str, Any]


class SubscribeParams(Params):
    """`types` are names or prefixes (`lease.`); empty means all. `replay`: past events first."""

    types: list[str] = []
    replay: int = 0


class SubscribeResult(Result):
    """`replay` has the past events asked for; pushed ones follow with `seq` >= `next_seq`.

    `unknown_types` are those of `types` that no event of this daemon has; an older daemon leaves
    the member out.
    """

    subscription: str
    next_seq: int
    replay: list[Event]
    unknown_types: list[str] | None = None


class EventNotification(Result):
    """`params` of the notification `event`. `lost`: events dropped just before this one."""

    subscription: str
    event: Event
    lost: int


class UnsubscribeParams(Params):
    subscription: str
