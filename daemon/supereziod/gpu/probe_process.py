"""One probe as the daemon sees it: a child process, its frames, and its end.

The child is never signalled: closing the socket tells it to end, and one that the kernel cannot
end is somebody's to know of, not to kill (a killed holder of the driver can wedge a card).
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
import structlog

from supereziod.gpu.frames import FrameBuffer, FrameError, FromProbe, ProbeSpec, ToProbe, encode

_RECEIVE_BYTES: Final = 262_144
_NOT_REAPED: Final = -1
_MAX_LINE_BYTES: Final = 8192


class ProbeHandle(Protocol):
    """What the supervisor asks of a probe that it has launched."""

    @property
    def pid(self) -> int:
        """The process id."""

    def send(self, frame: ToProbe) -> None:
        """Say something to the probe, if it listens."""

    def retire(self) -> None:
        """Tell the probe to end, and take in nothing more from it but its end."""

    def abandon(self) -> None:
        """Stop watching for its end: the loop is about to close."""


class ProbeListener(Protocol):
    """Who hears of a probe. Called on the event loop, never from within `launch`."""

    def probe_said(self, probe: ProbeHandle, frame: FromProbe) -> None:
        """Take in a frame."""

    def probe_ended(self, probe: ProbeHandle, how: str) -> None:
        """Take in that the process is gone; called once."""


Launch = Callable[[ProbeSpec, ProbeListener], ProbeHandle]


class ProbeProcess:
    """A running probe. Made on the event loop; raises OSError if it cannot be started."""

    def __init__(
        self,
        spec: ProbeSpec,
        listener: ProbeListener,
        *,
        logger: Any = None,  # noqa: ANN401 - structlog's loggers are lazy proxies
    ) -> None:
        self._listener = listener
        self._log = logger if logger is not None else structlog.get_logger()
        self._loop = asyncio.get_running_loop()
        self._frames = FrameBuffer()
        self._decoder = msgspec.msgpack.Decoder(FromProbe)
        self._retired = False
        self._said = bytearray()
        ours, theirs = socket.socketpair()
        errors, errors_of_child = os.pipe()
        command = [sys.executable, "-P", "-m", "supereziod.gpu.probe"]
        try:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), msgspec.json.encode(spec).decode()],
                stdin=subprocess.DEVNULL,
                stdout=errors_of_child,
                stderr=errors_of_child,
                pass_fds=(theirs.fileno(),),
            )
        except OSError:
            ours.close()
            os.close(errors)
            raise
        finally:
            theirs.close()
            os.close(errors_of_child)
        self._connection = ours
        self._errors = errors
        self._pidfd = os.pidfd_open(self._process.pid)
        ours.settimeout(0)
        os.set_blocking(errors, False)
        self._loop.add_reader(ours, self._receive)
        self._loop.add_reader(errors, self._read_errors)
        self._loop.add_reader(self._pidfd, self._reap)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, frame: ToProbe) -> None:
        """Say something to the probe. One that does not read is noticed by its silence."""
        if self._retired:
            return
        try:
            self._connection.send(encode(frame))
        except (BlockingIOError, ConnectionError):
            return

    def retire(self) -> None:
        """Close our end, which is how a probe is told to end."""
        if not self._retired:
            self._retired = True
            self._loop.remove_reader(self._connection)
            self._connection.close()

    def abandon(self) -> None:
        """Stop watching for its end: the loop is about to close."""
        self.retire()
        if self._pidfd >= 0:
            self._forget()
            # Nobody here will reap it: its next parent does, once the kernel lets it end.
            self._process.returncode = _NOT_REAPED

    def _receive(self) -> None:
        try:
            data = self._connection.recv(_RECEIVE_BYTES)
            frames = [self._decoder.decode(body) for body in self._frames.feed(data)]
        except BlockingIOError:
            return
        except (ConnectionError, FrameError, msgspec.MsgspecError) as error:
            self._log.warning("probe.garbled", probe_pid=self.pid, error=str(error))
            self.retire()
            return
        if not data:
            self.retire()
            return
        for frame in frames:
            if not self._retired:
                self._listener.probe_said(self, frame)

    def _read_errors(self) -> None:
        try:
            data = os.read(self._errors, _RECEIVE_BYTES)
        except BlockingIOError:
            return
        self._said += data
        *lines, rest = bytes(self._said).split(b"\n")
        self._said = bytearray(rest[-_MAX_LINE_BYTES:])
        if not data:
            self._loop.remove_reader(self._errors)
            self._said.clear()
            lines.append(rest)
        for line in filter(None, lines):
            text = line[:_MAX_LINE_BYTES].decode(errors="replace")
            self._log.warning("probe.said", probe_pid=self.pid, line=text)

    def _reap(self) -> None:
        code = self._process.poll()
        if code is None:
            return
        self._receive_rest()
        self._read_errors()
        self._forget()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._listener.probe_ended(self, how)

    def _receive_rest(self) -> None:
        """Take in what the probe said last: why it ends stands there."""
        if not self._retired:
            self._receive()
        self.retire()

    def _forget(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._loop.remove_reader(self._errors)
        os.close(self._pidfd)
        os.close(self._errors)
        self._pidfd = -1


def launch_probe(spec: ProbeSpec, listener: ProbeListener) -> ProbeHandle:
    """Start a probe process."""
    return ProbeProcess(spec, listener)
