"""Money per calendar window: never more than the cap is promised, whatever the clock does."""

from __future__ import annotations

import pytest

from superezio.resilience.spend_cap import OverCapError, SpendCap

APRIL_30 = {"day": "2031-04-30", "month": "2031-04"}
MAY_1 = {"day": "2031-05-01", "month": "2031-05"}
APRIL_29 = {"day": "2031-04-29", "month": "2031-04"}


def test_a_window_that_is_spent_is_named_and_the_next_one_is_whole() -> None:
    cap = SpendCap({"day": 10, "month": 15})
    cap.spend(APRIL_29, 10)
    assert cap.may_spend(APRIL_29, 1) == "day"
    assert cap.may_spend(APRIL_30, 5) is None
    assert cap.may_spend(APRIL_30, 6) == "month"
    assert cap.may_spend(MAY_1, 10) is None


def test_what_names_no_cost_needs_a_window_with_something_left() -> None:
    cap = SpendCap({"day": 10, "month": 15})
    cap.spend(APRIL_29, 9)
    assert cap.may_spend(APRIL_29, 0) is None
    cap.spend(APRIL_29, 1)
    assert cap.may_spend(APRIL_29, 0) == "day"
    assert cap.may_spend(APRIL_30, 0) is None


def test_more_than_a_whole_window_is_an_error_and_not_a_wait() -> None:
    cap = SpendCap({"day": 10, "month": 15})
    with pytest.raises(OverCapError, match="11 is more than the 10 of a whole day"):
        cap.may_spend(APRIL_30, 11)
    with pytest.raises(ValueError, match="negative"):
        cap.may_spend(APRIL_30, -1)


def test_a_clock_that_goes_back_opens_no_window_again() -> None:
    cap = SpendCap({"day": 10})
    cap.spend(APRIL_29, 10)
    cap.spend(APRIL_30, 8)
    assert cap.may_spend(APRIL_29, 3) == "day"
    cap.spend(APRIL_29, 2)
    assert cap.spent("day", "2031-04-30") == 10


def test_what_was_spent_in_the_end_counts_even_beyond_the_cap() -> None:
    cap = SpendCap({"day": 10})
    cap.settle(cap.spend(APRIL_30, 4), 25)
    assert cap.spent("day", "2031-04-30") == 25
    assert cap.may_spend(APRIL_30, 1) == "day"
    cap.settle(cap.spend(MAY_1, 8), 3)
    assert cap.may_spend(MAY_1, 7) is None


def test_a_window_that_is_over_gives_nothing_back_to_the_one_that_is_now() -> None:
    cap = SpendCap({"day": 10})
    less, more = cap.spend(APRIL_29, 4), cap.spend(APRIL_29, 4)
    cap.spend(APRIL_30, 5)
    cap.settle(less, 0)
    assert cap.spent("day", "2031-04-30") == 5
    cap.settle(more, 6)
    assert cap.spent("day", "2031-04-30") == 7


def test_what_is_spent_is_kept_over_a_restart() -> None:
    cap = SpendCap({"day": 10})
    cap.spend(APRIL_30, 9)
    again = SpendCap({"day": 10, "month": 9}, cap.state())
    assert again.may_spend(APRIL_30, 2) == "day"
    assert again.may_spend(APRIL_30, 1) == "month", "what no cap was on was counted too"


def test_a_senseless_cap_is_refused() -> None:
    with pytest.raises(ValueError, match="per day"):
        SpendCap({"day": 0})
