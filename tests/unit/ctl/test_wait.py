from __future__ import annotations

import json
from typing import Any

import wire_samples
from fake_daemon import FakeDaemon, HangUp

Ctl = Any

STARTING = wire_samples.health_at_start()


def test_wait_asks_until_the_first_readings_are_in(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["health.get"] = [STARTING, STARTING, wire_samples.health("healthy")]
    assert ctl("wait") == 0
    assert len(daemon.asked("health.get")) == 3


def test_wait_gives_up_with_124_when_its_time_is_over(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["health.get"] = STARTING
    assert ctl("wait", "--timeout", "300ms") == 124
    assert "has not read every GPU yet" in ctl.err


def test_wait_gives_up_with_124_when_no_daemon_comes(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.stop()
    assert ctl("wait", "--timeout", "200ms") == 124
    assert f"no daemon came to {daemon.path} within 200ms" in ctl.err
    assert ctl("--json", "wait", "--timeout", "200ms") == 124
    assert json.loads(ctl.out)["error"]["kind"] == "reply_timeout"


def test_wait_takes_a_daemon_that_is_not_there_yet_for_one_that_comes(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.answers["health.get"] = [HangUp, HangUp, wire_samples.health("healthy")]
    assert ctl("wait") == 0
