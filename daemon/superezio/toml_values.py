"""Turning what a file says into a typed value, or into a sentence about what was expected."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from superezio.in_short import in_short
from superezio.quantities import (
    LARGEST,
    LONGEST_S,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

#: How msgspec tells of a bound that is not kept.
_BOUND = re.compile(r"Expected `(?:int|float)` (>=|<=|>|<) ([\d.]+)")
_BOUND_WORDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}

_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def read_value(name: str, type_: Any, value: object) -> object:  # noqa: ANN401 - a type form
    """Return `value` as the field `name` of `type_` takes it. Raises ValueError with a sentence."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"expected a number that is finite, got {in_short(value)}")
    if any(type(each) is int and abs(each) > LARGEST for each in _members(value)):
        raise ValueError("expected a number of up to 64 bits, got a larger one")
    read, in_words = value, None
    if name.endswith("_s"):
        read = _read_quantity(value, parse_duration, "a duration such as 5s", most=LONGEST_S)
        in_words = _of_bound("a duration", format_duration)
    elif name.endswith("_bytes"):
        read = _read_quantity(value, parse_size, "a size such as 512MiB", most=LARGEST)
        in_words = _of_bound("a size", format_size)
    try:
        return msgspec.convert(read, type_)
    except msgspec.ValidationError as error:
        expected = in_words and in_words(str(error))
        expected = expected or _expectation(type_, read, error)
        raise ValueError(f"expected {expected}, got {in_short(value)}") from None


def _of_bound(kind: str, show: Callable[[float], str]) -> Callable[[str], str | None]:
    """Return what says of msgspec's sentence, if it is of a bound: `a size of at least 256 KiB`."""

    def in_words(sentence: str) -> str | None:
        match = _BOUND.match(sentence)
        return match and f"{kind} of {_BOUND_WORDS[match[1]]} {show(float(match[2]))}"

    return in_words


def _members(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _read_quantity(value: object, parse: Any, expected: str, *, most: int) -> object:  # noqa: ANN401 - either
    if isinstance(value, str):
        try:
            return parse(value)
        except ValueError:
            raise ValueError(f"expected {expected}, got {in_short(value)}") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"expected {expected}, got {in_short(value)}")
    if value > most:
        raise ValueError(f"expected {expected}, got {in_short(value)}, which is more than any")
    return value


def _expectation(type_: Any, value: object, error: msgspec.ValidationError) -> str:  # noqa: ANN401
    plain = _without_annotation(type_)
    if get_origin(plain) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(plain))
    words = describe(plain)
    if plain == list[str] and isinstance(value, list):
        number = next((each for each in value if type(each) is int), None)
        return words if number is None else f'a list ({describe(str)} each, such as "{number}")'
    words += _example(type_)
    if _fits(plain, value):  # the type is right: a bound is not kept
        bound = str(error).replace("`", "").removeprefix("Expected ").partition(" - at")[0]
        words += f" ({bound})"
    return words


def _example(type_: Any) -> str:  # noqa: ANN401 - a type form
    metas = type_.__metadata__ if get_origin(type_) is Annotated else ()
    examples = [each for meta in metas for each in meta.examples or ()]
    return f' such as "{examples[0]}"' if examples else ""


def describe(plain: Any) -> str:  # noqa: ANN401 - a type form
    """Return a type in words."""
    if get_origin(plain) is UnionType:
        return describe(next(arm for arm in get_args(plain) if arm is not NoneType))
    if get_origin(plain) is list:
        return f"a list ({describe(get_args(plain)[0])} each)"
    return _WORDS.get(plain, "a table")


def _fits(plain: Any, value: object) -> bool:  # noqa: ANN401 - a type form
    try:
        msgspec.convert(value, plain)
    except msgspec.ValidationError:
        return False
    return True


def _without_annotation(type_: Any) -> Any:  # noqa: ANN401 - a type form
    return get_args(type_)[0] if get_origin(type_) is Annotated else type_
