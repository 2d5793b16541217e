"""Messages to systemd, over a real datagram socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from supereziod.health.notifier import Notifier, WatchdogRequest
from unit.health.host import Systemd


@pytest.fixture
def notifier(systemd: Systemd) -> Iterator[Notifier]:
    assert systemd.messages() == []
    notifier = Notifier(environ=systemd.environ)
    yield notifier
    notifier.close()


def test_assignments_go_out_as_one_message(notifier: Notifier, systemd: Systemd) -> None:
    assert notifier.send("READY=1", "STATUS=all is well")
    assert systemd.messages() == ["READY=1\nSTATUS=all is well"]


def test_every_character_arrives(notifier: Notifier, systemd: Systemd) -> None:
    notifier.send("STATUS=95 °C, heiß 🔥")
    assert systemd.messages() == ["STATUS=95 °C, heiß 🔥"]


def test_what_a_terminal_would_obey_is_escaped(notifier: Notifier, systemd: Systemd) -> None:
    notifier.send("STATUS=pid 7 (\x1b[2J\x9b31m\u202e) grew")
    assert systemd.messages() == [r"STATUS=pid 7 (\x1b[2J\x9b31m\u202e) grew"]


def test_an_abstract_address_is_reached(tmp_path: Path) -> None:
    name = f"superezio-test{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(f"\0{name}")
        notifier = Notifier(environ={"NOTIFY_SOCKET": f"@{name}"})
        assert notifier.send("READY=1")
        assert end.recv(100) == b"READY=1"
        notifier.close()


def test_a_text_with_line_ends_cannot_smuggle_in_an_assignment(
    notifier: Notifier, systemd: Systemd
) -> None:
    notifier.send("STATUS=hot\nWATCHDOG=1\r\n\0")
    assert systemd.messages() == ["STATUS=hot WATCHDOG=1   "]


def test_without_systemd_nothing_is_sent_and_nothing_is_logged() -> None:
    notifier = Notifier(environ={})
    with capture_logs() as logs:
        assert not notifier.send("READY=1")
    assert logs == []
    assert not notifier.enabled


def test_a_systemd_that_does_not_read_never_blocks_and_is_logged_once(
    notifier: Notifier, systemd: Systemd
) -> None:
    with capture_logs() as logs:
        sent = 0
        while notifier.send("WATCHDOG=1"):
            sent += 1
        assert not notifier.send("WATCHDOG=1")
    assert [(each["event"], each["what"]) for each in logs] == [("notify.failed", "WATCHDOG")]
    assert systemd.pings() == sent
    with capture_logs() as logs:
        assert notifier.send("WATCHDOG=1")
        assert notifier.send("WATCHDOG=1")
    assert [each["event"] for each in logs] == ["notify.recovered"]


def test_a_systemd_that_comes_back_with_a_new_socket_is_found_again(
    notifier: Notifier, systemd: Systemd
) -> None:
    notifier.send("READY=1")
    systemd.reexecute()
    with capture_logs():
        notifier.send("STATUS=a")
        assert notifier.send("STATUS=b")
    assert systemd.messages() == ["STATUS=b"]


def test_a_socket_that_is_not_there_is_logged_and_tried_again(
    notifier: Notifier, systemd: Systemd
) -> None:
    systemd.close()
    with capture_logs() as logs:
        assert not notifier.send("READY=1")
    assert logs[0]["event"] == "notify.failed"
    systemd.reexecute()
    assert notifier.send("READY=1")


@pytest.mark.parametrize(
    ("environ", "timeout_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({}, None),
    ],
)
def test_pings_are_wanted_only_where_systemd_asks_this_process(
    environ: dict[str, str], timeout_s: float | None
) -> None:
    request = WatchdogRequest.from_environment(environ, pid=7)
    assert (request.timeout_s if request is not None else None) == timeout_s
