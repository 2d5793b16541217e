"""An asyncio connection to the daemon that many calls share."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Self, cast

from superezio import envelope
from superezio.connection import MAX_LINE_BYTES, connect_once
from superezio.errors import ConnectionLostError, SuperezioError
from superezio.framing import LineFramer
from superezio.wire import CancelParams

_LAST_WORDS_S = 1.0

Listener = Callable[[envelope.Reply], None]


def ignore(message: envelope.Reply) -> None:
    """Drop a notification: this link is subscribed to nothing."""


def nothing() -> None:
    """Do nothing when the link is lost: each call is told anyway."""


class Link(asyncio.Protocol):
    """Requests out, replies in, matched by id.

    What is sent in one turn of the loop goes out in one write. Made by `open`; once `lost` it
    stays so.
    """

    def __init__(
        self, path: str, *, listener: Listener = ignore, on_lost: Callable[[], None] = nothing
    ) -> None:
        self._path = path
        self._listener = listener
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._framer = LineFramer(max_frame_bytes=MAX_LINE_BYTES)
        self._pending: dict[int, asyncio.Future[envelope.Reply]] = {}
        self._late: dict[int, Listener] = {}
        #: Answers to those who were cancelled, and have not run since.
        self._unclaimed: dict[int, envelope.Reply] = {}
        self._outgoing: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._ended = asyncio.Event()
        self._failure: SuperezioError | None = None

    @classmethod
    async def open(
        cls, path: str, *, listener: Listener = ignore, on_lost: Callable[[], None] = nothing
    ) -> Self:
        """Connect, or raise OSError at once: a full backlog is EAGAIN.

        The loop's own connect takes EAGAIN for success (seen with asyncio of Python 3.11).
        """
        connected = socket.socket(fileno=connect_once(path).detach())
        try:
            _, link = await asyncio.get_running_loop().create_unix_connection(
                lambda: cls(path, listener=listener, on_lost=on_lost), sock=connected
            )
        except BaseException:
            connected.close()
            raise
        return link

    @property
    def lost(self) -> bool:
        """Whether no call can be made any more."""
        return self._failure is not None

    async def writable(self) -> None:
        """Wait until the daemon has taken enough of what was sent before."""
        await self._writable.wait()

    def request(self, id_: int, line: bytes) -> asyncio.Future[envelope.Reply]:
        """Send a request; the future gets its reply, or ConnectionLostError."""
        future: asyncio.Future[envelope.Reply] = self._loop.create_future()
        if self._failure is not None:
            future.set_exception(self._failure)
            return future
        self._pending[id_] = future
        self._send(line)
        return future

    def forget(self, id_: int) -> None:
        """Drop whatever answer to `id_` may still come."""
        self._pending.pop(id_, None)
        self._unclaimed.pop(id_, None)

    def expect_late(self, id_: int, listener: Listener) -> None:
        """Call `listener` with the answer to `id_`, which nobody waits for, if one comes."""
        unclaimed = self._unclaimed.pop(id_, None)
        if unclaimed is not None:
            listener(unclaimed)
        elif self._failure is None:
            self._late[id_] = listener

    def send(self, line: bytes) -> None:
        """Send a notification."""
        if self._failure is None:
            self._send(line)

    def cancel(self, id_: int) -> None:
        """Tell the daemon that nobody waits for the answer to `id_`."""
        if self._failure is None:
            params = CancelParams(id=id_)
            self._send(envelope.encode("rpc.cancel", params, id_=None, meta=None))

    def hold(self, *, on: bool) -> None:
        """Stop reading, or go on: the daemon then counts what a subscriber misses."""
        if self._transport is not None and not self._transport.is_closing():
            if on:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    async def aclose(self) -> None:
        """Send what is left to send, and end the connection.

        A daemon that does not take it within a second does without it.
        """
        self._flush()
        if self._transport is None:
            return
        self._transport.close()
        try:
            # Not wait_for: before Python 3.12 it may swallow a cancellation.
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._ended.wait()
        except TimeoutError:
            self._transport.abort()
            await self._ended.wait()

    # --- asyncio.Protocol -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            for line in self._framer.feed(data):
                if line is None:
                    raise ConnectionLostError("what answers is not the daemon: a line too long")
                self._dispatch(envelope.decode_line(line))
        except SuperezioError as error:
            self._fail(error)
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        why = str(exc) if exc is not None else "it closed the connection"
        self._fail(
            ConnectionLostError(f"lost the daemon on {self._path} before it answered: {why}")
        )
        self._writable.set()
        self._ended.set()
        self._on_lost()

    def _dispatch(self, message: envelope.Reply) -> None:
        if message.method is not None:
            self._listener(message)
        elif isinstance(message.id, int):
            future = self._pending.pop(message.id, None)
            if future is not None and not future.done():
                future.set_result(message)
            elif future is not None:
                self._unclaimed[message.id] = message
            elif (late := self._late.pop(message.id, None)) is not None:
                late(message)

    def _send(self, line: bytes) -> None:
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(line)

    def _flush(self) -> None:
        if self._outgoing and self._transport is not None and self._failure is None:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def _fail(self, error: SuperezioError) -> None:
        if self._failure is None:
            self._failure = error
        pending, self._pending = self._pending, {}
        self._late.clear()
        for future in pending.values():
            if not future.done():
                future.set_exception(error)
