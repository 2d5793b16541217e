from __future__ import annotations

import enum
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superezio.guarding import keys


def embed(text: str, *more: Any, model: str = "small", **options: Any) -> None: ...


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)


def same(one: object, other: object) -> bool:
    """Whether two plain values are the same, with their types: the definition, not the code."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return repr(one) == repr(other)
    return one == other


@given(PLAIN, PLAIN)
def test_two_values_have_one_text_only_if_they_are_the_same(one: object, other: object) -> None:
    assert (keys.canonical(one) == keys.canonical(other)) == same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (1, "1"),
        ("None", None),
        ((1, 2), [1, 2]),
        ([1, [2]], [[1], 2]),
        ({"a": 1}, '{"a":1}'),
        (b"a", "a"),
        (0.0, -0.0),
        ("a,b", ["a", "b"]),
    ],
)
def test_what_is_alike_is_not_the_same(one: object, other: object) -> None:
    assert keys.canonical(one) != keys.canonical(other)


def test_a_dict_is_alike_in_any_order() -> None:
    assert keys.canonical({"a": 1, "b": 2}) == keys.canonical({"b": 2, "a": 1})


def test_a_call_has_one_key_however_it_is_written() -> None:
    key = keys.of(embed)
    assert key("hi") == key("hi", model="small") == key(text="hi")
    assert key("hi") != key("hi", model="large")
    assert key("hi", 1) != key("hi", (1,))
    assert key("hi", model="small", size=1) != key("hi", size={"size": 1})


def test_a_key_names_the_function() -> None:
    assert keys.of(embed)("hi").startswith(f"{__name__}.embed(")


def test_a_long_key_is_cut_and_still_its_own() -> None:
    key = keys.of(embed)
    one, other = key("x" * 1000 + "a"), key("x" * 1000 + "b")
    assert one != other
    assert len(one) == len(other) < 200


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [object(), {1: 2}, {1, 2}, float("nan"), Colour.RED, [object()], "\ud800", {"\ud800": 1}],
)
def test_what_is_no_plain_value_needs_a_key_of_the_callers(value: object) -> None:
    with pytest.raises(TypeError, match=r"embed: text has .*key=lambda"):
        keys.of(embed)(value)


def test_a_function_that_depends_on_more_than_its_arguments_needs_one_too() -> None:
    model = "large"

    def closed(text: str) -> str:
        return text + model

    for function in (closed, lambda text: text):
        with pytest.raises(TypeError, match="key=lambda"):
            keys.of(function)


def test_two_programs_have_keys_of_their_own(tmp_path: Path) -> None:
    """Each is called __main__."""
    program = "from superezio.guarding import keys\ndef ask(text): ...\nprint(keys.of(ask)('hi'))\n"
    found = set()
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(program)
        found.add(subprocess.check_output([sys.executable, tmp_path / name], text=True))
    assert len(found) == 2
    assert not any("__main__" in key for key in found)


def test_what_is_typed_in_has_no_place_and_no_key() -> None:
    program = "from superezio.guarding import keys\ndef ask(text): ...\nkeys.of(ask)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "TypeError: cannot make a cache key for a function that was typed in" in done.stderr


def test_a_key_that_is_given_is_used_as_it_is() -> None:
    assert keys.given("k")("anything") == "k"
    assert keys.given(lambda text: f"k:{text}")("a") == "k:a"


def test_what_makes_no_key_is_named_in_good_english() -> None:
    with pytest.raises(TypeError, match=r"^an object$"):
        keys.canonical(object())
    with pytest.raises(TypeError, match=r"^a bytearray$"):
        keys.canonical(bytearray())
