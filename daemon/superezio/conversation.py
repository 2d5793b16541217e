"""One connection on which calls are made, one after the other, over restarts of the daemon."""

from __future__ import annotations

import itertools
import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from msgspec import Struct

from superezio import calls, envelope, wire
from superezio.calls import Call
from superezio.connection import Backoff, Connection, deadline_ms
from superezio.errors import (
    ConnectionLostError,
    ReplyTimeoutError,
    ShuttingDownError,
    SuperezioError,
)
from superezio.keeping import FINAL, OF_THE_CALL, KeptLeases
from superezio.quantities import format_duration

T = TypeVar("T")

#: How long a client tries to tell the daemon of something that no caller waits for.
COURTESY_S = 2.0


class Asked(Struct, frozen=True, kw_only=True, gc=False):
    """Who asks, and what for: the session, the id and the trace that a call is a part of."""

    session: str | None
    correlation_id: str | None = None
    traceparent: str | None = None


class Conversation:
    """Makes calls for a `Client`. Threads take turns; a forked child gets a connection of its own.

    `correlation_id` is called for each request.
    """

    def __init__(
        self,
        socket_path: str,
        *,
        correlation_id: Callable[[], str | None],
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._socket_path = socket_path
        self._correlation_id = correlation_id
        self._clock = clock
        self._sleep = sleep
        self._owner_pid = os.getpid()
        self._ids = itertools.count(1)
        self._leases = KeptLeases()
        self.connection = Connection(socket_path, clock=clock, sleep=sleep)
        #: Held by whoever makes several calls that belong together.
        self.lock = threading.RLock()

    def call(
        self,
        call: Call[T],
        *,
        limit_s: float,
        session: str | None,
        patience_s: float = math.inf,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> T:
        """Make a call, again where that is safe and the connection ended, and return its result.

        That nobody listens is waited out for `patience_s` at most. `correlation_id` takes the place
        of the one that is called for; `traceparent` is the trace that the call is a part of.

        Raises what the daemon answers, or DaemonNotRunningError, ReplyTimeoutError,
        ConnectionLostError.
        """
        begun_ns = self._clock()
        deadline_ns = begun_ns + round(limit_s * 1e9)
        patient_until_ns = begun_ns + round(min(patience_s, limit_s) * 1e9)
        backoff = Backoff(deadline_ns=deadline_ns, clock=self._clock)
        asked = Asked(session=session, correlation_id=correlation_id, traceparent=traceparent)
        again = False
        with self.lock:
            while True:
                try:
                    self._connect(deadline_ns, session, patient_until_ns)
                    after_s = (self._clock() - begun_ns) / 1e9
                    to_send = call.made_again(after_s) if again else call
                    return self._exchange(to_send, deadline_ns, asked)
                except (ConnectionLostError, ShuttingDownError):
                    self.connection.close()
                    pause_s = backoff.next_pause_s() if call.idempotent else None
                    if pause_s is None:
                        raise
                    self._sleep(pause_s)
                    again = True
                except ReplyTimeoutError as error:
                    raise no_answer(call.method, limit_s, self._socket_path) from error

    def keep(self, lease: str) -> None:
        """Resume that connection lease after each reconnect."""
        self._leases.keep(lease)

    def keeps(self, lease: str) -> bool:
        """Tell whether that lease is resumed after a reconnect."""
        return lease in self._leases

    def give_up(self, lease: str) -> None:
        """Resume it no more."""
        self._leases.give_up(lease)

    def close(self) -> None:
        """End the connection, and the leases that hang on it. The next call connects anew.

        A call that another thread makes comes to its end before that.
        """
        with self.lock:
            self._leases.clear()
            self.connection.close()

    def _connect(self, deadline_ns: int, session: str | None, patient_until_ns: int) -> None:
        if self._owner_pid != os.getpid():
            # After a fork the parent goes on using the connection that both have.
            self._owner_pid = os.getpid()
            self._leases.clear()
            self.connection.close()
        if not self.connection.connected or self.connection.broken():
            self.connection.close()
            patient = self._clock() < patient_until_ns
            self.connection.connect(patient_until_ns if patient else deadline_ns, patient=patient)
            self._leases.connected_anew()
        for lease in self._leases.due:
            self._resume(lease, deadline_ns, session)

    def _resume(self, lease: str, deadline_ns: int, session: str | None) -> None:
        try:
            self._exchange(calls.lease_resume(lease), deadline_ns, Asked(session=session))
        except FINAL:
            self._leases.give_up(lease)
        except OF_THE_CALL:
            raise
        except SuperezioError:
            return  # it stays due
        else:
            self._leases.resumed(lease)

    def _exchange(self, call: Call[T], deadline_ns: int, asked: Asked) -> T:
        id_ = next(self._ids)
        meta = wire.Meta(
            correlation_id=asked.correlation_id or self._correlation_id(),
            session_id=asked.session,
            traceparent=asked.traceparent,
            deadline_ms=deadline_ms(deadline_ns - self._clock()),
            idempotency_key=call.idempotency_key,
        )
        self.connection.send(
            envelope.encode(call.method, call.params, id_=id_, meta=meta), deadline_ns
        )
        try:
            while True:
                reply = envelope.decode_line(self.connection.receive(deadline_ns))
                if envelope.answers(reply, id_):
                    return envelope.result_of(reply, call.result)
        except ReplyTimeoutError:
            self._cancel(id_)
            raise
        except SuperezioError:
            raise
        except BaseException:
            # Interrupted in mid-line: what comes next here could not be understood.
            self.connection.close()
            raise

    def _cancel(self, id_: int) -> None:
        line = envelope.encode("rpc.cancel", wire.CancelParams(id=id_), id_=None, meta=None)
        with suppress(SuperezioError):
            self.connection.send(line, self._clock() + round(COURTESY_S * 1e9))


def no_answer(method: str, limit_s: float, socket_path: str) -> ReplyTimeoutError:
    """Return the exception for a call that ran out of time."""
    return ReplyTimeoutError(
        f"the daemon on {socket_path} did not answer {method} within {format_duration(limit_s)}; "
        "`systemctl status superezio` and `journalctl -u superezio` say what it is doing"
    )
