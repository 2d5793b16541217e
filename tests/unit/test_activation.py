"""Sockets from systemd: taken by name, from a process that really gets them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from supereziod.activation import ActivationError, listening_sockets


@pytest.fixture
def handed_over(tmp_path: Path) -> Iterator[list[int]]:
    """Two listening sockets on neighbouring descriptors, well above those in use."""
    with ExitStack() as stack:
        fds = []
        for number, name in enumerate(("control", "metrics")):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(tmp_path / name))
            listener.listen(64)
            os.dup2(listener.fileno(), 200 + number, inheritable=True)
            fds.append(200 + number)
        yield fds
        for fd in fds:
            try:
                os.close(fd)
            except OSError:
                continue  # the test closed it


def environment(*, fds: int, names: str, pid: int | None = None) -> dict[str, str]:
    return {
        "LISTEN_PID": str(os.getpid() if pid is None else pid),
        "LISTEN_FDS": str(fds),
        "LISTEN_FDNAMES": names,
        "OTHER": "kept",
    }


def test_without_systemd_there_are_none() -> None:
    assert listening_sockets({"OTHER": "kept"}) == {}


def test_sockets_come_by_name_and_stay_with_this_process(handed_over: list[int]) -> None:
    environ = environment(fds=2, names="control:metrics")
    found = listening_sockets(environ, first_fd=handed_over[0])
    with ExitStack() as stack:
        for sock in found.values():
            stack.enter_context(sock)
        assert list(found) == ["control", "metrics"]
        assert found["control"].getsockname().endswith("control")
        assert not os.get_inheritable(found["control"].fileno())
        assert not found["control"].getblocking()
    assert environ == {"OTHER": "kept"}


def test_sockets_meant_for_another_process_are_left_alone(handed_over: list[int]) -> None:
    environ = environment(fds=2, names="control:metrics", pid=os.getppid())
    assert listening_sockets(environ, first_fd=handed_over[0]) == {}
    assert environ == {"OTHER": "kept"}
    os.fstat(handed_over[0])


def test_a_socket_without_a_name_is_unknown(handed_over: list[int]) -> None:
    environ = environment(fds=1, names="")
    found = listening_sockets(environ, first_fd=handed_over[0])
    with found["unknown"]:
        assert list(found) == ["unknown"]


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"LISTEN_PID": "x", "LISTEN_FDS": "1"}, "cannot read LISTEN_PID='x'"),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": ""}, "cannot read"),
        (environment(fds=2, names="one"), "2 sockets were handed over, with the names 'one'"),
        (environment(fds=1, names="one"), "cannot use descriptor 900"),
    ],
)
def test_what_cannot_be_is_said(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ActivationError, match=message):
        listening_sockets(environ, first_fd=900)


def test_what_is_not_a_listening_socket_is_refused() -> None:
    left, right = socket.socketpair()
    with left, right:
        environ = environment(fds=1, names="control")
        with pytest.raises(ActivationError, match="not a listening Unix stream socket"):
            listening_sockets(environ, first_fd=left.fileno())


def test_the_real_hand_over_from_descriptor_three(tmp_path: Path) -> None:
    """As systemd does it: descriptor 3, and LISTEN_PID known only after the fork."""
    code = (
        "import os, sys\n"
        "os.dup2(int(sys.argv[1]), 3)\n"
        "from supereziod.activation import listening_sockets\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "sock = listening_sockets()['control']\n"
        "print(sock.fileno(), sock.getsockname(), 'LISTEN_FDS' in os.environ)\n"
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        done = subprocess.run(
            [sys.executable, "-c", code, str(listener.fileno())],
            pass_fds=[listener.fileno()],
            env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "control"},
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.split() == ["3", str(tmp_path / "s"), "False"]
