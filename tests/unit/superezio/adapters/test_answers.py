from __future__ import annotations

from typing import Any

import pytest

from superezio.adapters.answers import retry_after_s, take_in

NOW_S = 1_800_000_000.0


class Told:
    """A guarded call that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def failure(self) -> None:
        self.told.append(("failure", None))

    def throttled(self, retry_after: float | None = None) -> None:
        self.told.append(("throttled", retry_after))

    def remaining(self, **left: Any) -> None:
        self.told.append(("remaining", left))


def told(status: int, **headers: str) -> list[tuple[str, Any]]:
    call: Any = Told()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    take_in(call, status, named, now_s=NOW_S)
    said: list[tuple[str, Any]] = call.told
    return said


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30.0),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0.0),
        (
            {
                "retry-after": "Thu, 01 Jan 1970 00:01:00 GMT",
                "date": "Thu, 01 Jan 1970 00:00:20 GMT",
            },
            40.0,
        ),
        ({"retry-after": "1e300"}, 366 * 86_400.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, now_s=NOW_S) == seconds


def test_a_server_error_is_a_failure_and_other_answers_are_none() -> None:
    assert told(500) == told(503, retry_after="5") == [("failure", None)]
    assert told(200) == told(404) == told(401) == []


def test_429_is_no_failure_but_a_block() -> None:
    assert told(429, retry_after="7") == [("throttled", 7.0)]
    assert told(429) == [("throttled", None)]


def test_what_is_left_is_passed_on() -> None:
    assert told(
        200,
        x_ratelimit_remaining_requests="59",
        x_ratelimit_reset_requests="1s",
        x_ratelimit_remaining_tokens="149984",
        x_ratelimit_reset_tokens="6m0s",
    ) == [
        (
            "remaining",
            {"requests": 59, "requests_reset": 1.0, "tokens": 149_984, "tokens_reset": 360.0},
        )
    ]
    (only,) = told(200, x_ratelimit_remaining_tokens="0", x_ratelimit_reset_tokens="20ms")
    assert only[1] == {"requests": None, "requests_reset": None, "tokens": 0, "tokens_reset": 0.02}


def test_what_cannot_be_read_is_not_passed_on() -> None:
    assert told(200, x_ratelimit_remaining_requests="many") == []
    assert told(200, x_ratelimit_remaining_requests="-1") == []
    ((_, left),) = told(
        200, x_ratelimit_remaining_requests="1", x_ratelimit_reset_requests="2027-01-15T08:00:30Z"
    )
    assert left["requests_reset"] is None
