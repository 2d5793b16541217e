"""A socket that systemd hands over, at a place that the command line does not name."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from live_daemon import LiveDaemon
from plain_client import call_once

#: As systemd does it: the socket is descriptor 3, and the variables name the process itself.
_AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "supereziod", *sys.argv[2:]])
"""


def test_the_daemon_knows_and_checks_itself_by_the_socket_it_was_given(tmp_path: Path) -> None:
    host = LiveDaemon(tmp_path / "host")
    path = tmp_path / "given.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(16)
        listening.set_inheritable(True)
        host.process = subprocess.Popen(
            [
                *(sys.executable, "-c", _AS_SYSTEMD, str(listening.fileno())),
                *("--config", str(tmp_path / "host" / "superezio.toml")),
                *("--socket", str(tmp_path / "not-here.sock")),
                *("--runtime-dir", str(host.runtime_dir)),
                *("--state-dir", str(tmp_path / "state")),
                *("--gpu-driver", "simulated", "--log-format", "json"),
            ],
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(tmp_path / "host" / "notify.sock"),
                "WATCHDOG_USEC": "900000",
            },
            close_fds=False,
            stderr=subprocess.DEVNULL,
        )
    try:
        host.await_notification("READY=1")
        for _ in range(5):
            host.await_notification("WATCHDOG=1")
        assert call_once(path, "system.info")["socket"] == str(path)
        checks = call_once(path, "health.get")["checks"]
        assert [each["passing"] for each in checks if each["check"] == "self_check"] == [True]
    finally:
        host.close()
    assert path.exists(), "systemd still listens there, for the next instance"
