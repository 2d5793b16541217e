"""traceparent: what the W3C says of it, to the letter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superezio.traceparent import TraceContext, parse_traceparent

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_the_example_of_the_standard_is_read() -> None:
    assert parse_traceparent(f"00-{TRACE}-{PARENT}-01") == TraceContext(TRACE, PARENT)


@pytest.mark.parametrize(
    "header",
    [
        f"01-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like",
    ],
)
def test_of_a_later_version_what_is_known_is_read(header: str) -> None:
    assert parse_traceparent(header) == TraceContext(TRACE, PARENT)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01-",
        f"00-{TRACE}-{PARENT}-01-more",
        f"cc-{TRACE}-{PARENT}-01.more",
        f"ff-{TRACE}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f" 00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01\n",
        f"00-{TRACE}-{PARENT}-0g",
        f"00-{TRACE[:-1]}\u0661-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-{'x' * 600}",
    ],
)
def test_what_is_not_one_is_as_none(header: str) -> None:
    assert parse_traceparent(header) is None


@given(st.text(max_size=80))
def test_no_text_makes_it_fail(header: str) -> None:
    parse_traceparent(header)
