"""A Redis of our own, on a Unix socket: it stores nothing on disk and listens nowhere else."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final, Self

PROGRAM: Final = "redis-server"
MISSING: Final = f"{PROGRAM} is not installed: apt-get install redis-server"
_PATIENCE_S: Final = 10.0


def installed() -> bool:
    return shutil.which(PROGRAM) is not None


class RedisServer:
    """`with RedisServer(directory) as server`: it answers on `server.socket_path`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.socket_path = directory / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the server that runs now."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        command = [
            *(PROGRAM, "--port", "0", "--unixsocket", str(self.socket_path)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no"),
            *("--dir", str(self._directory), "--logfile", str(self._directory / "redis.log")),
        ]
        self._process = subprocess.Popen(command)
        deadline = time.monotonic() + _PATIENCE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end()
                raise RuntimeError(
                    f"redis-server does not answer: see {self._directory / 'redis.log'}"
                )
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(self.socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(64) == b"+PONG\r\n"
        except (FileNotFoundError, ConnectionRefusedError):
            return False

    def _end(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
