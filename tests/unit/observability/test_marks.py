"""Marks go to the request that the code works for, and cost nothing where nobody keeps them."""

from __future__ import annotations

import itertools

from superezio.flight.marking import read_mark
from supereziod.observability.correlation import RequestScope, current_scope, in_scope, note
from supereziod.observability.marks import count_use, mark
from supereziod.observability.timeline import MAX_GPUS, MAX_MARKS, Timeline


def timeline() -> Timeline:
    return Timeline(itertools.count(100, 10).__next__)


def test_a_mark_has_its_time_and_says_what_it_is_about() -> None:
    kept = timeline()
    with in_scope(RequestScope(correlation_id="c", timeline=kept)):
        mark("queued")
        mark("granted", lease="1ea5e", gpus=["GPU-1", "GPU-2"])
        mark("reply")
    assert kept.marks == [("queued", 100), ("granted", 110), ("reply", 120)]
    assert (kept.lease, kept.gpus) == ("1ea5e", ("GPU-1", "GPU-2"))


def test_a_mark_may_say_more_than_its_name() -> None:
    kept = timeline()
    with in_scope(RequestScope(correlation_id="c", timeline=kept)):
        mark("limited", "tokens of host")
        mark("granted")
    told = [read_mark(text) for text, _ in kept.marks]
    assert told == [("limited", "tokens of host"), ("granted", None)]


def test_a_mark_outside_a_request_is_nothing() -> None:
    with in_scope(None):
        mark("queued", lease="x", gpus=["y"])
        count_use("leases")
    with in_scope(RequestScope(correlation_id="c")):
        mark("queued")
        count_use("leases")
        assert current_scope.get() == RequestScope(correlation_id="c")


def test_marks_and_gpus_are_bounded() -> None:
    kept = timeline()
    with in_scope(RequestScope(correlation_id="c", timeline=kept)):
        for number in range(2 * MAX_MARKS):
            mark(f"m{number}", gpus=[f"GPU-{each}" for each in range(2 * MAX_GPUS)])
    assert [name for name, _ in kept.marks] == [f"m{number}" for number in range(MAX_MARKS)]
    assert len(kept.gpus) == MAX_GPUS


def test_what_is_noted_of_a_request_is_in_its_record_too_and_marks_go_on() -> None:
    kept = timeline()
    with in_scope(RequestScope(correlation_id="c", timeline=kept, trace_id="7ace")):
        note(lease="1ea5e")
        note(gpu="GPU-1")
        mark("released")
        scope = current_scope.get()
        assert scope is not None
        assert scope.trace_id == "7ace"
    assert (kept.lease, kept.gpus) == ("1ea5e", ("GPU-1",))
    assert kept.marks == [("released", 100)]


def test_uses_are_counted_by_what_they_are() -> None:
    kept = timeline()
    with in_scope(RequestScope(correlation_id="c", timeline=kept)):
        count_use("leases")
        count_use("tokens", 900)
        count_use("leases")
    assert kept.uses == {"leases": 2, "tokens": 900}
