"""One client's connection: lines in, lines out, bounded in every direction."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Any, Final, Protocol, cast

from superezio.errors import (
    CancelledRequestError,
    FrameTooLargeError,
    SuperezioError,
)
from superezio.framing import NEWLINE, LineFramer
from superezio.wire import Role
from supereziod.observability.correlation import in_scope, numbered_id
from supereziod.observability.plain_lane import Series
from supereziod.rpc.answering import Pending, Rate, Routes
from supereziod.rpc.batches import OpenBatch
from supereziod.rpc.decoding import UNREADABLE, Batch, Call, Refusal, RequestId
from supereziod.rpc.dispatcher import CommandDispatcher
from supereziod.rpc.flights import Flights
from supereziod.rpc.hangup import HangupWatch, has_hung_up
from supereziod.rpc.limits import Account, Limits, Traffic
from supereziod.rpc.peers import Peer, PeerSocket, open_peer_pidfd, read_peer
from supereziod.rpc.recording import Run
from supereziod.rpc.replies import error_line
from supereziod.rpc.requests import RequestContext
from supereziod.rpc.sessions import SessionState
from supereziod.rpc.turns import Turn, Turns
from supereziod.rpc.unfinished import SHORT_BYTES, Undone
from supereziod.rpc.unread import Unread

#: The time that it takes to read so little is not worth a look.
_SHORT_BYTES: Final = 4096

#: What a connection has to work on.
_Work = Call | Refusal | Batch | OpenBatch


class Host(Protocol):
    """The server, as far as a connection needs it."""

    dispatcher: CommandDispatcher
    limits: Limits
    traffic: Traffic
    clock: Callable[[], int]
    turns: Turns
    unread: Unread
    unfinished: Unread

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
        "_answer",
        "_backlog",
        "_call",
        "_call_alike",
        "_charged_ns",
        "_clock",
        "_decode",
        "_decode_lines",
        "_eof",
        "_fast_bytes",
        "_framer",
        "_hangup",
        "_held",
        "_host",
        "_kept_bytes",
        "_largest_bytes",
        "_mute",
        "_one_bytes",
        "_owed_ns",
        "_pidfd",
        "_sock",
        "_stall",
        "_transport",
        "_undone",
        "_undone_bytes",
        "_waits",
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
        "used_ns",
    )

    account: Account
    rate: Rate
    peer: Peer
    session: SessionState
    stamp: bytes
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
        self._framer = LineFramer(max_frame_bytes=host.limits.max_frame_bytes)
        #: What a read may have to be worked on without the framer; none before it is admitted.
        self._fast_bytes = 0
        self.flights = Flights(host.traffic, self._close_if_done)
        #: What a read may have to be taken for one call alone, as the last one was: it is read with
        #: less work then, and again if it turns out to be something else. None while anything
        #: comes before it.
        self._one_bytes = 0
        #: That of its user; its own before it is admitted.
        self.turn = Turn()
        self.used_ns = 0
        self._charged_ns = self._owed_ns = 0
        self._backlog: list[_Work] = []
        #: What was read while its user's turn was over. It is not looked at before the next.
        self._held = b""
        #: It is given a turn in the next round, or a later one.
        self._waits = False
        self._pidfd: int | None = None
        self._write_paused = False
        #: What was sent since something was left, in all and at once.
        self._kept_bytes = self._largest_bytes = 0
        #: What was sent and is not done, where that is counted, and the whole lines of it.
        self._undone: Undone | None = None
        self._undone_bytes = 0
        self._stall: asyncio.TimerHandle | None = None
        self._hangup: HangupWatch | None = None
        self._eof = False
        #: Nothing is sent any more: the connection is closing or gone.
        self._mute = False
        # For the hot path, which would look them up for each read.
        self._answer = host.dispatcher.answer
        self._call = host.dispatcher.calls.call
        self._call_alike = host.dispatcher.calls.call_alike
        self._decode = host.dispatcher.decoder.decode
        self._decode_lines = host.dispatcher.decoder.decode_lines
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
        refusal = self._host.admit(self)
        if refusal is None:
            self._fast_bytes = self._host.limits.max_frame_bytes
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
                        self._keep_waiting(reply)
                return
        self._one_bytes = 0
        if self._work_plainly(data, now_ns) or not self.admitted:
            return
        found = self._read_lines(data)
        if self._backlog:
            self._backlog += found
        else:
            self._work(found, now_ns)
        if self._backlog:
            self._leave_undone(data)

    def _work_plainly(self, data: bytes, now_ns: int) -> bool:
        """Work on whole lines that are calls and nothing else; False where they are not."""
        if len(data) > self._fast_bytes or data[-1] != NEWLINE or not self._framer.is_clean:
            return False
        try:
            calls = self._decode_lines(data)
        except UNREADABLE:
            return False  # Read again line by line, to find which of them it is.
        if not calls or self._backlog:
            return False
        self._work(calls, now_ns, plain=True)
        if self._backlog:
            self._leave_undone(data)
        elif len(calls) == 1:
            self._one_bytes = min(self._fast_bytes, _SHORT_BYTES)
        return True

    @in_scope(None)
    def eof_received(self) -> bool:
        """Answer what was asked before the other side stopped sending, if it still listens."""
        self._eof = True
        if not self.admitted or has_hung_up(self._sock.fileno()):
            self.close()
            return True
        if not self._held:
            self._backlog += self._last_line()
        if self._backlog and not self._waits:
            self._work_off()
        self._close_if_done()
        if not self._mute:
            self._hangup = HangupWatch(self._sock.fileno(), self.close)
        return True

    @in_scope(None)
    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - either way it is gone
        """Cancel what is in flight; the server lets go of the rest."""
        self.lost = self._mute = True
        self._write = self.push
        self._host.unread.forget(self, self.peer.uid)
        self._forget_undone()
        self._framer.forget()
        self._backlog.clear()
        self._held = b""
        self._host.dispatcher.recording.closed(self)
        if self._stall is not None:
            self._stall.cancel()
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
        self._watch_stall(self._transport.get_write_buffer_size())

    @in_scope(None)
    def resume_writing(self) -> None:
        """Go on where `pause_writing` stopped."""
        self._write_paused = False
        self._kept_bytes = self._largest_bytes = 0
        self._host.unread.forget(self, self.peer.uid)
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if self._mute:
            self._watch_end()
            return
        self._write = self._transport.write
        self._host.writable(self)
        if not (self._backlog or self._held) or not self.turn.is_over:
            self._work_off()
        else:
            self._wait()

    # --- requests -------------------------------------------------------------------------------

    def _read_lines(self, data: bytes) -> list[_Work]:
        decode = self._host.dispatcher.decoder.line
        found: list[_Work] = []
        lines = self._framer.feed(data)
        if self._undone is not None or self._framer.carried_bytes > SHORT_BYTES:
            self._count_undone()
        for line in lines:
            if line is None:
                found.append(Refusal(id=None, error=self._too_large()))
            elif line and not line.isspace():
                found.append(decode(line))
        return found

    @property
    def undone_bytes(self) -> int:
        """What was read since the last time that nothing waited, and a line that has no end yet."""
        return self._undone_bytes + self._framer.carried_bytes

    def _count_undone(self) -> None:
        """Count what is not done, as long as that is more than a little."""
        if self.undone_bytes <= SHORT_BYTES:
            self._forget_undone()
        elif not (self.unlimited or self._mute):
            if self._undone is None:
                self._undone = Undone(self, self.drop)
            self._host.unfinished.note(self._undone, self.peer.uid, self.undone_bytes)

    def _leave_undone(self, data: bytes) -> None:
        self._undone_bytes += len(data)
        self._count_undone()

    def _forget_undone(self) -> None:
        if self._undone is not None:
            self._host.unfinished.forget(self._undone, self.peer.uid)
            self._undone = None

    def _last_line(self) -> list[_Work]:
        """Return what stands behind the last newline, at the end of all input."""
        last = self._framer.finish()
        return [self._host.dispatcher.decoder.line(last)] if last.strip() else []

    def _too_large(self) -> FrameTooLargeError:
        limit = self._host.limits.max_frame_bytes
        return FrameTooLargeError(f"a line may have up to {limit} bytes", data={"limit": limit})

    def _work(self, calls: Sequence[_Work], begun_ns: int, *, plain: bool = False) -> None:
        """Answer `calls`; what is too much for one turn, or for the reader, is left for later.

        `plain` if there are nothing but calls: where the rate limit has room for them all, it is
        asked once. `begun_ns` is when the work on them began, reading them included.
        """
        if not calls:
            self.charge_since(begun_ns)
            return
        limits = self._host.limits
        part = calls[: limits.requests_per_turn]
        paid_later = plain and len(part) > 1 and self.rate.available(begun_ns) >= len(part)
        answer: Callable[..., bytes | None] = self._call if paid_later else self._answer_any
        high_water = limits.write_high_water_bytes
        turn, used_ns = self.turn, self.used_ns
        replies: list[bytes] = []
        done = 0
        if paid_later:
            plain_calls = cast("Sequence[Call]", part)
            done = self._call_alike(self, plain_calls, begun_ns, replies, high_water)
        if done < len(part):
            size = sum(map(len, replies))
            self.run = Run(self.stamp)
            while done < len(part) and size <= high_water and not (done and turn.is_over):
                reply = answer(self, part[done], begun_ns)
                done += 1
                if reply is not None:
                    replies.append(reply)
                    size += len(reply)
            self._host.dispatcher.recording.end_run(self, self.requests + 1)
            self.run = None
        if paid_later:
            self.rate.acquire(begun_ns, done)
        # Before what is left of a batch that the time was too short for.
        self._backlog += calls[done:]
        if replies:
            self.push(b"".join(replies))
        self.charge_since(begun_ns)
        self._finish_batches_first(used_ns)
        if self._backlog and not self._write_paused:
            self._wait()

    def _answer_any(self, _line: Connection, what: _Work, begun_ns: int) -> bytes | None:
        """Answer whatever it is, as far as the time goes."""
        if isinstance(what, Batch):
            what = OpenBatch(what, self.push)
        if not isinstance(what, OpenBatch):
            return self._answer(self, what, begun_ns)
        if not self._host.dispatcher.batch(self, what, begun_ns, self.turn):
            self._backlog.append(what)
        return None

    def _finish_batches_first(self, used_ns: int) -> None:
        """Keep the place in the turn while a batch is open, and settle for it when it is done.

        Batches would be begun on all connections else, and each keeps megabytes of answers.
        """
        if self._backlog and isinstance(self._backlog[0], OpenBatch):
            self._owed_ns += self.used_ns - used_ns
            self.used_ns = used_ns
        else:
            self.used_ns += self._owed_ns
            self._owed_ns = 0

    def _hold(self, data: bytes) -> None:
        """Keep what was read for the next turn."""
        self._one_bytes = 0
        if not self._mute:
            self._held += data
            self._wait()
            self._leave_undone(data)

    def _wait(self) -> None:
        """Read nothing more before there was a turn for what there is."""
        self._transport.pause_reading()
        if not self._waits:
            self._waits = True
            self._host.turns.wait(self.turn, self)

    def take_turn(self) -> None:
        """Work on some of what waits, one request at least; wait again with what is left."""
        self._waits = False
        self._work_off()

    def _work_off(self) -> None:
        if self._write_paused or self._mute:
            return
        begun_ns = self._clock()
        # This may run in another context than reads do.
        self.scope = None
        if self._backlog:
            calls, self._backlog = self._backlog, []
            self._work(calls, begun_ns)
        elif self._held:
            data, self._held = self._held, b""
            found = self._read_lines(data)
            if self._eof:
                found += self._last_line()
            self._work(found, begun_ns)
        self.scope = None
        if self._backlog or self._held or self._write_paused:
            if not (self._waits or self._write_paused):
                self._wait()
            return
        if self._undone_bytes:
            self._undone_bytes = 0
            self._count_undone()
        if self._eof:
            self._close_if_done()
        else:
            self._transport.resume_reading()

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
            self._keep_waiting(line)
            if self._transport.get_write_buffer_size() > self._host.limits.write_buffer_bytes:
                self.drop("it left too many answers unread")

    @property
    def unread_bytes(self) -> int:
        """What is kept for the client until it reads, besides what the system has taken for it.

        What was sent in part is kept whole.
        """
        unread = self._transport.get_write_buffer_size()
        return min(self._kept_bytes, unread + self._largest_bytes)

    def pidfd(self) -> int | None:
        """Return a pidfd of the peer, which the connection closes at its end."""
        if self._pidfd is None and not self.lost:
            self._pidfd = open_peer_pidfd(self._sock)
        return self._pidfd

    def charge_since(self, begun_ns: int) -> None:
        """Take the time since then off the user's turn, as far as it was not taken yet."""
        now_ns = self._clock()
        spent_ns = now_ns - max(begun_ns, self._charged_ns)
        self._charged_ns = now_ns
        self.used_ns += spent_ns
        if not self.unlimited:
            self._host.turns.charge(self.turn, spent_ns)

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
        self._watch_end()

    def abort(self) -> None:
        """Close without sending what is left."""
        self._mute = True
        self._write = self.push
        if self._stall is not None:
            self._stall.cancel()
        self._transport.abort()

    def _is_idle(self) -> bool:
        return not (self.flights or self._backlog or self._held or self.subscriptions)

    def _close_if_done(self) -> None:
        if self._eof and self._is_idle() and not self._mute:
            self.close()

    def _keep_waiting(self, line: bytes) -> None:
        """Count what has not gone out at once."""
        self._kept_bytes += len(line)
        self._largest_bytes = max(self._largest_bytes, len(line))
        if not (self.unlimited or self._transport.is_closing()):
            self._host.unread.note(self, self.peer.uid, self.unread_bytes)

    def _watch_end(self) -> None:
        """While closing: what is left to send must not be left for ever."""
        if not self.lost and self._stall is None:
            unread = self._transport.get_write_buffer_size()
            if unread:
                self._watch_stall(unread)

    def _watch_stall(self, unread: int) -> None:
        self._stall = asyncio.get_running_loop().call_later(
            self._host.limits.stall_timeout_s, self._check_stall, unread, context=Context()
        )

    def _check_stall(self, unread_before: int) -> None:
        unread = self._transport.get_write_buffer_size()
        if unread >= unread_before:
            self.drop(f"it read nothing for {self._host.limits.stall_timeout_s:g} s")
        else:
            self._watch_stall(unread)
