"""A real supereziod for the tests: started, killed and watched from outside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from superezio.client import Client

READY_WITHIN_S = 20.0


class LiveDaemon:
    """`supereziod` in a directory of its own, on simulated GPUs unless told otherwise.

    It is told of a notify socket, so that READY=1 and STATUS= are awaited, not guessed.
    """

    def __init__(
        self,
        directory: Path,
        *,
        gpu_driver: str = "simulated",
        config: str = "",
        scenario: str = "",
        environment: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.socket_path = directory / "control.sock"
        self.log_path = directory / "daemon.log"
        self._config = directory / "superezio.toml"
        self._config.write_text(config)
        self._scenario = directory / "scenario.toml"
        self._scenario.write_text(scenario)
        self._gpu_driver = gpu_driver
        self._environment = environment or {}
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(directory / "notify.sock"))
        self.notified: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def runtime_dir(self) -> Path:
        """Where the leases and the simulated GPUs live."""
        return self.directory / "run"

    @property
    def pid(self) -> int:
        """The process id of the daemon that runs now."""
        assert self.process is not None
        return self.process.pid

    def configure(self, config: str) -> None:
        """Write another configuration, for a reload or the next start."""
        self._config.write_text(config)

    def start(self, *arguments: str, await_ready: bool = True) -> Self:
        """Start the daemon and wait for its READY=1."""
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(self.directory / "notify.sock"),
            "PYTHONFAULTHANDLER": "1",
            **self._environment,
        }
        command = [
            *(sys.executable, "-m", "supereziod"),
            *("--config", str(self._config)),
            *("--socket", str(self.socket_path)),
            *("--runtime-dir", str(self.runtime_dir)),
            *("--state-dir", str(self.directory / "state")),
            *("--gpu-driver", self._gpu_driver),
            *("--log-format", "json"),
            *arguments,
        ]
        if self._gpu_driver == "simulated":
            command += ["--scenario", str(self._scenario)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        if await_ready:
            self.await_notification("READY=1")
        return self

    def await_notification(self, prefix: str, *, within_s: float = READY_WITHIN_S) -> str:
        """Return the next notification line that starts with `prefix`, read from now on."""
        deadline = time.monotonic() + within_s
        while True:
            self._notify.settimeout(max(0.001, min(0.2, deadline - time.monotonic())))
            try:
                lines = self._notify.recv(65536).decode().splitlines()
            except TimeoutError:
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(
                        f"no {prefix} (exit code {self.process.poll()}):\n{self.log()[-4000:]}"
                    ) from None
                continue
            self.notified += lines
            for line in lines:
                if line.startswith(prefix):
                    return line

    def standin_environment(self) -> dict[str, str]:
        """Return the environment in which stand-ins find the simulated GPUs."""
        return {**os.environ, "SUPEREZIO_SIMULATED_DIR": str(self.runtime_dir / "simulated")}

    def client(self, timeout_s: float = 10.0) -> Client:
        """Return a new client of this daemon."""
        return Client(str(self.socket_path), timeout_s=timeout_s)

    def kill(self) -> None:
        """SIGKILL: what is not recorded now is lost."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, as systemd does; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def log(self) -> str:
        """All that the daemon has written so far."""
        return self.log_path.read_text(errors="replace")

    def await_log(self, text: str, *, within_s: float = READY_WITHIN_S) -> str:
        """Return all that the daemon has written once `text` is in it: a thread writes it."""
        deadline = time.monotonic() + within_s
        while text not in (log := self.log()):
            assert time.monotonic() < deadline, f"no {text} in the log:\n{log[-4000:]}"
            time.sleep(0.01)
        return log

    def close(self) -> None:
        """End the daemon, however it stands, and the notify socket."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._notify.close()
