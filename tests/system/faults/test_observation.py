"""The judge of the faults sees what it is there to see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from system.faults.fault import Outcome, Sight, table
from system.faults.observation import observation
from system.faults.test_faults import FAULTS

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
    assert len(observation(_log((what, 2.0, "stands", "stale_lease"))).wrong) == 1


def test_the_table_has_a_row_for_each_and_says_which_fault_was_not_seen() -> None:
    seen = Outcome("SIGKILL", "252", Sight("a", "b", "c"), observation(_log()))
    unseen = Outcome("suspend", "252", None, None, "it did not sleep")
    head, first, second = (line.split(" | ") for line in table([seen, unseen]))
    assert [cell.strip() for cell in head][-1] == "journal"
    assert [cell.strip() for cell in first] == [
        *("SIGKILL", "252", "a", "nothing", "2.00 s", "b", "c")
    ]
    assert second[2].strip() == "NOT SEEN: it did not sleep"


def test_every_fault_has_a_name_of_its_own() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) == 24
    assert Path(__file__).with_name("observer.py").exists()
