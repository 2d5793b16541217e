from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from superezio.framing import LineFramer

CAP = 8


def feed_all(framer: LineFramer, chunks: list[bytes]) -> list[bytes | None]:
    return [line for chunk in chunks for line in framer.feed(chunk)]


def test_lines_may_come_in_any_pieces() -> None:
    framer = LineFramer()
    assert framer.feed(b"on") == []
    assert framer.feed(b"e\ntwo\nth") == [b"one", b"two"]
    assert framer.feed(b"ree\n") == [b"three"]
    assert framer.carried_bytes == 0


def test_a_line_of_exactly_the_cap_is_read() -> None:
    framer = LineFramer(max_frame_bytes=CAP)
    assert framer.feed(b"x" * CAP + b"\n") == [b"x" * CAP]
    assert framer.feed(b"x" * CAP) == []
    assert framer.feed(b"\n") == [b"x" * CAP]


def test_a_line_over_the_cap_is_told_once_and_as_soon_as_it_is_known() -> None:
    framer = LineFramer(max_frame_bytes=CAP)
    assert framer.feed(b"x" * CAP) == []
    assert framer.feed(b"x") == [None]
    assert framer.feed(b"x" * 100) == []
    assert framer.feed(b"x\nnext\n") == [b"next"]


def test_a_line_over_the_cap_holds_no_memory() -> None:
    framer = LineFramer(max_frame_bytes=CAP)
    for _ in range(100):
        framer.feed(b"x" * 1000)
        assert framer.carried_bytes <= CAP


def test_a_long_line_among_others_keeps_its_place() -> None:
    framer = LineFramer(max_frame_bytes=CAP)
    assert framer.feed(b"a\n" + b"x" * 9 + b"\nb\n") == [b"a", None, b"b"]


def test_a_chunk_begins_a_line_only_with_nothing_before_it() -> None:
    framer = LineFramer(max_frame_bytes=CAP)
    assert framer.is_clean
    framer.feed(b"a")
    assert not framer.is_clean
    framer.feed(b"\nb\n")
    assert framer.is_clean
    framer.feed(b"x" * (CAP + 1))
    assert not framer.is_clean


def test_the_last_line_needs_no_end() -> None:
    framer = LineFramer(max_frame_bytes=CAP)
    framer.feed(b"a\nlast")
    assert framer.finish() == b"last"
    assert framer.finish() == b""
    framer.feed(b"x" * 20)
    assert framer.finish() == b""
    assert framer.feed(b"a\n") == [b"a"]


@given(
    lines=st.lists(
        st.binary(max_size=2 * CAP).map(lambda line: line.replace(b"\n", b"")), max_size=8
    ),
    cuts=st.lists(st.integers(min_value=0, max_value=100), max_size=8),
)
def test_the_pieces_make_no_difference(lines: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[start:end] for start, end in pairwise(places)]
    framer = LineFramer(max_frame_bytes=CAP)
    expected = [line if len(line) <= CAP else None for line in lines]
    assert feed_all(framer, chunks) == expected
    assert framer.finish() == b""


def test_what_is_forgotten_is_not_held() -> None:
    framer = LineFramer()
    framer.feed(b"whole\npart")
    assert framer.carried_bytes == 4
    framer.forget()
    assert framer.carried_bytes == 0
    assert framer.finish() == b""
