"""An acquire that may wait: for its turn in the queue, and for a daemon that is away.

What it waits for is told on standard error meanwhile.
"""

from __future__ import annotations

import os
import time

from superezio.connection import Backoff
from superezio.errors import (
    ConnectionLostError,
    DaemonNotRunningError,
    ReplyTimeoutError,
    ShuttingDownError,
)
from superezioctl.interrupts import Raised
from superezioctl.queue_place import PLACES, QueuePlace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from superezioctl.caller import Caller
    from superezioctl.context import Context

#: How often the line that shows the place in the queue is looked after.
_LOOK_NS = 500_000_000


def acquire(context: Context, caller: Caller, params: dict[str, Any], *, command: str) -> bytes:
    """Return the lease that was asked for, as JSON; `command` says on standard error what it is at.

    A daemon that goes away is waited for, and asked again. One that does not run is waited for
    where `params` say that the acquire may wait, and as long. Raises the exceptions of
    superezio.errors.
    """
    caller.correlation_id = caller.correlation_id or os.urandom(16).hex()
    place = QueuePlace(
        context, command=command, correlation_id=caller.correlation_id, asked_ms=params["wait_ms"]
    )
    # Ctrl-C gives the place up: the line that shows it is to go, and the daemon to be told.
    with Raised(), place:
        return _Acquire(caller, params, place).run()


class _Acquire:
    """One acquire. All tries have one key: the same key again is the same lease again."""

    def __init__(self, caller: Caller, params: dict[str, Any], place: QueuePlace) -> None:
        self._caller = caller
        self._params = params
        self._place = place
        self._key = os.urandom(16).hex()
        self._deadline_ns = caller.deadline_ns(params["wait_ms"] / 1000)
        self._wait_ends_ns = time.monotonic_ns() + params["wait_ms"] * 1_000_000
        self._asked = False
        self._late = False

    def run(self) -> bytes:
        backoff = Backoff(deadline_ns=self._deadline_ns, clock=time.monotonic_ns)
        while True:
            try:
                return self._ask()
            except (ConnectionLostError, ShuttingDownError) as error:
                self._late = True
                self._caller.reconnect_patiently()
                self._place.forget()
                pause_s = backoff.next_pause_s()
                if pause_s is None:
                    raise
                self._place.say(f"waiting for the daemon: {error.message}", news="no daemon")
                time.sleep(pause_s)

    def _ask(self) -> bytes:
        params = self._params
        if params["wait_ms"]:
            self._reach()
            # Not waited for: whether it is granted concerns the line with the place alone.
            types = {"types": PLACES}
            self._caller.send("events.subscribe", types, deadline_ns=self._deadline_ns)
            if self._late:
                left_ms = (self._wait_ends_ns - time.monotonic_ns()) // 1_000_000
                params = {**params, "wait_ms": max(1, left_ms)}
        id_ = self._caller.send(
            "lease.acquire", params, deadline_ns=self._deadline_ns, idempotency_key=self._key
        )
        self._asked = True
        return self._await(id_)

    def _reach(self) -> None:
        """Connect. A daemon that was asked may have granted the lease, and is given more time."""
        until_ns = self._deadline_ns if self._asked else self._wait_ends_ns
        backoff = Backoff(deadline_ns=until_ns, clock=time.monotonic_ns)
        connection = self._caller.connection
        while not connection.connected:
            try:
                connection.connect(self._deadline_ns, patient=False)
            except DaemonNotRunningError:
                pause_s = backoff.next_pause_s()
                if pause_s is None:
                    raise
                self._late = True
                self._place.say(f"no daemon on {connection.path}, waiting for one", news="none")
                time.sleep(pause_s)

    def _await(self, id_: int) -> bytes:
        while True:
            until_ns = min(self._deadline_ns, time.monotonic_ns() + _LOOK_NS)
            try:
                return self._caller.receive(id_, deadline_ns=until_ns, on_other=self._place.take)
            except ReplyTimeoutError:
                if until_ns == self._deadline_ns:
                    raise
            self._place.look()
