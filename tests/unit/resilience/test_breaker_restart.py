"""Breakers over a restart: what was known comes back, and never with a fresh burst."""

from __future__ import annotations

import json

import msgspec
import pytest
from structlog.testing import capture_logs

from superezio import wire
from superezio.errors import NotFoundError
from unit.resilience.breaker_host import ANNA, BEN, ROOT, SETTINGS, BreakerHost, with_rules


@pytest.mark.parametrize("kill", [False, True])
def test_open_is_open_after_a_restart_for_what_is_left_of_it(
    host: BreakerHost, *, kill: bool
) -> None:
    host.trip(ANNA)
    host.trip(ANNA, "mine")
    host.advance(3)
    host.restart(away_s=2, kill=kill)
    assert host.refused(BEN).retry_after_ms == 5000
    assert host.refused(ANNA, "mine").retry_after_ms == 5000
    host.advance(5)
    host.acquire(BEN)


def test_after_a_reboot_it_is_open_for_what_was_left(host: BreakerHost) -> None:
    host.trip(ANNA)
    host.advance(3)
    host.restart(reboot=True)
    assert host.refused(BEN).retry_after_ms == 7000


def test_half_open_comes_back_open_and_able_to_decide(host: BreakerHost) -> None:
    """Its permits went with the connections: none of them is waited for."""
    host.trip(ANNA)
    host.advance(10)
    host.acquire(ANNA)
    host.acquire(BEN)
    host.restart(kill=True)
    event = host.event()
    assert (event.type, event.data["reason"]) == ("breaker.opened", "restored")
    permits = [host.acquire(BEN), host.acquire(BEN)]
    for permit in permits:
        host.settle(BEN, permit, "success")
    assert host.state() == "closed"


def test_what_an_administrator_decided_stays(host: BreakerHost) -> None:
    host.breakers.force_open("openai", ROOT.who)
    host.breakers.disable("mine", ANNA.who)
    host.restart(reboot=True)
    host.refused(ANNA)
    assert host.state("mine", ANNA) == "disabled"


def test_an_outage_that_was_almost_noticed_is_noticed(host: BreakerHost) -> None:
    host.call(ANNA, "failure")
    host.restart()
    host.call(BEN, "failure")
    assert host.state() == "open"


def test_the_rules_that_a_caller_gave_come_back(host: BreakerHost) -> None:
    host.acquire(ANNA, "mine", rules=wire.BreakerRules(half_open_calls=1))
    host.restart()
    assert host.view("mine", ANNA).rules.half_open_calls == 1
    assert host.view("mine", ANNA).permits == 0
    before = host.breakers._book._kept[(ANNA.uid, "mine")]  # type: ignore[index]
    host.acquire(ANNA, "mine", rules=wire.BreakerRules(half_open_calls=1))
    assert before.breaker.generation == 2, "as it was, but for the restart"


def test_the_rules_of_the_new_configuration_hold(host: BreakerHost) -> None:
    host.call(ANNA, "failure")
    host.settings = with_rules(minimum_calls=3)
    host.restart()
    assert host.view().rules.minimum_calls == 3
    host.call(ANNA, "failure")
    assert host.state() == "closed"


def test_one_that_is_not_shared_any_more_is_not_there(host: BreakerHost) -> None:
    host.trip(ANNA)
    host.settings = msgspec.structs.replace(SETTINGS, shared={}, audiences={})
    host.restart()
    with pytest.raises(NotFoundError):
        host.view("openai", ANNA)
    host.acquire(ANNA)


def test_ones_own_is_forgotten_after_a_restart_too(host: BreakerHost) -> None:
    host.call(ANNA, "success", "mine")
    host.restart()
    host.advance(3600)
    with pytest.raises(NotFoundError):
        host.view("mine", ANNA)


# --- what is written ----------------------------------------------------------------------------


def test_where_nothing_is_new_nothing_is_written(host: BreakerHost) -> None:
    assert host.breakers.snapshot(final=False) is not None
    assert host.breakers.snapshot(final=False) is None
    host.view()
    host.breakers.list(ROOT.who)
    assert host.breakers.snapshot(final=False) is None
    host.call(ANNA, "success")
    assert host.breakers.snapshot(final=False) is not None
    assert host.breakers.snapshot(final=False) is None
    assert host.breakers.snapshot(final=True) is not None


def states(body: bytes | None) -> dict[str, str]:
    assert body is not None
    return {each["name"]: each["record"]["state"] for each in json.loads(body)["breakers"]}


def test_whatever_changes_is_written_and_what_does_not_stays(host: BreakerHost) -> None:
    host.trip(ANNA, "mine")
    assert states(host.breakers.snapshot(final=False)) == {"mine": "open", "openai": "closed"}
    host.breakers.force_open("openai", ROOT.who)
    assert states(host.breakers.snapshot(final=False)) == {"mine": "open", "openai": "forced_open"}
    host.advance(10)
    host.acquire(ANNA, "mine")
    assert states(host.breakers.snapshot(final=False))["mine"] == "half_open"
    # By the timer alone.
    host.advance(10)
    assert states(host.breakers.snapshot(final=False))["mine"] == "open"
    host.advance(4000)
    assert states(host.breakers.snapshot(final=False)) == {"openai": "forced_open"}


