"""A lease as its minder sees it: whether it is to end, over restarts of the daemon too.

Level, not edge: an event only says that it is time to look, and after each connect the lease is
looked at anyway. So a notice that was told while the daemon was away, or lost in a full
subscription, is not missed. Nor is the end of a lease: of one that is no more it is found out
whether its user released it, which is no concern of the command's, or it was lost.
"""

from __future__ import annotations

import json
import time

from superezio.connection import Backoff, connect_once
from superezioctl.views.text import place
from superezioctl.wording import with_places

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any

#: What happens to a lease that its holder has to know of.
_TYPES = ["lease.draining", "lease.kept", "lease.lost", "lease.released"]
#: What requests are for: the beginnings of their ids.
_SUBSCRIBE, _LOOK, _ACCEPT, _RECALL, _RELEASE = "subscribe", "look", "accept", "recall", "release"
_CHUNK_BYTES = 65536
#: More than any answer to what is asked here.
_MAX_LINE_BYTES = 4 << 20
_OVER = frozenset({"stale_lease", "not_found"})
#: How many past losses are searched for the one of this lease.
_REPLAY = 1000


class Revocation:
    """A notice that stands: why, what was said, and when (monotonic ns) the lease is lost.

    `cause` is what the lease is wanted back for; of one that is lost, what it was lost for.
    """

    def __init__(
        self,
        *,
        reason: str,
        message: str,
        deadline_ns: int,
        answered: bool,
        cause: str | None = None,
    ) -> None:
        self.reason = reason
        self.cause = reason if cause is None else cause
        self.message = message
        self.deadline_ns = deadline_ns
        self.answered = answered


