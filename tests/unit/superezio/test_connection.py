from __future__ import annotations

import errno
import itertools
import socket
import time
from pathlib import Path

import pytest

from fake_daemon import FakeDaemon, Silence
from superezio.connection import (
    Backoff,
    Connection,
    cannot_connect,
    connect_once,
    may_come_back,
)
from superezio.errors import (
    ConnectionLostError,
    DaemonNotRunningError,
    PermissionDeniedError,
    ReplyTimeoutError,
)


def soon() -> int:
    return time.monotonic_ns() + 5_000_000_000


def test_pauses_double_up_to_a_second_and_end_with_the_deadline() -> None:
    now_ns = 0
    backoff = Backoff(deadline_ns=10_000_000_000, clock=lambda: now_ns)
    pauses = [backoff.next_pause_s() for _ in range(10)]
    assert all(pause is not None and pause <= 1.0 for pause in pauses)
    assert pauses[1] == pytest.approx(2 * (pauses[0] or 0))
    now_ns = 9_999_000_000
    assert backoff.next_pause_s() == pytest.approx(0.001)
    now_ns = 10_000_000_000
    assert backoff.next_pause_s() is None


def test_without_a_deadline_there_is_always_another_try() -> None:
    backoff = Backoff(deadline_ns=None, clock=lambda: 1 << 60)
    assert all(backoff.next_pause_s() for _ in range(20))


@pytest.mark.parametrize(
    ("number", "error", "word"),
    [
        (errno.ENOENT, DaemonNotRunningError, "no socket"),
        (errno.ECONNREFUSED, DaemonNotRunningError, "nothing listens"),
        (errno.ENOTSOCK, DaemonNotRunningError, "cannot connect"),
        (errno.EACCES, PermissionDeniedError, "permission denied"),
        (errno.EAGAIN, ReplyTimeoutError, "does not accept"),
    ],
)
def test_a_failed_connect_says_what_is_wrong(
    number: int, error: type[Exception], word: str
) -> None:
    failure = cannot_connect("/run/x.sock", OSError(number, "strange"))
    assert type(failure) is error
    assert word in failure.message


def test_only_the_patient_wait_for_a_daemon_that_is_not_there() -> None:
    gone = OSError(errno.ECONNREFUSED, "refused")
    assert may_come_back(gone, patient=True)
    assert not may_come_back(gone, patient=False)
    assert may_come_back(OSError(errno.EAGAIN, "full"), patient=False)
    assert not may_come_back(OSError(errno.EACCES, "denied"), patient=True)


def test_a_full_backlog_is_told_at_once_and_retried_until_the_deadline(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(0)
    waiting = connect_once(path)
    ticks = itertools.count(0, 30_000_000)
    pauses: list[float] = []
    connection = Connection(path, clock=lambda: next(ticks), sleep=pauses.append)
    with pytest.raises(ReplyTimeoutError, match="does not accept"):
        connection.connect(200_000_000, patient=False)
    assert pauses
    waiting.close()
    listening.close()


def test_lines_come_whole_however_they_arrive(daemon: FakeDaemon) -> None:
    connection = Connection(str(daemon.path))
    connection.connect(soon(), patient=False)
    connection.send(b'{"method":"system.ping","id":1}\n', soon())
    daemon.await_asked("system.ping")
    assert b'"pid":77' in connection.receive(soon())
    daemon.push_raw(b'{"a":1}\n{"b":')
    assert connection.receive(soon()) == b'{"a":1}'
    daemon.push_raw(b"2}\n")
    assert connection.receive(soon()) == b'{"b":2}'
    assert connection.fileno() >= 0
    connection.close()
    connection.close()
    assert connection.fileno() == -1


def test_a_late_answer_is_a_timeout_that_keeps_the_connection(daemon: FakeDaemon) -> None:
    daemon.answers["system.ping"] = Silence
    connection = Connection(str(daemon.path))
    connection.connect(soon(), patient=False)
    connection.send(b'{"method":"system.ping","id":1}\n', soon())
    with pytest.raises(ReplyTimeoutError):
        connection.receive(time.monotonic_ns() + 20_000_000)
    with pytest.raises(ReplyTimeoutError):
        connection.receive(time.monotonic_ns() - 1)
    assert connection.connected
    assert not connection.broken()
    connection.close()


def test_a_daemon_that_does_not_read_is_a_timeout_that_ends_the_connection(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        connection = Connection(path)
        connection.connect(soon(), patient=False)
        with pytest.raises(ReplyTimeoutError):
            connection.send(b"x" * (8 << 20), time.monotonic_ns() + 20_000_000)
        assert not connection.connected


def test_a_daemon_that_goes_is_noticed(daemon: FakeDaemon) -> None:
    connection = Connection(str(daemon.path))
    assert connection.broken()
    connection.connect(soon(), patient=False)
    connection.send(b'{"method":"system.ping","id":1}\n', soon())
    connection.receive(None)
    daemon.stop()
    with pytest.raises(ConnectionLostError, match="closed the connection"):
        connection.receive(soon())
    with pytest.raises(ConnectionLostError, match="not connected"):
        connection.send(b"\n", soon())


def test_a_connection_that_ended_meanwhile_is_broken(daemon: FakeDaemon) -> None:
    connection = Connection(str(daemon.path))
    connection.connect(soon(), patient=False)
    connection.send(b'{"method":"system.ping","id":1}\n', soon())
    connection.receive(soon())
    daemon.close()
    assert connection.broken()
    connection.close()
