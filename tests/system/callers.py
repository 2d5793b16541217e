"""Connections of real users in a machine, each a process that was started as that user logs in."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Self

from system.machine import Machine
from system.service import SOCKET

#: As independent of the project's client as can be. It connects when it is told to.
_BRIDGE = """\
import os, socket, sys
print("started", flush=True)
sys.stdin.readline()
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(30)
sock.connect(sys.argv[1])
answers = sock.makefile("rb")
print(os.getpid(), flush=True)
for line in sys.stdin.buffer:
    sock.sendall(line)
    while True:
        answer = answers.readline()
        sys.stdout.buffer.write(answer)
        if b'"method"' not in answer[:30]:
            break
    sys.stdout.buffer.flush()
"""
Json = dict[str, Any]


class Caller:
    """One connection of one user. All that the daemon said to it is kept as text in `heard`."""

    def __init__(self, machine: Machine, user: str, *, connect: bool = True) -> None:
        self.user = user
        self.uid = int(machine.output("id", "-u", user))
        self.heard: list[str] = []
        self.events: list[Json] = []
        self.pid = 0
        self._process = subprocess.Popen(
            machine.command("/usr/bin/python3", "-c", _BRIDGE, SOCKET, user=user),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._hear()
        if connect:
            self.connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def connect(self) -> Self:
        """Connect, with the groups that the process has had from its start."""
        self._say("")
        self.pid = int(self._hear())
        return self

    def ask(self, method: str, params: Json | None = None, **meta: str) -> Json:
        """Return the answer, result or error; what was pushed before it is in `events` then."""
        self._say(json.dumps(_request(method, params, meta)))
        while True:
            line = self._hear()
            self.heard.append(line)
            answer: Json = json.loads(line)
            if "id" in answer:
                return answer
            self.events.append(answer["params"]["event"])

    def result(self, method: str, params: Json | None = None, **meta: str) -> Json:
        """Return the result of what has to be answered with one."""
        answer = self.ask(method, params, **meta)
        assert "result" in answer, f"{self.user} calls {method}: {answer['error']['message']}"
        result: Json = answer["result"]
        return result

    def tell(self, method: str, params: Json, **meta: str) -> None:
        """Make a call whose answer is not waited for; no other can be made before it is there."""
        self._say(json.dumps(_request(method, params, meta)))

    def close(self) -> None:
        """End the process, and with it the connection."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.read()
        self._process.stdout.close()
        self._process.wait(20)

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the connection of {self.user} was closed"
        return line


def kind_of(answer: Json) -> str:
    """Return `ok`, or the kind of the error."""
    return str(answer["error"]["data"]["kind"]) if "error" in answer else "ok"


def _request(method: str, params: Json | None, meta: dict[str, str]) -> Json:
    request: Json = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    return {**request, "meta": meta} if meta else request
