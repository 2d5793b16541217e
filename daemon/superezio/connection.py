"""A blocking connection to the daemon: one line out, one line in, and a deadline for both.

This module is what a command line pays for at every start, so it imports next to nothing: the C
half of `socket` (the Python half costs 9 ms), and the error classes only when one is raised.
"""

from __future__ import annotations

import _socket
import errno
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from superezio.errors import SuperezioError

#: The longest line a client reads. A daemon that sends more is not one.
MAX_LINE_BYTES = 64 * 1024 * 1024

#: The longest deadline that the daemon takes; who waits longer is told by it when that is over.
LONGEST_DEADLINE_MS = 7 * 86_400_000

_CHUNK_BYTES = 256 * 1024
_FIRST_PAUSE_NS = 20_000_000
_LONGEST_PAUSE_NS = 1_000_000_000
_LONGEST_TIMEOUT_S = 2_000_000.0  # poll() counts milliseconds in an int

#: What connect() says of a daemon that is between two lives, or has its hands full.
_COMING_BACK = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN, errno.ECONNRESET})


class Backoff:
    """How long to wait before the next try: doubling, one second at most.

    The steps differ a little from process to process, so that a thousand clients of a daemon that
    restarts do not come back in one instant.
    """

    def __init__(self, *, deadline_ns: int | None, clock: Callable[[], int]) -> None:
        self._deadline_ns = deadline_ns
        self._clock = clock
        self._next_ns = _FIRST_PAUSE_NS
        self._share = 0.75 + 0.25 * (os.getpid() % 64) / 63

    def next_pause_s(self) -> float | None:
        """Return the seconds to wait, or None when the deadline leaves no room for a try."""
        pause_ns = self._next_ns * self._share
        if self._deadline_ns is not None:
            left_ns = self._deadline_ns - self._clock()
            if left_ns <= 0:
                return None
            pause_ns = min(pause_ns, left_ns)
        self._next_ns = min(2 * self._next_ns, _LONGEST_PAUSE_NS)
        return pause_ns / 1e9


def deadline_ms(left_ns: int) -> int:
    """Return what to send for a deadline that is `left_ns` away."""
    return min(max(1, left_ns // 1_000_000), LONGEST_DEADLINE_MS)


def connect_once(path: str) -> _socket.socket:
    """Return a socket connected to `path`, not waiting for anything. Raises OSError.

    A full backlog is EAGAIN: nothing is queued then, and the caller tries again.
    """
    made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        made.settimeout(0)
        made.connect(path)
    except BaseException:
        made.close()
        raise
    return made


def may_come_back(error: OSError, *, patient: bool) -> bool:
    """Say whether a failed connect is worth another try before the deadline.

    A full backlog always is: somebody listens. That nobody listens is waited out by the patient
    only: a program that lives through a restart of the daemon, not a person at a prompt.
    """
    return error.errno == errno.EAGAIN or (patient and error.errno in _COMING_BACK)


def cannot_connect(path: str, error: OSError) -> SuperezioError:
    """Return the exception for a failed connect: what is wrong, and what to do."""
    from superezio import errors  # noqa: PLC0415 - paid for on failure only

    if error.errno == errno.EAGAIN:
        return errors.ReplyTimeoutError(
            f"the daemon does not accept connections on {path}: it hangs, or has too many"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return errors.PermissionDeniedError(
            f"cannot open {path}: permission denied (the socket should be mode 0666, and each "
            "directory above it open to you)"
        )
    if error.errno == errno.ENOENT:
        why = f"there is no socket at {path}"
    elif error.errno == errno.ECONNREFUSED:
        why = f"nothing listens on {path}"
    else:
        why = f"cannot connect to {path}: {error.strerror or error}"
    return errors.DaemonNotRunningError(
        f"the superezio daemon is not running: {why}. Start it with `sudo systemctl start "
        "superezio`, or run `supereziod` in a terminal"
    )


class Connection:
    """A connected socket, read and written line by line.

    Deadlines are readings of `clock`, in nanoseconds; None waits for ever. Not for use by several
    threads at a time.
    """

    def __init__(
        self,
        path: str,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path = path
        self._clock = clock
        self._sleep = sleep
        self._socket: _socket.socket | None = None
        self._buffer = b""

    @property
    def connected(self) -> bool:
        """Whether `connect` was done, and neither `close` nor a failure came after it."""
        return self._socket is not None

    def connect(self, deadline_ns: int | None, *, patient: bool) -> None:
        """Connect, trying again until the deadline where that may help (see `may_come_back`).

        Raises DaemonNotRunningError, PermissionDeniedError or ReplyTimeoutError.
        """
        backoff = Backoff(deadline_ns=deadline_ns, clock=self._clock)
        while True:
            try:
                self._socket = connect_once(self.path)
            except OSError as error:
                pause_s = backoff.next_pause_s() if may_come_back(error, patient=patient) else None
                if pause_s is None:
                    raise cannot_connect(self.path, error) from error
                self._sleep(pause_s)
            else:
                self._buffer = b""
                return

    def broken(self) -> bool:
        """Say whether the daemon has closed this connection, without waiting for anything."""
        if self._socket is None:
            return True
        try:
            self._socket.settimeout(0)
            return not self._socket.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def send(self, data: bytes, deadline_ns: int | None) -> None:
        """Send whole lines. Raises ConnectionLostError or ReplyTimeoutError; both close."""
        try:
            self._ready(deadline_ns).sendall(data)
        except TimeoutError:
            # Part of a line may be out: no further request may follow it here.
            self.close()
            raise self._too_late() from None
        except OSError as error:
            raise self._lost(error) from error

    def receive(self, deadline_ns: int | None) -> bytes:
        """Return the next line, without its end.

        Raises ConnectionLostError, which closes, or ReplyTimeoutError, which does not: what came
        so far is kept for the next call.
        """
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > MAX_LINE_BYTES:
                raise self._lost(OSError("a line without an end"))
            try:
                chunk = self._ready(deadline_ns).recv(_CHUNK_BYTES)
            except TimeoutError:
                raise self._too_late() from None
            except OSError as error:
                raise self._lost(error) from error
            if not chunk:
                raise self._lost(None)
            self._buffer += chunk
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line

    def fileno(self) -> int:
        """Return the descriptor, or -1 when there is none."""
        return self._socket.fileno() if self._socket is not None else -1

    def close(self) -> None:
        """End the connection; closing twice is fine."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._buffer = b""

    def _ready(self, deadline_ns: int | None) -> _socket.socket:
        if self._socket is None:
            raise BrokenPipeError(errno.EPIPE, "not connected")
        if deadline_ns is None:
            self._socket.settimeout(None)
            return self._socket
        left_ns = deadline_ns - self._clock()
        if left_ns <= 0:
            raise TimeoutError
        self._socket.settimeout(min(left_ns / 1e9, _LONGEST_TIMEOUT_S))
        return self._socket

    def _too_late(self) -> SuperezioError:
        from superezio.errors import ReplyTimeoutError  # noqa: PLC0415 - paid for on failure only

        return ReplyTimeoutError(f"the daemon on {self.path} did not answer in time")

    def _lost(self, error: OSError | None) -> SuperezioError:
        from superezio.errors import ConnectionLostError  # noqa: PLC0415 - as above

        self.close()
        why = (error.strerror or str(error)) if error is not None else "it closed the connection"
        return ConnectionLostError(f"lost the daemon on {self.path} before it answered: {why}")
