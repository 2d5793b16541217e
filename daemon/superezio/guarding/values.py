"""How a value lies in the cache: bytes and text as they are, anything else as JSON.

Which of them is decided by the type that the function is annotated to return (or by `returns`), not
by the value: so what was stored is read as what it was, by every program. Without an annotation it
is JSON, read as dicts, lists and plain values.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import msgspec
from msgspec import Struct

T = TypeVar("T")


_AS_IT_IS: Final = (str, bytes)


class Content(Protocol):
    """What the cache has of a value: a text, or bytes."""

    @property
    def text(self) -> str | None: ...
    @property
    def data(self) -> bytes | None: ...


class Stored(Struct, frozen=True):
    """A value as it is stored."""

    text: str | None = None
    data: bytes | None = None


class Codec(Generic[T]):
    """Writes and reads values of one type."""

    def __init__(self, type_: type[T]) -> None:
        self._type: object = type_
        self._decoder = msgspec.json.Decoder(type_)

    def encode(self, value: object) -> Stored:
        """Return the value as it is stored. Raises TypeError where it cannot be."""
        if self._type is bytes and isinstance(value, bytes):
            return Stored(data=bytes(value))
        if self._type is str and isinstance(value, str):
            return Stored(text=str(value))
        if self._type in _AS_IT_IS or isinstance(value, bytes):
            raise TypeError(
                f"cannot cache {type(value).__qualname__} as {self._type}: annotate the function"
                " with what it returns"
            )
        try:
            text = msgspec.json.encode(value).decode()
            self._decoder.decode(text)
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise TypeError(
                f"cannot cache {type(value).__qualname__} as {self._type}: {error}"
            ) from error
        return Stored(text=text)

    def reads(self, stored: Content) -> bool:
        """Whether it is a value of this type: then `decode` returns it."""
        try:
            self.decode(stored)
        except ValueError:
            return False
        return True

    def decode(self, stored: Content) -> T:
        """Return a value that was stored. Raises ValueError where it is another type's."""
        content = stored.text if self._type is not bytes else stored.data
        if content is None:
            raise ValueError(f"what is cached is no {self._type}")
        if self._type in _AS_IT_IS:
            return cast("T", content)
        return self._decoder.decode(content)  # its errors are ValueErrors


def codec_of(function: Callable[..., Any], returns: type | None = None) -> Codec[Any]:
    """Return the codec for what `function` returns. Raises TypeError where that cannot be told."""
    if returns is not None:
        return Codec(returns)
    try:
        annotated = typing.get_type_hints(function).get("return", Any)
    except NameError as error:
        raise TypeError(
            f"cannot tell what {function!r} returns: {error}. Say it: returns=..."
        ) from error
    return Codec(annotated)
