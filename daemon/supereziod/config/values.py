"""Turning what a file says into a typed value, or into a sentence about what was expected."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from superezio.quantities import parse_duration, parse_size

_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def read_value(name: str, type_: Any, value: object) -> object:  # noqa: ANN401 - a type form
    """Return `value` as the field `name` of `type_` takes it. Raises ValueError with a sentence."""
    if name.endswith("_s"):
        value = _read_quantity(value, parse_duration, "a duration such as 5s")
    elif name.endswith("_bytes"):
        value = _read_quantity(value, parse_size, "a size such as 512MiB")
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise ValueError(f"expected {_expectation(type_, value, error)}, got {value!r}") from None


def _read_quantity(value: object, parse: Any, expected: str) -> object:  # noqa: ANN401 - either
    if isinstance(value, str):
        try:
            return parse(value)
        except ValueError:
            raise ValueError(f"expected {expected}, got {value!r}") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"expected {expected}, got {value!r}")
    return value


def _expectation(type_: Any, value: object, error: msgspec.ValidationError) -> str:  # noqa: ANN401
    plain = _without_annotation(type_)
    if get_origin(plain) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(plain))
    words = describe(plain)
    if _fits(plain, value):  # the type is right: a bound is not kept
        bound = str(error).replace("`", "").removeprefix("Expected ").partition(" - at")[0]
        words += f" ({bound})"
    return words


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
