"""The judge of the faults sees what it is there to see."""

from __future__ import annotations

import json

import pytest

from system.faults.fault import Fault, Outcome, Sight
from system.faults.host import FaultyHost
from system.faults.observation import Refusal, observation
from system.faults.table import report, table

_SOUND = (
    ("standing", 0.0, "process", "stands"),
    ("pinged", 1.0, "kept", 0.9, 7),
    ("pinged", 1.0, "fresh", 0.9, 7),
    ("granted", 1.1, "held"),
    ("granted", 1.2, "given"),
    ("releasing", 1.3, "given"),
    ("pinged", 1.5, "kept", 1.4, 8),
    ("pinged", 3.0, "fresh", 1.4, 8),
    ("listed", 3.1, ["stands", "held"]),
    ("ended", 3.2),
)


def _log(*more: tuple[object, ...], without: tuple[str, ...] = ()) -> list[str]:
    kept = [entry for entry in _SOUND if entry[0] not in without]
    return [json.dumps(entry) for entry in (*kept, *more)]


def test_a_log_of_which_nothing_is_missing_is_no_loss() -> None:
    seen = observation(_log())
    assert seen.loss == "nothing"
    assert (seen.standing, seen.grants, seen.pids) == (1, 2, (7, 8))
    assert seen.answers == {"kept": 2, "fresh": 2}


def test_away_is_the_longest_time_between_two_answers_of_one_connection() -> None:
    assert observation(_log()).away_s == pytest.approx(2.0)


def test_a_lease_that_stood_and_a_grant_that_was_told_are_lost_where_none_lists_them() -> None:
    seen = observation(_log(("listed", 3.1, []), without=("listed",)))
    assert seen.lost == ("held", "stands")
    assert seen.loss == "2 leases"


def test_a_lease_that_nobody_was_told_of_has_leaked() -> None:
    seen = observation(_log(("listed", 3.1, ["stands", "held", "whose"]), without=("listed",)))
    assert (seen.lost, seen.leaked) == ((), ("whose",))


def test_what_is_never_answered_is_missing() -> None:
    assert observation(_log(("missing", 3.0, "Thread-3"))).missing == ("Thread-3",)
    assert observation(_log(without=("ended",))).missing == ("the end",)


@pytest.mark.parametrize("what", ["not_released", "not_renewed", "not_resumed"])
def test_an_own_lease_that_is_refused_is_wrong(what: str) -> None:
    seen = observation(_log(*[(what, at, "stands", "stale_lease") for at in (2.0, 2.1)]))
    assert seen.wrong == (Refusal("stands", what, "stale_lease"),)


def test_a_lease_whose_release_is_refused_was_not_given_back() -> None:
    assert observation(_log(("not_released", 2.0, "given", "stale_lease"))).lost == ("given",)


_GONE = (
    ("standing", 0.0, "ttl", "renewed"),
    ("standing", 0.0, "connection", "resumed"),
    ("not_renewed", 2.0, "renewed", "stale_lease"),
    ("not_resumed", 2.0, "resumed", "stale_lease"),
    ("listed", 3.1, ["held"]),
)


def _provoke(_host: FaultyHost) -> Sight:
    return Sight("a", "b", "c")


def _is_borne(*gone: tuple[object, ...], **judged: bool) -> bool:
    fault = Fault(name="any", provoke=_provoke, away_s=5, **judged)
    try:
        fault.judge(observation(_log(*gone, without=("listed",))))
    except AssertionError:
        return False
    return True


def test_a_loss_is_borne_only_where_it_is_said_to_all_who_look_after_a_lease() -> None:
    assert _is_borne(*_GONE, says_loss=True)
    assert not _is_borne(*_GONE)
    for silent in (_GONE[2], _GONE[3]):
        assert not _is_borne(*(each for each in _GONE if each != silent), says_loss=True)
    otherwise = ("not_renewed", 2.0, "held", "stale_lease")
    assert not _is_borne(*_GONE, otherwise, says_loss=True), "that lease stands"
    assert not _is_borne(*_GONE, ("not_renewed", 2.0, "renewed", "busy"), says_loss=True)


def test_what_lives_on_answers_with_one_pid() -> None:
    stood = (
        ("standing", 0.0, "ttl", "renewed"),
        ("standing", 0.0, "connection", "resumed"),
        ("listed", 3.1, ["stands", "held", "renewed", "resumed"]),
    )
    assert _is_borne(*stood)
    assert not _is_borne(*stood, lives_on=True)


def test_the_table_has_a_row_for_each_and_says_which_fault_was_not_seen() -> None:
    seen = Outcome("SIGKILL", "252", Sight("a", "b", "c"), observation(_log()))
    unseen = Outcome("suspend", "252", None, None, "it did not sleep")
    head, first, second = (line.split(" | ") for line in table([seen, unseen]))
    assert [cell.strip() for cell in head][-1] == "seen to happen"
    assert [cell.strip() for cell in first] == ["SIGKILL", "252", "nothing", "2.00 s", "a"]
    assert second[4].strip() == "NOT SEEN: it did not sleep"


def test_what_an_administrator_sees_is_shown_once_for_each_fault() -> None:
    rows = [
        Outcome("SIGKILL", systemd, Sight("a", "its status", "said"), observation(_log()))
        for systemd in ("252", "257")
    ]
    lines = list(report(rows))
    assert [line.split() for line in lines if "its status" in line] == [["status", "its", "status"]]
    assert max(map(len, report([*rows, Outcome("x", "252", None, None, "y" * 999)]))) < 160