def test_what_is_due_is_made_up_for_before_it_is_written(host: BreakerHost) -> None:
    host.trip(ANNA)
    host.advance(10)
    host.acquire(ANNA)
    host.clock.advance(12)
    host.restart(kill=True)
    assert host.refused(ANNA).retry_after_ms == 18_000


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"{}", b"[]", b'{"breakers": 3}', b"\xff", b'{"breakers": [', b"null"],
)
def test_a_file_with_nonsense_is_said_and_breakers_begin_anew(
    host: BreakerHost, body: bytes
) -> None:
    with capture_logs() as logs:
        host.breakers.load(body)
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("breaker.unreadable", "warning")
    host.acquire(ANNA)


def test_a_name_whose_bytes_are_no_text_loses_nothing_else(host: BreakerHost) -> None:
    host.trip(ANNA)
    host.trip(ANNA, "mine")
    body = host.breakers.snapshot(final=True) or b""
    host.breakers.close()
    host.breakers = host._new()
    with capture_logs() as logs:
        host.breakers.load(body.replace(b'"mine"', b'"m\xffne"'))
    assert [line["event"] for line in logs] == ["breaker.unreadable"]
    host.refused(ANNA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("record", "state"), "ajar"),
        (("record", "counts"), [1]),
        (("record", "at_ns"), "now"),
        (("record",), None),
        (("owner",), "anna"),
        (("owner",), -1),
        (("name",), "no name at all"),
        (("name",), 7),
        (("rules",), {"open_s": "x"}),
        (("rules",), {"opened": 1}),
    ],
)
def test_one_that_makes_no_sense_loses_nothing_else(
    host: BreakerHost, path: tuple[str, ...], value: object
) -> None:
    host.trip(ANNA)
    host.trip(ANNA, "mine")
    host.trip(BEN, "his")
    body = json.loads(host.breakers.snapshot(final=True) or b"")
    part = next(each for each in body["breakers"] if each["name"] == "mine")
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    host.breakers.close()
    host.breakers = host._new()
    with capture_logs() as logs:
        host.breakers.load(json.dumps(body).encode())
    assert [line["event"] for line in logs] == ["breaker.unreadable"]
    host.refused(ANNA)
    host.refused(BEN, "his")
    host.acquire(ANNA, "mine")


@pytest.mark.parametrize("number", [-1, 0, 10**30, -(10**30)])
@pytest.mark.parametrize(
    "key", ["generation", "openings", "open_wait_ns", "open_until_ns", "healthy_since_ns", "at_ns"]
)
def test_a_number_that_cannot_be_leaves_a_breaker_that_can_decide(
    host: BreakerHost, key: str, number: int
) -> None:
    host.trip(ANNA)
    body = json.loads(host.breakers.snapshot(final=True) or b"")
    body["breakers"][0]["record"][key] = number
    host.breakers.close()
    host.breakers = host._new()
    host.breakers.load(json.dumps(body).encode())
    host.advance(200)
    for _ in range(2):
        host.call(ANNA, "success")
    assert host.state() == "closed"


def test_rules_that_do_not_work_any_more_give_way_to_those_of_the_configuration(
    host: BreakerHost,
) -> None:
    host.acquire(ANNA, "mine", rules=wire.BreakerRules(open_s=50.0))
    host.settings = with_rules(max_open_duration_ns=40_000_000_000)
    host.restart()
    assert host.view("mine", ANNA).rules.open_s == 10.0


def _urgent(host: BreakerHost) -> list[list[str]]:
    """Return what will be written at once: the states in it, of each time."""
    written: list[list[str]] = []

    def keep_soon() -> None:
        body = host.breakers.snapshot(final=False)
        assert body is not None
        written.append([each["record"]["state"] for each in json.loads(body)["breakers"]])

    host.breakers.when_urgent(keep_soon)
    return written


def test_what_opens_is_written_before_the_call_that_opened_it_is_answered(
    host: BreakerHost,
) -> None:
    written = _urgent(host)
    host.call(ANNA, "failure")
    assert written == []
    host.call(ANNA, "failure")
    assert written == [["open"]]


def test_what_comes_and_goes_by_itself_is_not_urgent(host: BreakerHost) -> None:
    host.trip(ANNA)
    written = _urgent(host)
    host.advance(10)
    for permit in [host.acquire(ANNA), host.acquire(ANNA)]:
        host.settle(ANNA, permit, "success")
    assert host.state() == "closed"
    assert written == []


@pytest.mark.parametrize(("open_s", "writes"), [(1.0, []), (1.001, [["open"]])])
def test_open_for_a_moment_is_not_urgent(
    host: BreakerHost, open_s: float, writes: list[list[str]]
) -> None:
    written = _urgent(host)
    host.settle(ANNA, host.acquire(ANNA), "throttled", retry_after_s=open_s)
    assert host.state() == "open"
    assert written == writes


@pytest.mark.parametrize(("longer_s", "times"), [(11.0, 1), (11.001, 2)])
def test_a_pause_that_grows_by_more_than_a_moment_is_urgent(
    host: BreakerHost, longer_s: float, times: int
) -> None:
    permits = [host.acquire(ANNA), host.acquire(BEN)]
    written = _urgent(host)
    host.settle(ANNA, permits[0], "throttled", retry_after_s=10)
    host.settle(BEN, permits[1], "throttled", retry_after_s=longer_s)
    assert written == [["open"]] * times


def test_what_is_ordered_is_urgent(host: BreakerHost) -> None:
    written = _urgent(host)
    host.breakers.force_open("openai", ROOT.who)
    host.breakers.disable("openai", ROOT.who)
    host.breakers.reset("openai", ROOT.who)
    assert written == [["forced_open"], ["disabled"], ["closed"]]
