"""The key of a call in the cache: which function it is, and its arguments.

Two calls have one key only if they are the same call: the same module, function and arguments,
given by position or by name, with defaults filled in. Arguments are written with their types, so
that 1, 1.0, True and "1" differ, as do a tuple and a list; dicts are alike in any order. What is
not made of None, bool, int, float, str, bytes, list, tuple and dict with text keys has no key, nor
has a function that depends on more than its arguments: those need a `key` of the caller's.

    keys.of(embed)("hi", model="small")   ->  app.embed(model="small",text="hi")

A key of more than 200 characters is cut, and ends with the SHA-256 of all of it instead.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec

_LONGEST: Final = 200
_SHOWN: Final = 100


def of(function: Callable[..., Any], *, option: str = "key") -> Callable[..., str]:
    """Return what makes the key of a call of `function`, given its arguments.

    `option` is what a caller gives another one by, which errors name. Raises TypeError for a
    function that has no key, and so does what is returned for arguments.
    """
    code = getattr(function, "__code__", None)
    if code is None or function.__name__ == "<lambda>" or code.co_freevars:
        raise TypeError(
            f"cannot make a cache key for {function!r}: it has no name of its own, or depends on"
            f" variables around it. {_advice(option)}"
        )
    name = f"{_module(function, option)}.{function.__qualname__}"
    signature = inspect.signature(function)

    @functools.wraps(function)
    def key(*args: object, **kwargs: object) -> str:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        parts = []
        for parameter, value in sorted(bound.arguments.items()):
            try:
                parts.append(f"{parameter}={canonical(value)}")
            except TypeError as error:
                raise TypeError(
                    f"cannot make a cache key for {name}: {parameter} has {error}."
                    f" {_advice(option)}"
                ) from None
        return _bounded(f"{name}({','.join(parts)})")

    return key


def checked(key: Callable[..., str] | None) -> Callable[..., str] | None:
    """Return what is to make the keys. Raises TypeError for what makes none, such as a text."""
    if key is None or callable(key):
        return key
    raise TypeError(f"key is what makes the key of the arguments, not {key!r}: key=lambda ...: ...")


def given(key: str | Callable[..., str]) -> Callable[..., str]:
    """Return what makes the key that the caller says: it is used as it is, whoever else uses it."""
    if callable(key):
        return key
    if not isinstance(key, str):
        raise TypeError(f"cache_key is the key, or what makes it of the arguments, not {key!r}")
    text = key
    return lambda *_args, **_kwargs: text


def canonical(value: object) -> str:
    """Return a text that no other value has. Raises TypeError for what is no plain value."""
    write = _WRITERS.get(type(value))
    if write is None:
        raise TypeError(_one(type(value)))
    return write(value)


def _one(kind: type) -> str:
    """Return `a dict`, `an object`."""
    name = kind.__qualname__
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"


def _float(value: float) -> str:
    if math.isnan(value):
        raise TypeError("a float that is not equal to itself")
    return repr(value)


def _text(value: str) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        raise TypeError("a text that is no valid Unicode") from None


def _mapping(value: dict[Any, Any]) -> str:
    for key in value:
        if type(key) is not str:
            raise TypeError(f"a dict with {_one(type(key))} as a key")
    return "{" + ",".join(f"{_text(key)}:{canonical(value[key])}" for key in sorted(value)) + "}"


#: By exact type: what is derived from one of these may be equal and yet be another value.
_WRITERS: Final[dict[type, Callable[[Any], str]]] = {
    type(None): str,
    bool: str,
    int: str,
    float: _float,
    str: _text,
    bytes: lambda value: f"b'{value.hex()}'",
    list: lambda value: f"[{','.join(map(canonical, value))}]",
    tuple: lambda value: f"({','.join(map(canonical, value))})",
    dict: _mapping,
}


def _advice(option: str) -> str:
    return f"Say what its value depends on: {option}=lambda ...: ..., which is given its arguments"


def _module(function: Callable[..., Any], option: str) -> str:
    """Return the module's name; of a program that is run, its file: many are called __main__."""
    if function.__module__ != "__main__":
        return function.__module__
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    place: str | None = spec.name if spec is not None else getattr(main, "__file__", None)
    if place is None:
        raise TypeError(
            f"cannot make a cache key for a function that was typed in. {_advice(option)}"
        )
    return place


def _bounded(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_SHOWN]}#{hashlib.sha256(text.encode()).hexdigest()}"