class Follower:
    """Keeps `revocation` what the daemon last said of it, and `over` once the lease is no more.

    `over` comes last: `lost` is right by then.

    Nothing here waits: call `turn` when `fileno` has something to read, and at `retry_ns`.
    """

    def __init__(
        self,
        *,
        socket_path: str,
        lease: str,
        correlation_id: str | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.revocation: Revocation | None = None
        self.over = False
        #: What was said when the lease was lost; None where its user has released it.
        self.lost: str | None = None
        #: What it was lost for, as far as that was said.
        self.lost_for = "lost"
        #: When to try to connect next, while there is no connection.
        self.retry_ns: int | None = 0
        self._path = socket_path
        self._lease = lease
        self._meta = {} if correlation_id is None else {"meta": {"correlation_id": correlation_id}}
        self._clock = clock
        self._backoff = Backoff(deadline_ns=None, clock=clock)
        self._socket: _socket.socket | None = None
        self._buffer = b""
        self._last_id = 0
        self._is_gone = False
        self._why_gone = "the daemon knows it no more, and nobody has released it"

    def fileno(self) -> int:
        """Return the descriptor to wait on, or -1."""
        return -1 if self._socket is None else self._socket.fileno()

    def turn(self) -> None:
        """Connect if it is time to, and take in what has come."""
        if self._socket is None:
            if self.over or self.retry_ns is None or self._clock() < self.retry_ns:
                return
            self._connect()
        while self._socket is not None and self._receive():
            continue

    def accept(self) -> None:
        """Tell the daemon that the notice was heard and the lease will be given back."""
        self._ask(_ACCEPT, "lease.acknowledge", {"lease": self._lease, "accept": True})

    def close(self) -> None:
        """Let go of the daemon."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> None:
        self._buffer = b""
        self._last_id = 0
        self._is_gone = False
        try:
            self._socket = connect_once(self._path)
        except OSError:
            self._lose()
            return
        self.retry_ns = None
        self._ask(_SUBSCRIBE, "events.subscribe", {"types": _TYPES})
        self._look()

    def _look(self) -> None:
        self._ask(_LOOK, "lease.get", {"lease": self._lease})

    def _ask(self, purpose: str, method: str, params: dict[str, Any]) -> None:
        if self._socket is None:
            return
        self._last_id += 1
        id_ = f"{purpose}-{self._last_id}"
        request = {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}
        try:
            # A few hundred bytes into an empty buffer: what does not fit is a daemon that hangs.
            self._socket.sendall(json.dumps(request | self._meta).encode() + b"\n")
        except OSError:
            self._lose()

    def _receive(self) -> bool:
        """Take in what has come; False when that is all."""
        assert self._socket is not None  # noqa: S101 - for mypy: `turn` looked
        try:
            chunk = self._socket.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        if not chunk or len(self._buffer) > _MAX_LINE_BYTES:
            self._lose()
            return False
        for line in lines:
            self._take(line)
        return True

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            if message.get("method") == "event":
                event = message["params"]["event"]
                if event["lease"] == self._lease:
                    self._hear(event)
                elif message["params"]["lost"]:  # ours may have been among them
                    self._look()
                return
            purpose = message["id"].partition("-")[0]
            if "error" in message:
                self._refused(purpose, message["error"]["data"]["kind"])
            else:
                self._answered(purpose, message["result"])
        except (ValueError, LookupError, TypeError, AttributeError):  # it is not the daemon
            self._lose()

    def _hear(self, event: dict[str, Any]) -> None:
        if event["type"] == "lease.lost":
            self._lost_as(event)
        self._look()

    def _answered(self, purpose: str, result: dict[str, Any]) -> None:
        if purpose in {_LOOK, _ACCEPT}:
            self._see(result)
        elif purpose == _RECALL:
            self._recall(result["replay"])
        elif purpose == _RELEASE:  # it had been released
            self._end()

    def _refused(self, purpose: str, kind: str) -> None:
        if kind in _OVER:
            self._find_out(purpose)
        elif purpose == _RECALL:
            self._ask_whether_released()
        elif purpose != _ACCEPT:  # that one: the notice was withdrawn meanwhile
            self._lose()

    def _find_out(self, purpose: str) -> None:
        """Find out how the lease has ended, where that was not heard."""
        if purpose == _RELEASE:
            self.lost = f"lease {self._lease} is lost: {self._why_gone}"
        if self.lost is not None:
            self._end()
        elif not self._is_gone:
            self._is_gone = True
            self._ask(_RECALL, "events.subscribe", {"types": ["lease.lost"], "replay": _REPLAY})

    def _recall(self, past: list[dict[str, Any]]) -> None:
        for event in past:
            if event["lease"] == self._lease:
                self._lost_as(event)
            elif event["data"].get("reason") == "state_corrupt":
                self._why_gone = event["message"]
        if self.lost is not None:
            self._end()
        else:
            self._ask_whether_released()

    def _lost_as(self, event: dict[str, Any]) -> None:
        data = event["data"]
        self.lost = event["message"]
        self.lost_for = data.get("revoked_for") or data.get("reason", "lost")

    def _ask_whether_released(self) -> None:
        # The daemon remembers that over its own death. To release again is no error, and for what
        # ended in another way it is; the lease itself is gone, and ids are never used again.
        self._ask(_RELEASE, "lease.release", {"lease": self._lease})

    def _end(self) -> None:
        self.over = True
        self.close()

    def _see(self, lease: dict[str, Any]) -> None:
        self._backoff = Backoff(deadline_ns=None, clock=self._clock)
        found = lease.get("revocation")
        places = {
            gpu["uuid"]: place(gpu["index"], gpu.get("mig_index"))
            for gpu in lease["gpus"]
            if gpu["index"] is not None
        }
        self.revocation = (
            None
            if found is None
            else Revocation(
                reason=found["reason"],
                message=with_places(found["message"], places),
                deadline_ns=self._clock() + round(found["remaining_s"] * 1e9),
                answered=found["answer"] is not None,
            )
        )

    def _lose(self) -> None:
        """Close, and come back after a pause: what is known of the lease stands until then."""
        self.close()
        self.retry_ns = self._clock() + round((self._backoff.next_pause_s() or 0) * 1e9)
