"""A client that looks on while the host has a fault: a process inside, which knows no superezio.

    python3 observer.py SOCKET LOG

It pings every 20 ms, over a connection that it keeps and over a fresh one each; it holds a lease of
each mode; it acquires and releases small ones all the time. What has no answer is asked again until
it has one: an acquire under one idempotency key. It ends at the end of its standard input, and says
then which leases the daemon lists. The log is a JSON list a line: what, seconds of CLOCK_MONOTONIC,
and the rest.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections import deque
from typing import Any

_PING_EVERY_S = 0.02
_ACQUIRE_EVERY_S = 0.05
_RENEW_EVERY_S = 1.0
_TTL_MS = 60_000
_ANSWER_WITHIN_S = 60.0
_KEPT = 8
_VRAM_BYTES = 1 << 20
#: Refusals that say to ask again, of the request as of the connection; nothing has changed then.
_ASK_AGAIN = {"busy", "shutting_down", "rate_limited", "state_not_writable"}


class Refused(Exception):  # noqa: N818 - it is what the daemon said
    """The daemon answered, with an error of this kind."""


class Log:
    def __init__(self, path: str) -> None:
        self._file = open(path, "w", buffering=1)  # noqa: PTH123, SIM115 - for its life
        self._lock = threading.Lock()

    def __call__(self, what: str, *rest: object) -> None:
        with self._lock:
            self._file.write(json.dumps([what, time.monotonic(), *rest]) + "\n")


class Line:
    """One connection, which is made when it is needed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sock: socket.socket | None = None
        self._file: Any = None

    def ask(self, method: str, params: dict[str, Any], key: str | None = None) -> dict[str, Any]:
        """Return the result. Raises OSError where there is no answer, and Refused."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        if key is not None:
            request["meta"] = {"idempotency_key": key}
        try:
            if self._sock is None:
                self._sock = socket.socket(socket.AF_UNIX)
                self._sock.settimeout(_ANSWER_WITHIN_S)
                self._sock.connect(self._path)
                self._file = self._sock.makefile("r")
            self._sock.sendall(json.dumps(request).encode() + b"\n")
            answer = self._file.readline()
            if not answer.endswith("\n"):
                raise OSError("the connection ended")
        except OSError:
            self.close()
            raise
        parsed = json.loads(answer)
        if "error" in parsed:
            raise Refused(parsed["error"]["data"]["kind"])
        result: dict[str, Any] = parsed["result"]
        return result

    def close(self) -> None:
        for each in (self._file, self._sock):
            if each is not None:
                each.close()
        self._sock = self._file = None


class Observer:
    def __init__(self, path: str, log: Log) -> None:
        self._path = path
        self._log = log
        self._ending = threading.Event()
        self._held: deque[str] = deque()

    def run(self) -> None:
        standing = self._take_standing()
        threads = [
            threading.Thread(target=self._ping, args=("kept", False), daemon=True),
            threading.Thread(target=self._ping, args=("fresh", True), daemon=True),
            threading.Thread(target=self._acquire, daemon=True),
            threading.Thread(target=self._renew, args=(standing["ttl"],), daemon=True),
            threading.Thread(target=self._resume, daemon=True),
        ]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        self._ending.set()
        end = time.monotonic() + 30
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                self._log("missing", thread.name)
        line = Line(self._path)
        mine = self._surely(line, "lease.list", {})["leases"]
        uid = os.getuid()
        self._log("listed", [lease["id"] for lease in mine if lease["uid"] == uid])
        for lease in mine:
            if lease["uid"] == uid:
                self._surely(line, "lease.release", {"lease": lease["id"]})
        self._log("ended")

    def _take_standing(self) -> dict[str, str]:
        self._bound = Line(self._path)
        standing = {}
        for mode, line in (
            ("process", Line(self._path)),
            ("ttl", Line(self._path)),
            ("connection", self._bound),
        ):
            asked = {"vram_bytes": _VRAM_BYTES, "mode": mode}
            if mode == "ttl":
                asked["ttl_ms"] = _TTL_MS
            standing[mode] = self._surely(line, "lease.acquire", asked)["id"]
            self._log("standing", mode, standing[mode])
        self._connection_lease = standing["connection"]
        return standing

    def _surely(
        self, line: Line, method: str, params: dict[str, Any], key: str | None = None
    ) -> dict[str, Any]:
        """Ask until there is an answer."""
        while True:
            try:
                return line.ask(method, params, key)
            except OSError:
                time.sleep(_PING_EVERY_S)
            except Refused as refused:
                if str(refused) not in _ASK_AGAIN:
                    raise
                line.close()
                time.sleep(_PING_EVERY_S)

    def _ping(self, channel: str, fresh: bool) -> None:  # noqa: FBT001 - a thread's arguments
        line = Line(self._path)
        while not self._ending.wait(_PING_EVERY_S):
            asked = time.monotonic()
            try:
                pid = line.ask("system.ping", {})["pid"]
                self._log("pinged", channel, asked, pid)
            except (OSError, Refused) as error:
                self._log("unanswered", channel, asked, repr(error))
                line.close()
            if fresh:
                line.close()

    def _acquire(self) -> None:
        line = Line(self._path)
        number = 0
        while not self._ending.wait(_ACQUIRE_EVERY_S):
            number += 1
            key = f"observer-{os.getpid()}-{number}"
            try:
                lease = self._surely(line, "lease.acquire", {"vram_bytes": _VRAM_BYTES}, key)["id"]
            except Refused as refused:
                self._log("refused", str(refused))
                continue
            self._log("granted", lease)
            self._held.append(lease)
            if len(self._held) > _KEPT:
                oldest = self._held.popleft()
                self._log("releasing", oldest)
                self._release(line, oldest)

    def _release(self, line: Line, lease: str) -> None:
        try:
            self._surely(line, "lease.release", {"lease": lease})
        except Refused as refused:
            self._log("not_released", lease, str(refused))

    def _renew(self, lease: str) -> None:
        line = Line(self._path)
        while not self._ending.wait(_RENEW_EVERY_S):
            try:
                self._surely(line, "lease.renew", {"lease": lease})
            except Refused as refused:
                self._log("not_renewed", lease, str(refused))

    def _resume(self) -> None:
        """Keep the connection that a lease is bound to, and go on with another where it ended."""
        while not self._ending.wait(_PING_EVERY_S):
            try:
                self._bound.ask("system.ping", {})
            except (OSError, Refused):
                try:
                    self._surely(self._bound, "lease.resume", {"lease": self._connection_lease})
                except Refused as refused:
                    self._log("not_resumed", self._connection_lease, str(refused))


def _end_at_once(failure: threading.ExceptHookArgs) -> None:
    """Let no thread be missing in silence."""
    sys.__excepthook__(failure.exc_type, failure.exc_value or Exception(), failure.exc_traceback)
    os._exit(1)


if __name__ == "__main__":
    threading.excepthook = _end_at_once
    Observer(sys.argv[1], Log(sys.argv[2])).run()
