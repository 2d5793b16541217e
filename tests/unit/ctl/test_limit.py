"""superezioctl limit: what is left of what, for whom, until when."""

from __future__ import annotations

import getpass
import os

from ctl_runner import Ctl
from fake_daemon import FakeDaemon
from superezio import errors, wire
from wire_samples import limit_state


def test_each_budget_of_each_limit_has_a_line(ctl: Ctl, daemon: FakeDaemon) -> None:
    own = limit_state(name="mine", uid=os.geteuid(), shared=False, spend=[], budgets=[])
    daemon.answers["limit.list"] = wire.LimitList(limits=[limit_state(), own])
    assert ctl("limit", "list") == 0
    head, tokens, money, slots, month, mine = ctl.out.splitlines()
    assert head.split() == ["LIMIT", "FOR", "OF", "LEFT", "AT", "ONCE", "RATE", "BLOCKED"]
    assert tokens.split() == [
        "openai", "all", "tokens", "88100", "90000", "90000", "/", "1m", "for", "12s",
    ]  # fmt: skip
    assert "key acme" in money
    for amount in ("1.2345 USD", "2.50 USD", "10.00 USD / 1h"):
        assert amount in money
    assert slots.split()[2:5] == ["slots", "1", "4"]
    assert "money of 2026-11" in month
    assert "49.50 USD" in month
    assert "200.00 USD / month" in month
    assert mine.startswith(f"mine ({getpass.getuser()})")
    assert ctl.json("limit", "list")["limits"][0]["name"] == "openai"


def test_without_any_limit_it_says_how_to_get_one(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["limit.list"] = wire.LimitList(limits=[])
    assert ctl("limit", "list") == 0
    assert "limit.acquire" in ctl.out


def test_one_limit_says_who_uses_it_too(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["limit.peek"] = limit_state()
    assert ctl("limit", "show", "openai", "--key", "acme") == 0
    assert ctl.out.startswith("limit openai, shared: 3 reserved, 2 waiting\n")
    assert daemon.requests[-1]["params"] == {"name": "openai", "key": "acme"}
    assert ctl.json("limit", "show", "openai", "--uid", "7")["waiters"] == 2
    assert daemon.requests[-1]["params"] == {"name": "openai", "uid": 7}
    assert ctl("limit", "show", "openai", "--uid", "root") == 0
    assert daemon.requests[-1]["params"] == {"name": "openai", "uid": 0}


def test_that_there_is_more_than_is_shown_stands_below_it(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["limit.list"] = wire.LimitList(limits=[limit_state(left_out=250)])
    daemon.answers["limit.peek"] = limit_state(left_out=50)
    shown = len({(each.scope, each.scope_name) for each in limit_state().budgets})
    assert ctl("limit", "list") == 0
    more = "\nopenai has 250 scopes more (users, keys or sessions):"
    assert f"{more} superezioctl limit show openai --skip {shown}\n" in ctl.out
    assert ctl("limit", "show", "openai", "--skip", "200") == 0
    assert daemon.requests[-1]["params"] == {"name": "openai", "skip": 200}
    assert ctl.out.endswith(f" superezioctl limit show openai --skip {200 + shown}\n")
    assert ctl.json("limit", "list")["limits"][0]["left_out"] == 250


def test_that_a_limit_began_with_nothing_stands_below_it(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["limit.peek"] = limit_state(note="it began with nothing 3s ago")
    assert ctl("limit", "show", "openai") == 0
    assert ctl.out.endswith("\nit began with nothing 3s ago\n")


def test_a_reset_asks_for_money_only_where_told_to(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["limit.reset"] = wire.Done(done=True)
    assert ctl("limit", "reset", "openai") == 0
    assert ctl.out == "all of the limit openai is there again; money stays spent: --spend\n"
    assert daemon.params_of("limit.reset") == {"name": "openai", "spend": False}
    daemon.answers["limit.peek"] = limit_state(spend=[])
    assert ctl("limit", "reset", "openai") == 0
    assert ctl.out == "all of the limit openai is there again\n"
    assert ctl("limit", "reset", "openai", "--spend") == 0
    assert daemon.requests[-1]["params"] == {"name": "openai", "spend": True}
    assert ctl.out.endswith("and nothing counts as spent\n")
    assert ctl.json("limit", "reset", "openai") == {"done": True}


def test_a_refusal_is_told_and_has_its_exit_code(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["limit.reset"] = errors.PermissionDeniedError("it is shared: only an admin can")
    assert ctl("limit", "reset", "openai") == 4
    assert "only an admin" in ctl.err
