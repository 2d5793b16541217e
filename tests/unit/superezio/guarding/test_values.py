from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from superezio.guarding.values import Codec, Stored, codec_of

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass
class Embedding:
    model: str
    vector: list[float]


def test_text_and_bytes_lie_in_the_cache_as_they_are() -> None:
    assert Codec(str).encode("[1]") == Stored(text="[1]")
    assert Codec(bytes).encode(b"\x00\xff") == Stored(data=b"\x00\xff")
    assert Codec(str).decode(Stored(text="[1]")) == "[1]"
    assert Codec(bytes).decode(Stored(data=b"\x00")) == b"\x00"


def test_anything_else_is_json_of_the_annotated_type() -> None:
    codec = Codec(Embedding)
    value = Embedding("small", [1.0, 0.5])
    stored = codec.encode(value)
    assert stored == Stored(text='{"model":"small","vector":[1.0,0.5]}')
    assert codec.decode(stored) == value


def test_without_an_annotation_it_is_json_of_plain_values() -> None:
    codec: Codec[Any] = Codec(Any)
    assert codec.encode("a") == Stored(text='"a"')
    assert codec.decode(codec.encode({"a": (1, 2)})) == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("type_", "value"),
    [(Any, object()), (Any, b"x"), (str, 1), (bytes, "x"), (int, "x"), (Embedding, {"a": 1})],
)
def test_what_does_not_fit_is_refused_before_it_is_stored(type_: Any, value: object) -> None:
    with pytest.raises(TypeError, match="cannot cache"):
        Codec(type_).encode(value)


@pytest.mark.parametrize(
    ("type_", "stored"),
    [
        (str, Stored(data=b"x")),
        (bytes, Stored(text="x")),
        (int, Stored(text="{")),
        (int, Stored(text='"x"')),
        (Any, Stored(data=b"1")),
    ],
)
def test_what_another_wrote_in_another_way_is_not_read(type_: Any, stored: Stored) -> None:
    codec: Codec[Any] = Codec(type_)
    assert not codec.reads(stored)
    with pytest.raises(ValueError):  # noqa: PT011 - msgspec's own
        codec.decode(stored)


def test_the_type_is_that_of_the_annotation_unless_said() -> None:
    def annotated() -> bytes:
        return b""

    def plain():  # type: ignore[no-untyped-def]  # noqa: ANN202
        return 1

    assert codec_of(annotated).encode(b"x") == Stored(data=b"x")
    assert codec_of(annotated, str).encode("x") == Stored(text="x")
    assert codec_of(plain).encode("x") == Stored(text='"x"')


def test_an_annotation_that_is_not_there_at_run_time_has_to_be_said() -> None:
    def price() -> Decimal:
        raise NotImplementedError

    with pytest.raises(TypeError, match=r"price at .* returns.*returns=\.\.\."):
        codec_of(price)
