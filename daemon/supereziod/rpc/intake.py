"""What a connection takes in: its requests are worked on as long as its user's turn lasts.

The rest waits for the next turn, or until the client reads its answers; nothing more is read from
the connection meanwhile. What is not done counts for the user, with a line that has no end yet:
either is little of one connection, but a user may have thousands of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

from superezio.errors import FrameTooLargeError
from superezio.framing import NEWLINE, LineFramer
from supereziod.rpc.answering import Line
from supereziod.rpc.batches import OpenBatch
from supereziod.rpc.buffers import Buffers
from supereziod.rpc.decoding import UNREADABLE, Batch, Call, Refusal
from supereziod.rpc.dispatcher import CommandDispatcher
from supereziod.rpc.limits import Limits
from supereziod.rpc.recording import Run
from supereziod.rpc.turns import Turn, Turns

#: What is no more than this is not counted: what thousands of connections have is little.
SHORT_BYTES: Final = 4096
#: What who is closed for it did.
LEFT_UNDONE: Final = "sent more requests, whole or in part, than are kept waiting"

#: What there is to work on.
_Work = Call | Refusal | Batch | OpenBatch


class Source(Line, Protocol):
    """The connection that it takes in from."""

    unlimited: bool
    #: That of its user.
    turn: Turn

    def drop(self, why: str) -> None:
        """Close at once, unsent answers lost, and have it told."""

    def close_if_done(self) -> None:
        """Close, if nothing more comes, and nothing is left to be done or to be pushed."""


class Workplace(Protocol):
    """The server, as far as it takes part in the work."""

    dispatcher: CommandDispatcher
    limits: Limits
    clock: Callable[[], int]
    turns: Turns
    unfinished: Buffers


class Intake:
    """That of one connection. Nothing of it is on the way of a read that brings one hot call."""

    __slots__ = (
        "_backlog",
        "_call",
        "_call_alike",
        "_charged_ns",
        "_clock",
        "_decode_lines",
        "_ended",
        "_framer",
        "_held",
        "_host",
        "_is_counted",
        "_line",
        "_max_bytes",
        "_owed_ns",
        "_transport",
        "_uid",
        "_undone_bytes",
        "_waits",
        "used_ns",
    )

    def __init__(
        self, line: Source, transport: asyncio.Transport, uid: int, host: Workplace
    ) -> None:
        self._line = line
        self._transport = transport
        self._uid = uid
        self._host = host
        self._max_bytes = host.limits.max_frame_bytes
        self._framer = LineFramer(max_frame_bytes=self._max_bytes)
        self._backlog: list[_Work] = []
        #: What was read while its user's turn was over. It is not looked at before the next.
        self._held = b""
        #: It is given a turn in the next round, or a later one.
        self._waits = False
        #: Nothing more comes.
        self._ended = False
        self.used_ns = 0
        self._charged_ns = self._owed_ns = 0
        #: The whole lines that are not done, and whether those who count know of anything.
        self._undone_bytes = 0
        self._is_counted = False
        # What would be looked up for each read else.
        self._call = host.dispatcher.calls.call
        self._call_alike = host.dispatcher.calls.call_alike
        self._decode_lines = host.dispatcher.decoder.decode_lines
        self._clock = host.clock

    # --- what comes in --------------------------------------------------------------------------

    def take(self, data: bytes, now_ns: int) -> bool:
        """Work on what was read, as far as the turn goes; tell whether that was one call alone."""
        calls = self._plain_calls(data)
        if calls:
            self._work(calls, now_ns, plain=True)
        else:
            found = self._read_lines(data)
            if self._backlog:
                self._backlog += found
            else:
                self._work(found, now_ns)
        if self._backlog:
            self._leave_undone(data)
            return False
        return len(calls) == 1

    def hold(self, data: bytes) -> None:
        """Keep what was read for the next turn."""
        if not self._transport.is_closing():
            self._held += data
            self._wait()
            self._leave_undone(data)

    def end(self) -> None:
        """Take in nothing more than what has come: its last line may have no end."""
        self._ended = True
        if not self._held:
            self._backlog += self._last_line()
        if self._backlog and not self._waits:
            self._work_off()

    def go_on(self) -> None:
        """Work on what waited until answers are read, now or in the next turn."""
        if self.is_empty or not self._line.turn.is_over:
            self._work_off()
        else:
            self._wait()

    def forget(self) -> None:
        """Let go of all that is not done: the connection is lost."""
        self._framer.forget()
        self._backlog.clear()
        self._held = b""
        self._count_no_more()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not (self._backlog or self._held)

    @property
    def is_done(self) -> bool:
        """Whether nothing waits and nothing more comes."""
        return self._ended and self.is_empty

    # --- turns ----------------------------------------------------------------------------------

    def take_turn(self) -> None:
        """Work on some of what waits, one request at least; wait again with what is left."""
        self._waits = False
        self._work_off()

    def charge_since(self, begun_ns: int) -> None:
        """Take the time since then off the user's turn, as far as it was not taken yet."""
        now_ns = self._clock()
        spent_ns = now_ns - max(begun_ns, self._charged_ns)
        self._charged_ns = now_ns
        self.used_ns += spent_ns
        if not self._line.unlimited:
            self._host.turns.charge(self._line.turn, spent_ns)

    def _wait(self) -> None:
        """Read nothing more before there was a turn for what there is."""
        self._transport.pause_reading()
        if not self._waits:
            self._waits = True
            self._host.turns.wait(self._line.turn, self)

    def _work_off(self) -> None:
        line = self._line
        if not line.writable:
            return
        begun_ns = self._clock()
        # This may run in another context than reads do.
        line.scope = None
        if self._backlog:
            calls, self._backlog = self._backlog, []
            self._work(calls, begun_ns)
        elif self._held:
            data, self._held = self._held, b""
            found = self._read_lines(data)
            if self._ended:
                found += self._last_line()
            self._work(found, begun_ns)
        line.scope = None
        if not line.writable:
            return
        if not self.is_empty:
            self._wait()
            return
        if self._undone_bytes:
            self._undone_bytes = 0
            self._count_undone()
        if self._ended:
            line.close_if_done()
        else:
            self._transport.resume_reading()

    # --- the work -------------------------------------------------------------------------------

    def _work(self, calls: Sequence[_Work], begun_ns: int, *, plain: bool = False) -> None:
        """Answer `calls`; what is too much for one turn, or for the reader, is left for later.

        `plain` if there are nothing but calls: where the rate limit has room for them all, it is
        asked once. `begun_ns` is when the work on them began, reading them included.
        """
        if not calls:
            self.charge_since(begun_ns)
            return
        line, limits = self._line, self._host.limits
        part = calls[: limits.requests_per_turn]
        paid_later = plain and len(part) > 1 and line.rate.available(begun_ns) >= len(part)
        answer: Callable[..., bytes | None] = self._call if paid_later else self._answer_any
        high_water = limits.write_high_water_bytes
        turn, used_ns = line.turn, self.used_ns
        replies: list[bytes] = []
        done = 0
        if paid_later:
            plain_calls = cast("Sequence[Call]", part)
            done = self._call_alike(line, plain_calls, begun_ns, replies, high_water)
        if done < len(part):
            size = sum(map(len, replies))
            line.run = Run(line.stamp)
            while done < len(part) and size <= high_water and not (done and turn.is_over):
                reply = answer(line, part[done], begun_ns, None)
                done += 1
                if reply is not None:
                    replies.append(reply)
                    size += len(reply)
            self._host.dispatcher.recording.end_run(line, line.requests + 1)
            line.run = None
        if paid_later:
            line.rate.acquire(begun_ns, done)
        # Before what is left of a batch that the time was too short for.
        self._backlog += calls[done:]
        if replies:
            line.push(b"".join(replies))
        self.charge_since(begun_ns)
        self._finish_batches_first(used_ns)
        if self._backlog and line.writable:
            self._wait()

    def _answer_any(self, line: Source, what: _Work, begun_ns: int, _batch: None) -> bytes | None:
        """Answer whatever it is, as far as the time goes."""
        if isinstance(what, Batch):
            what = OpenBatch(what, line.push)
        if not isinstance(what, OpenBatch):
            return self._host.dispatcher.answer(line, what, begun_ns)
        if not self._host.dispatcher.batch(line, what, begun_ns, line.turn):
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

    # --- lines ----------------------------------------------------------------------------------

    def _plain_calls(self, data: bytes) -> list[Call]:
        """Return what was read if that are whole lines, all of them calls; else nothing."""
        if len(data) > self._max_bytes or data[-1] != NEWLINE or not self._framer.is_clean:
            return []
        if self._backlog:
            return []
        try:
            return self._decode_lines(data)
        except UNREADABLE:
            return []  # Read again line by line, to find which of them it is.

    def _read_lines(self, data: bytes) -> list[_Work]:
        decode = self._host.dispatcher.decoder.line
        found: list[_Work] = []
        lines = self._framer.feed(data)
        if self._is_counted or self._framer.carried_bytes > SHORT_BYTES:
            self._count_undone()
        for line in lines:
            if line is None:
                found.append(Refusal(id=None, error=self._too_large()))
            elif line and not line.isspace():
                found.append(decode(line))
        return found

    def _last_line(self) -> list[_Work]:
        """Return what stands behind the last newline, at the end of all input."""
        last = self._framer.finish()
        return [self._host.dispatcher.decoder.line(last)] if last.strip() else []

    def _too_large(self) -> FrameTooLargeError:
        limit = self._host.limits.max_frame_bytes
        return FrameTooLargeError(f"a line may have up to {limit} bytes", data={"limit": limit})

    # --- what counts for the user ---------------------------------------------------------------

    @property
    def kept_bytes(self) -> int:
        """What was read since the last time that nothing waited, and a line that has no end yet."""
        return self._undone_bytes + self._framer.carried_bytes

    def drop(self, why: str) -> None:
        """Close the connection at once, and have it told."""
        self._line.drop(why)

    def _leave_undone(self, data: bytes) -> None:
        self._undone_bytes += len(data)
        self._count_undone()

    def _count_undone(self) -> None:
        """Count what is not done, as long as that is more than a little."""
        if self.kept_bytes <= SHORT_BYTES:
            self._count_no_more()
        elif not (self._line.unlimited or self._transport.is_closing()):
            self._is_counted = True
            self._host.unfinished.note(self, self._uid, self.kept_bytes)

    def _count_no_more(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._host.unfinished.forget(self, self._uid)
