"""superezioctl breaker."""

from __future__ import annotations

import getpass
import os
from typing import Any

import pytest
from msgspec import structs

import wire_samples
from ctl_runner import Ctl
from fake_daemon import FakeDaemon
from superezio import errors, wire
from superezioctl.completion.candidates import ask

METHODS = {
    "show": "breaker.get",
    "open": "breaker.force_open",
    "close": "breaker.reset",
    "disable": "breaker.disable",
    "reset": "breaker.reset",
}


def test_the_list_has_a_line_for_each_breaker(ctl: Ctl, daemon: FakeDaemon) -> None:
    mine = wire_samples.breaker(
        name="mine/llm", uid=os.getuid(), shared=False, state="half_open", failure_rate=0.0
    )
    daemon.answers["breaker.list"] = wire.BreakerList(breakers=[mine, wire_samples.breaker()])
    assert ctl("breaker", "list") == 0
    head, own, shared = ctl.out.splitlines()
    assert head.split()[:3] == ["BREAKER", "STATE", "FOR"]
    assert own.split()[:2] == ["mine/llm", "half-open"]
    assert own.split()[-1] == getpass.getuser()
    assert shared.split() == ["openai", "open", "5s", "26s", "20", "60%", "5%", "2", "40", "shared"]
    assert ctl.json("breaker", "list")["breakers"][1]["name"] == "openai"


@pytest.mark.parametrize(
    ("changes", "following"),
    [
        ({"state": "open", "retry_after_ms": None}, "now"),
        ({"state": "closed", "retry_after_ms": None}, "now"),
        ({"state": "open", "retry_after_ms": 61_000}, "1m 1s"),
        ({"state": "half_open", "retry_after_ms": 2000}, "2s"),
        ({"state": "forced_open", "retry_after_ms": 30_000}, "-"),
    ],
)
def test_the_list_says_when_the_next_call_is_let_through(
    ctl: Ctl, daemon: FakeDaemon, changes: dict[str, Any], following: str
) -> None:
    each = wire_samples.breaker(state_s=899, **changes)
    daemon.answers["breaker.list"] = wire.BreakerList(breakers=[each])
    assert ctl("breaker", "list") == 0
    head, line = ctl.out.splitlines()
    start = head.index("NEXT")
    assert line[start : head.index("CALLS")].strip() == following


def test_where_there_are_none_it_says_when_there_will_be(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["breaker.list"] = wire.BreakerList(breakers=[])
    assert ctl("breaker", "list") == 0
    assert ctl.out == "no breakers: one is there from its first call on\n"


@pytest.mark.usefixtures("daemon")
def test_one_breaker_is_shown_with_its_rules_in_words(ctl: Ctl) -> None:
    assert ctl("breaker", "show", "openai") == 0
    text = " ".join(ctl.out.split())
    for said in (
        "breaker openai",
        "of those who share it",
        "state open, for 5s",
        "next call in 26s",
        "calls 20 counted, 2 out, 40 rejected",
        "failed 12 (60.0%)",
        "opens where 50% of the last 100 calls failed, or 100% took longer than 1m; from 20 on",
        "for 30s, doubling up to 5m",
        "then 3 calls decide, within as long as it was open",
        "Retry-After is believed up to 15m",
    ):
        assert said in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": "closed", "retry_after_ms": None}, "next call is let through"),
        (
            {"state": "open", "retry_after_ms": None},
            "next call is let through: its time is over, and the calls to come decide",
        ),
        (
            {"state": "forced_open"},
            "next call is rejected, until `superezioctl breaker close openai`",
        ),
        (
            {"state": "forced_open", "shared": False, "uid": 4711},
            "next call is rejected, until `superezioctl breaker close openai --uid 4711`",
        ),
        ({"opened_for": "failure_rate"}, "because too many calls failed"),
        ({"opened_for": "slow_call_rate"}, "because too many calls were slow"),
        ({"opened_for": "retry_after"}, "because the service said that it has had enough for now"),
        ({"opened_for": "half_open_wait"}, "because the calls that were to decide did not come"),
        (
            {"opened_for": "forced_open", "opened_by": 0},
            "because root ordered it (`superezioctl breaker open`)",
        ),
        ({"opened_for": "forced_open"}, "because that was ordered"),
        ({"shared": False, "uid": os.getuid()}, f"of {getpass.getuser()}"),
        (
            {"rules": wire.BreakerRules(window_s=60, half_open_wait_s=5.0)},
            "opens where - of the calls of the last 1m failed",
        ),
    ],
)
def test_what_there_is_to_know_is_said(
    ctl: Ctl, daemon: FakeDaemon, changes: dict[str, Any], said: str
) -> None:
    daemon.answers["breaker.get"] = wire_samples.breaker(**changes)
    assert ctl("breaker", "show", "openai") == 0
    assert said in " ".join(ctl.out.split())


