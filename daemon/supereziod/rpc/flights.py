"""The requests of one connection that wait: deadlines, cancellation, and how many there may be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import UNSET

from superezio.errors import (
    BusyError,
    DeadlineExceededError,
    InvalidRequestError,
    SuperezioError,
)
from supereziod.rpc.answering import Pending
from supereziod.rpc.decoding import RequestId
from supereziod.rpc.limits import Account, Limits, Traffic


class Flights:
    """What is in flight, by request id. `landed` is called after each answer."""

    __slots__ = ("_by_key", "_landed", "_traffic")

    def __init__(self, traffic: Traffic, landed: Callable[[], None]) -> None:
        self._traffic = traffic
        self._landed = landed
        self._by_key: dict[object, _Flight] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def futures(self) -> list[asyncio.Future[Any]]:
        """What is waited for."""
        return [flight.future for flight in self._by_key.values()]

    def check(self, request_id: RequestId, limits: Limits, account: Account | None) -> None:
        """Raise where no further request may be in flight, or not one of this id.

        `account` is None for one whom the limit of a uid does not bind.
        """
        if request_id is not UNSET and request_id is not None and request_id in self._by_key:
            raise InvalidRequestError(f"a request with id {request_id!r} is in flight already")
        if len(self._by_key) >= limits.in_flight_per_connection:
            raise BusyError(
                f"{len(self._by_key)} requests of this connection are in flight",
                retry_after_ms=100,
                data={"limit": "in_flight_per_connection"},
            )
        if account is not None and account.in_flight >= limits.in_flight_per_uid:
            raise BusyError(
                f"{account.in_flight} requests of uid {account.uid} are in flight",
                retry_after_ms=100,
                data={"limit": "in_flight_per_uid"},
            )
        if self._traffic.in_flight >= limits.in_flight:
            raise BusyError(
                f"{self._traffic.in_flight} requests are in flight",
                retry_after_ms=100,
                data={"limit": "in_flight"},
            )

    def add(self, pending: Pending, awaitable: Awaitable[Any], account: Account) -> None:
        """Keep a request until `awaitable` is done or its deadline passes, then answer it."""
        flight = _Flight(pending, asyncio.ensure_future(awaitable))
        request_id = pending.request_id
        # Those that cannot be named cannot be cancelled by name.
        key: object = flight if request_id is UNSET or request_id is None else request_id
        self._by_key[key] = flight
        self._traffic.in_flight += 1
        account.in_flight += 1
        meta = pending.request.meta
        if meta is not None and meta.deadline_ms is not None:
            flight.set_deadline(meta.deadline_ms)

        def land(_future: asyncio.Future[Any]) -> None:
            del self._by_key[key]
            self._traffic.in_flight -= 1
            account.in_flight -= 1
            flight.finish()
            self._landed()

        flight.future.add_done_callback(land)

    def cancel(self, request_id: float | str, why: SuperezioError) -> bool:
        """Cancel one by its id; False if there is none."""
        flight = self._by_key.get(request_id)
        return flight is not None and flight.cancel(why)

    def cancel_all(self, why: SuperezioError) -> None:
        """Cancel what is in flight."""
        for flight in list(self._by_key.values()):
            flight.cancel(why)


class _Flight:
    """A pending request, what it waits for, and its deadline."""

    __slots__ = ("_deadline", "future", "pending")

    def __init__(self, pending: Pending, future: asyncio.Future[Any]) -> None:
        self.pending = pending
        self.future = future
        self._deadline: asyncio.TimerHandle | None = None

    def set_deadline(self, deadline_ms: int) -> None:
        error = DeadlineExceededError(f"no answer within the deadline of {deadline_ms} ms")
        self._deadline = asyncio.get_running_loop().call_later(
            deadline_ms / 1000, self.cancel, error
        )

    def cancel(self, why: SuperezioError) -> bool:
        """Cancel for a reason. A result that is there already is not thrown away."""
        if self.pending.why_cancelled is None and not self.future.done():
            self.pending.why_cancelled = why
        return self.future.cancel()

    def finish(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self.future.cancelled():
            self.pending.finish(None, None, cancelled=True)
        elif (error := self.future.exception()) is not None:
            self.pending.finish(None, error, cancelled=False)
        else:
            self.pending.finish(self.future.result(), None, cancelled=False)
