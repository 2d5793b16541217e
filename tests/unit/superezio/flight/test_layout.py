"""The format of the ring: what is written is read again, what is torn is nothing, at every byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superezio.flight import layout
from superezio.flight.layout import UNIT_BYTES, Plain, record_at

LANE: Final = 64 * 256
WHO: Final = layout.stamp(1000, 4711, b"\x01" * 8, b"\x02" * 8)

U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)
IDS = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789._:-", min_size=1, max_size=64)


def lane() -> memoryview:
    return memoryview(bytearray(LANE))


def place_of(unit: int, lap: int = 1) -> int:
    return lap * LANE + unit * UNIT_BYTES


def write_plain(
    into: memoryview, place: int, *, number: int = 1, requests: int = 1, method: int = 3
) -> None:
    head = layout.plain_head(method, requests)
    layout.write_plain(into, place % LANE, head, place, WHO, number, 5_000, place)


def write_named(into: memoryview, place: int, name: str = "job-17") -> None:
    layout.write_named(into, place % LANE, layout.named_head(3), place, WHO, 7, 5_000, name)


def write_full(into: memoryview, place: int, payload: bytes = b'["request"]' * 20) -> None:
    layout.write_full(into, place % LANE, place, payload)


def all_places(of: memoryview) -> set[int]:
    found = (record_at(of, at) for at, _ in layout.places(of, 0, len(of)))
    return {each.place for each in found if each is not None}


@given(
    uid=U32, pid=U32, connection=st.binary(min_size=8, max_size=8),
    session=st.binary(min_size=8, max_size=8), number=U64, received=U64,
    method=st.integers(0, 511), requests=st.integers(1, 2**32 - 1), unit=st.integers(0, 255),
    lap=st.integers(1, 2**40),
)  # fmt: skip
def test_a_plain_record_is_read_as_it_was_written(
    uid: int, pid: int, connection: bytes, session: bytes, number: int, received: int,
    method: int, requests: int, unit: int, lap: int,
) -> None:  # fmt: skip
    ring, place = lane(), place_of(unit, lap)
    who = layout.stamp(uid, pid, connection, session)
    head = layout.plain_head(method, requests)
    layout.write_plain(ring, place % LANE, head, place, who, number, received, place)
    found = record_at(ring, place % LANE)
    assert found is not None
    assert (found.place, found.size) == (place, 64)
    assert found.plain == Plain(
        place=place, method=method, requests=requests, uid=uid, pid=pid, connection=connection,
        session=session, number=number, received_ns=received,
    )  # fmt: skip


@given(name=IDS, number=U64, received=U64, unit=st.integers(0, 254), lap=st.integers(1, 2**40))
def test_a_named_record_keeps_the_callers_id(
    name: str, number: int, received: int, unit: int, lap: int
) -> None:
    ring, place = lane(), place_of(unit, lap)
    head = layout.named_head(9)
    layout.write_named(ring, place % LANE, head, place, WHO, number, received, name)
    found = record_at(ring, place % LANE)
    assert found is not None
    assert found.plain is not None
    assert found.size == 128
    assert (found.plain.name, found.plain.number) == (name, number)
    assert (found.plain.received_ns, found.plain.method, found.plain.requests) == (received, 9, 1)


@pytest.mark.parametrize(
    ("name", "about", "told"),
    [
        ("a" * 32, "openai", "openai"),
        ("a" * 32, "o" * 32, "o" * 32),
        ("a" * 32, "o" * 33, "o" * 31 + "~"),
        ("a" * 62, "openai", "o~"),
        ("a" * 63, "o", "o"),
        ("a" * 63, "openai", "~"),
        ("a" * 64, "openai", None),
        ("a", "", None),
    ],
)
def test_what_a_named_record_is_about_stands_behind_the_id_as_far_as_there_is_room(
    name: str, about: str, told: str | None
) -> None:
    ring, place = lane(), place_of(0, 1)
    layout.write_named(ring, 0, layout.named_head(3), place, WHO, 7, 5_000, name, about)
    found = record_at(ring, 0)
    assert found is not None
    assert found.plain is not None
    assert (found.plain.name, found.plain.about) == (name, told)


@given(payload=st.binary(max_size=layout.MAX_PAYLOAD_BYTES), lap=st.integers(1, 2**40))
def test_a_full_record_is_read_as_it_was_written(payload: bytes, lap: int) -> None:
    ring, place = lane(), place_of(3, lap)
    write_full(ring, place, payload)
    found = record_at(ring, place % LANE)
    assert found is not None
    assert (found.place, found.payload, found.plain) == (place, payload, None)
    assert found.size == layout.units_of(payload)


@pytest.mark.parametrize("write", [write_plain, write_named, write_full])
@pytest.mark.parametrize("over", [write_plain, write_named, write_full, None])
def test_a_record_torn_at_any_byte_is_nothing_and_nothing_else_is_lost(
    write: Callable[[memoryview, int], None], over: Callable[[memoryview, int], None] | None
) -> None:
    """What a kill leaves of a store is its first bytes, over what was there a lap before."""
    before = lane()
    for unit in (0, 40):
        write_plain(before, place_of(unit, 5))
        write_full(before, place_of(unit + 2, 5))
    if over is not None:
        over(before, place_of(20, 4))
    others = all_places(before) - {place_of(20, 4)}
    whole = memoryview(bytearray(before))
    write(whole, place_of(20, 5))
    found = record_at(whole, place_of(20, 5) % LANE)
    assert found is not None
    end = place_of(20) % LANE + found.size
    start = end - found.size
    for cut in range(start, end):
        torn = memoryview(bytearray(before))
        torn[start:cut] = whole[start:cut]
        places = all_places(torn)
        # The last bytes of a record may be what was there: it is whole then, and the new one.
        if place_of(20, 5) in places:
            assert record_at(torn, start) == found
        assert places >= others
        assert places - others <= {place_of(20, 4), place_of(20, 5)}


def test_a_store_that_was_cut_short_is_never_a_mix_of_two_records() -> None:
    """As a lap passes, both records have the same kind, caller and method."""
    old, new = lane(), lane()
    write_plain(old, place_of(20, 4), number=1)
    write_plain(new, place_of(20, 5), number=2)
    at = place_of(20) % LANE
    for cut in range(64):
        torn = memoryview(bytearray(old))
        torn[at : at + cut] = new[at : at + cut]
        assert record_at(torn, at) in {record_at(old, at), record_at(new, at), None}, cut


@given(junk=st.binary(min_size=64, max_size=64 * 8))
def test_what_is_no_record_is_none(junk: bytes) -> None:
    ring = lane()
    ring[640 : 640 + len(junk)] = junk
    for at, _ in layout.places(ring, 0, LANE):
        found = record_at(ring, at)
        assert found is None or found.place % LANE == at


@given(text=st.text(min_size=0, max_size=900))
def test_no_text_within_a_record_is_taken_for_the_beginning_of_one(text: str) -> None:
    """Whatever a client puts into an attribute, and wherever in the record that lies."""
    ring = lane()
    write_full(ring, place_of(0), text.encode("utf-8", "replace"))
    found = record_at(ring, 0)
    assert found is not None
    assert [at for at, _ in layout.places(ring, 64, LANE)] == []


def test_a_record_that_stands_where_it_was_not_written_is_none() -> None:
    ring = lane()
    write_plain(ring, place_of(3))
    ring[64 * 9 : 64 * 10] = bytes(ring[64 * 3 : 64 * 4])
    write_full(ring, place_of(20))
    ring[64 * 40 : 64 * 44] = bytes(ring[64 * 20 : 64 * 24])
    assert all_places(ring) == {place_of(3), place_of(20)}


def test_a_flipped_bit_of_a_full_record_is_seen() -> None:
    ring = lane()
    write_full(ring, place_of(0))
    for byte in range(16 + 200):
        damaged = memoryview(bytearray(ring))
        damaged[byte] ^= 4
        assert record_at(damaged, 0) is None, byte


def test_the_newest_is_found_whatever_lies_around_it() -> None:
    ring = lane()
    assert layout.newest(ring) == (0, 0)
    write_plain(ring, place_of(200, 4))
    write_plain(ring, place_of(0, 5))
    write_full(ring, place_of(1, 5))
    size = layout.units_of(b'["request"]' * 20)
    assert layout.newest(ring) == (place_of(1, 5), place_of(1, 5) + size)
    write_plain(ring, place_of(9, 5))
    ring[64 * 9 + 60] ^= 1  # torn: the one before it is the newest
    assert layout.newest(ring)[0] == place_of(1, 5)
