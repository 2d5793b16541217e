"""What is written as TOML is read as it was."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superezio.toml_text import dotted, quoted, value_text

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
    st.lists(st.one_of(TEXT, st.integers(0, 99)), max_size=3),
)


@given(path=st.lists(TEXT, min_size=1, max_size=4), value=VALUES)
def test_any_key_and_any_value_come_back(path: list[str], value: object) -> None:
    text = f"{dotted(path)} = {value_text(value)}"  # type: ignore[arg-type]  # strategies are wide
    found: object = tomllib.loads(text)
    for part in path:
        assert isinstance(found, dict)
        assert list(found) == [part]
        found = found[part]
    assert found == value
    assert type(found) is type(value)


@given(TEXT)
def test_what_a_terminal_would_act_on_is_escaped(text: str) -> None:
    assert quoted(text).isprintable()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (["leases", "grace"], "leases.grace"),
        (["breaker", "shared", "a.b/c", "open"], 'breaker.shared."a.b/c".open'),
        ([""], '""'),
    ],
)
def test_a_key_has_quotes_where_it_needs_them(path: list[str], text: str) -> None:
    assert dotted(path) == text
