"""One client's connection: lines in, lines out, bounded in every direction."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, cast

from superezio.errors import CancelledRequestError, SuperezioError
from superezio.framing import NEWLINE
from superezio.wire import Role
from supereziod.observability.correlation import in_scope, numbered_id
from supereziod.observability.plain_lane import Series
from supereziod.rpc.answering import Pending, Rate, Routes
from supereziod.rpc.decoding import UNREADABLE, RequestId
from supereziod.rpc.flights import Flights
from supereziod.rpc.hangup import HangupWatch, has_hung_up
from supereziod.rpc.intake import Intake, Workplace
from supereziod.rpc.limits import Account, Traffic
from supereziod.rpc.peers import Peer, PeerSocket, open_peer_pidfd, read_peer
from supereziod.rpc.recording import Run
from supereziod.rpc.replies import error_line
from supereziod.rpc.requests import RequestContext
from supereziod.rpc.sessions import SessionState
from supereziod.rpc.turns import Turn
from supereziod.rpc.unread import Sending, Unread

#: The time that it takes to read so little is not worth a look.
_SHORT_BYTES: Final = 4096


class Host(Workplace, Sending, Protocol):
    """The server, as far as a connection needs it."""

    traffic: Traffic

    def admit(self, connection: Connection) -> SuperezioError | None:
        """Take a new connection in (its role, account and session), or say why not."""

    def closed(self, connection: Connection) -> None:
        """Forget an admitted connection."""

    def writable(self, connection: Connection) -> None:
        """Give subscriptions their turn: the connection takes data again."""

    def dropped(self, connection: Connection, why: str) -> None:
        """Tell that a connection is closed by the daemon."""


class Connection(asyncio.Protocol):
    """The protocol of one connection. All of it happens on the event loop's thread."""

    __slots__ = (
        "_call",
        "_clock",
        "_decode",
        "_hangup",
        "_host",
        "_intake",
        "_mute",
        "_one_bytes",
        "_pidfd",
        "_short_bytes",
        "_sock",
        "_transport",
        "_unread",
        "_write",
        "_write_paused",
        "account",
        "admitted",
        "flights",
        "hot_request",
        "id",
        "limit_ways",
        "lost",
        "max_priority",
        "peer",
        "rank",
        "rate",
        "requests",
        "requests_elsewhere",
        "role",
        "routes",
        "run",
        "scope",
        "series",
        "session",
        "sessions",
        "stamp",
        "subscriptions",
        "turn",
        "unlimited",
    )

    account: Account
    rate: Rate
    peer: Peer
    session: SessionState
    stamp: bytes
    #: Of one that is admitted.
    _intake: Intake
    _unread: Unread
    _sock: PeerSocket
    _transport: asyncio.Transport
    _write: Callable[[bytes], None]

    def __init__(self, host: Host) -> None:
        self._host = host
        self.id = os.urandom(8).hex()
        self.role: Role = "observer"
        self.rank = 0
        self.routes: Routes = {}
        self.hot_request: RequestContext
        self.scope: RequestContext | None = None
        self.max_priority = 0
        self.unlimited = False
        self.admitted = False
        self.requests = 0
        self.requests_elsewhere = 0
        self.lost = False
        self.run: Run | None = None
        self.series = Series()
        self.sessions: set[str] = set()
        self.subscriptions: dict[str, Callable[[], None]] = {}
        self.limit_ways: dict[str, Any] = {}
        self.flights = Flights(host.traffic, self.close_if_done)
        #: What a read may have to be taken for one call alone, as the last one was: it is read with
        #: less work then, and again if it turns out to be something else. None while anything
        #: comes before it.
        self._one_bytes = 0
        self._short_bytes = min(host.limits.max_frame_bytes, _SHORT_BYTES)
        #: That of its user; its own before it is admitted.
        self.turn = Turn()
        self._pidfd: int | None = None
        self._write_paused = False
        self._hangup: HangupWatch | None = None
        #: Nothing is sent any more: the connection is closing or gone.
        self._mute = False
        # For the hot path, which would look them up for each read.
        self._call = host.dispatcher.calls.call
        self._decode = host.dispatcher.decoder.decode
        self._clock = host.clock

    # --- transport ------------------------------------------------------------------------------

    @in_scope(None)
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Identify the peer and ask the server to take it in."""
        self._transport = cast("asyncio.Transport", transport)
        self._write = self._transport.write
        self._sock = transport.get_extra_info("socket")
        self.peer = read_peer(self._sock)
        # Any byte that does not go out at once is known of, until the last has gone.
        self._transport.set_write_buffer_limits(high=0)
        self._unread = Unread(self, self._transport, self.peer.uid, self._host)
        refusal = self._host.admit(self)
        if refusal is None:
            self._intake = Intake(self, self._transport, self.peer.uid, self._host)
        else:
            self._transport.write(error_line(None, refusal, numbered_id(self.id, 0)))
            self.close()

    def data_received(self, data: bytes) -> None:
        """Work on all complete lines of one read, and send the answers with one write.

        Written out for a read of one whole line, which most are. The last request's scope stays
        current until the next one's, as setting it is not cheap. So whatever else is called, on any
        connection, or is called later, has to be given a scope or a context of its own.
        """
        if self.turn.is_over:
            self._hold(data)
            return
        # What is called is no attribute: that would be looked up as a method first.
        clock = self._clock
        now_ns = clock()
        if len(data) <= self._one_bytes and data[-1] == NEWLINE and (rate := self.rate).paid:
            decode = self._decode
            try:
                call = decode(data)
            except UNREADABLE:
                pass  # Several, it may be.
            else:
                rate.paid -= 1
                answer = self._call
                reply = answer(self, call, now_ns)
                if reply is not None:
                    write = self._write
                    write(reply)
                    if self._write_paused:
                        self._unread.note(reply)
                return
        was_one = self.admitted and self._intake.take(data, now_ns)
        self._one_bytes = self._short_bytes if was_one else 0

    def _hold(self, data: bytes) -> None:
        """Keep what was read for the next turn."""
        self._one_bytes = 0
        if self.admitted:
            self._intake.hold(data)

    @in_scope(None)
    def eof_received(self) -> bool:
        """Answer what was asked before the other side stopped sending, if it still listens."""
        if not self.admitted or has_hung_up(self._sock.fileno()):
            self.close()
            return True
        self._intake.end()
        self.close_if_done()
        if not self._mute:
            self._hangup = HangupWatch(self._sock.fileno(), self.close)
        return True

    @in_scope(None)
    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - either way it is gone
        """Cancel what is in flight; the server lets go of the rest."""
        self.lost = self._mute = True
        self._write = self.push
        self._unread.forget()
        if self.admitted:
            self._intake.forget()
        self._host.dispatcher.recording.closed(self)
        if self._hangup is not None:
            self._hangup.close()
        self.flights.cancel_all(CancelledRequestError("the connection was closed"))
        if self.admitted:
            self._host.closed(self)
            del self.hot_request
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def pause_writing(self) -> None:
        """Read nothing more from a client that does not read its answers."""
        self._write_paused = True
        self._write = self.push
        self._transport.pause_reading()
        self._unread.watch()

    @in_scope(None)
    def resume_writing(self) -> None:
        """Go on where `pause_writing` stopped."""
        self._write_paused = False
        self._unread.forget()
        if self._mute:
            self._unread.watch()
            return
        self._write = self._transport.write
        self._host.writable(self)
        self._intake.go_on()

    # --- what the dispatcher and the handlers use -------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether what is sent now goes out, and does not pile up."""
        return not (self._write_paused or self._mute)

    def push(self, line: bytes) -> None:
        """Send, unless the connection is gone. A client that has too much unread is closed."""
        if self._mute:
            return
        self._transport.write(line)
        if self._write_paused:
            self._unread.note(line)
            if self._transport.get_write_buffer_size() > self._host.limits.write_buffer_bytes:
                self.drop("it left too many answers unread")

    def pidfd(self) -> int | None:
        """Return a pidfd of the peer, which the connection closes at its end."""
        if self._pidfd is None and not self.lost:
            self._pidfd = open_peer_pidfd(self._sock)
        return self._pidfd

    def charge_since(self, begun_ns: int) -> None:
        """Take the time since then off the user's turn, as far as it was not taken yet."""
        self._intake.charge_since(begun_ns)

    def check_can_wait(self, request_id: RequestId) -> None:
        """Raise where no further request may be in flight, or not one of this id."""
        if not self.unlimited:
            account = None if self.role == "admin" else self.account
            self.flights.check(request_id, self._host.limits, account)

    def wait_for(self, pending: Pending, awaitable: Awaitable[Any]) -> None:
        """Keep a request in flight until `awaitable` is done, then have it answered."""
        self.flights.add(pending, awaitable, self.account)

    def cancel(self, request_id: float | str) -> bool:
        """Cancel a request in flight on this connection; False if there is none."""
        return self.flights.cancel(request_id, CancelledRequestError("cancelled with rpc.cancel"))

    # --- ends -----------------------------------------------------------------------------------

    def drop(self, why: str) -> None:
        """Close at once, unsent answers lost, and have it told."""
        if not self.lost:
            self.abort()
            self._host.dropped(self, why)

    def close(self) -> None:
        """Close when what is to be sent is sent, or is not read for long."""
        self._mute = True
        self._write = self.push
        self._transport.close()
        if not self.lost:
            self._unread.watch()

    def abort(self) -> None:
        """Close without sending what is left."""
        self._mute = True
        self._write = self.push
        self._unread.forget()
        self._transport.abort()

    def close_if_done(self) -> None:
        """Close, if nothing more comes, and nothing is left to be done or to be pushed."""
        if not (self._mute or self.flights or self.subscriptions) and self._intake.is_done:
            self.close()