@pytest.mark.parametrize(("command", "method"), METHODS.items())
def test_each_command_is_a_call_and_json_its_answer(
    ctl: Ctl, daemon: FakeDaemon, command: str, method: str
) -> None:
    assert ctl.json("breaker", command, "openai")["name"] == "openai"
    assert daemon.params_of(method) == {"name": "openai"}
    assert ctl("breaker", command, "mine", "--uid", "4711") == 0
    assert daemon.params_of(method) == {"name": "mine", "uid": 4711}
    assert ctl("breaker", command, "mine", "--uid", getpass.getuser()) == 0
    assert daemon.params_of(method) == {"name": "mine", "uid": os.getuid()}


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            "open",
            "breaker openai rejects every call: `superezioctl breaker close openai` ends that\n",
        ),
        ("close", "breaker openai lets calls through\n"),
        (
            "disable",
            "breaker openai lets every call through, and counts none: `superezioctl breaker close",
        ),
        ("reset", "breaker openai begins anew, closed\n"),
    ],
)
def test_what_was_done_is_said(ctl: Ctl, command: str, said: str) -> None:
    assert ctl("breaker", command, "openai") == 0
    assert ctl.out.startswith(said)
    assert ctl.err == ""


@pytest.mark.parametrize("command", ["open", "disable"])
def test_an_order_over_a_name_that_nobody_has_used_is_done_and_remarked(
    ctl: Ctl, daemon: FakeDaemon, command: str
) -> None:
    sample = wire_samples.breaker(name="opneai", uid=4711, shared=False, called=False)
    daemon.answers[METHODS[command]] = sample
    assert ctl("breaker", command, "opneai", "--uid", "4711") == 0
    assert "`superezioctl breaker close opneai --uid 4711`" in ctl.out
    assert "nobody has used the breaker opneai yet" in ctl.err
    assert ctl.json("breaker", command, "opneai")["called"] is False
    daemon.answers[METHODS[command]] = wire_samples.breaker(shared=True, called=False)
    assert ctl("breaker", command, "openai") == 0
    assert "nobody" not in ctl.err, "the configuration has the name"


def test_help_says_that_close_and_reset_are_one(ctl: Ctl) -> None:
    assert ctl("breaker", "close", "--help") == 0
    assert "It is the same as `breaker reset`" in " ".join(ctl.out.split())


def test_who_opened_a_shared_one_is_shown_and_on_whose_word(ctl: Ctl, daemon: FakeDaemon) -> None:
    reports = [wire.BreakerReports(uid=0, reports=19), wire.BreakerReports(uid=4711, reports=1)]
    daemon.answers["breaker.get"] = wire_samples.breaker(opened_by=4711, reported_by=reports)
    assert ctl("breaker", "show", "openai") == 0
    text = " ".join(ctl.out.split())
    assert "opened by 4711" in text
    assert "reported by root 19, 4711 1 (failures" in text
    assert ctl.json("breaker", "show", "openai")["reported_by"][0] == {"uid": 0, "reports": 19}


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        (
            3,
            "opens again (called seldom? set half_open_calls = 1, or a longer half_open_wait)",
        ),
        (1, "then 1 call decides, within as long as it was open, or it opens again forgives"),
    ],
)
def test_what_to_set_where_few_call_is_said(
    ctl: Ctl, daemon: FakeDaemon, calls: int, said: str
) -> None:
    """HALF_OPEN always has a maximum wait: with too few calls in it, it opens again."""
    rules = wire_samples.breaker().rules
    changed = structs.replace(rules, half_open_calls=calls)
    daemon.answers["breaker.get"] = wire_samples.breaker(rules=changed)
    assert ctl("breaker", "show", "openai") == 0
    assert said in " ".join(ctl.out.split())


def test_whose_it_is_was_asked_by_another_option_before(ctl: Ctl, daemon: FakeDaemon) -> None:
    """What scripts have is still read; help tells of one way."""
    assert ctl("breaker", "show", "mine", "--user", "4711") == 0
    assert daemon.params_of("breaker.get") == {"name": "mine", "uid": 4711}
    assert ctl("breaker", "show", "--help") == 0
    assert "--uid" in ctl.out
    assert "--user" not in ctl.out


def test_a_user_whom_the_host_does_not_know_is_a_mistake(ctl: Ctl) -> None:
    assert ctl("breaker", "show", "mine", "--uid", "no-such-user") == 2
    assert "--uid: this host has no user 'no-such-user'" in ctl.err


def test_a_refusal_is_exit_code_4(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["breaker.force_open"] = errors.PermissionDeniedError("only an admin may")
    assert ctl("breaker", "open", "openai") == 4
    daemon.answers["breaker.acquire"] = errors.BreakerOpenError("it is open", retry_after_ms=5)
    assert ctl("rpc", "breaker.acquire", '{"name": "openai"}') == 4
    daemon.answers["breaker.get"] = errors.NotFoundError("there is no breaker x")
    assert ctl("breaker", "show", "x") == 1


def test_names_are_completed(daemon: FakeDaemon) -> None:
    assert ask("breakers", str(daemon.path)) == [("mine/llm", "closed"), ("openai", "open")]


def test_shells_get_them_by_the_command_that_their_scripts_call(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    assert ctl("completion", "breakers") == 0
    assert [line.split("\t")[0] for line in ctl.out.splitlines()] == ["mine/llm", "openai"]
    assert daemon.asked("breaker.list")
