from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superezio import quantities
from superezio.quantities import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 << 30),
        ("8G", 8 << 30),
        ("8g", 8 << 30),
        ("1.5GiB", 3 << 29),
        ("512 MiB", 512 << 20),
        ("10GB", 10_000_000_000),
        ("10kb", 10_000),
        ("2TiB", 2 << 40),
        ("1048576", 1 << 20),
        ("4096B", 4096),
    ],
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "8 apples", "-1GiB", "1e9", "0", "0GiB", "8GiBs"])
def test_what_is_no_size_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(ValueError, match="cannot"):
        parse_size(text)


@pytest.mark.parametrize("text", ["8", "1.5", "1048575", " 24 "])
def test_a_small_number_without_a_unit_is_refused_for_it_is_not_meant_as_bytes(text: str) -> None:
    with pytest.raises(ValueError, match="write it with a unit, like 8GiB"):
        parse_size(text)


@pytest.mark.parametrize("text", ["9" * 400 + "GiB", "9" * 400, "8388608TiB"])
def test_more_than_64_bits_hold_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="no host has as much"):
        parse_size(text)


@pytest.mark.parametrize("text", ["9" * 400 + "s", "9" * 400, "36501d", "3153600001"])
def test_more_than_a_century_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="up to 36500d"):
        parse_duration(text)
    assert parse_duration("36500d") == parse_duration("3153600000") == quantities.LONGEST_S


@pytest.mark.parametrize("read", [parse_size, parse_duration])
def test_digits_are_those_that_a_schema_for_editors_takes(read: Callable[[str], float]) -> None:
    with pytest.raises(ValueError, match="cannot read"):
        read("\N{ARABIC-INDIC DIGIT FIVE}m")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("1m30s", 90), ("250ms", 0.25), ("2h", 7200), ("1d", 86400), ("5", 5), ("0", 0)],
)
def test_durations_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "5 minutes", "-5s", "5s later", "1w"])
def test_what_is_no_duration_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(ValueError, match="cannot read"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (8 << 30, "8.0 GiB"),
        (512 << 20, "512 MiB"),
        (2048, "2 KiB"),
        (0, "0"),
        (-(1 << 30), "-1.0 GiB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (1, "1s"),
        (90, "1m 30s"),
        (3600, "1h"),
        (90061, "1d 1h"),
        (0.9999, "1s"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=1 << 20, max_value=1 << 50))
def test_plain_bytes_are_read_as_they_are(size: int) -> None:
    assert parse_size(str(size)) == size


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("10", 10_000_000),
        ("10.00", 10_000_000),
        (" 0.02 ", 20_000),
        ("1_000.5", 1_000_500_000),
        (".000824", 824),
        ("5.", 5_000_000),
        ("0", 0),
        ("2e-06", 2),
        ("1.5E2", 150_000_000),
    ],
)
def test_money_is_read_as_millionths(text: str, micros: int) -> None:
    assert quantities.parse_money(text) == micros
    assert quantities.parse_money(text, finer="round up") == micros


@pytest.mark.parametrize(
    ("text", "micros"), [("0.0000001", 1), ("2.4e-06", 3), ("1.9999999", 2_000_000), ("0e-9", 0)]
)
def test_a_cost_that_is_finer_than_a_millionth_is_rounded_up(text: str, micros: int) -> None:
    assert quantities.parse_money(text, finer="round up") == micros
    if text != "0e-9":
        with pytest.raises(ValueError, match="more than 6 decimals"):
            quantities.parse_money(text)


@pytest.mark.parametrize(
    "text", ["", ".", "e3", "-1", "+1", "1,5", "1 2", "nan", "inf", "1e999", "\u0663"]
)
def test_what_is_no_money_is_refused_with_an_example(text: str) -> None:
    for finer in ("refuse", "round up"):
        with pytest.raises(ValueError, match=r"write it like 10.00 or 0.02"):
            quantities.parse_money(text, finer=finer)


@given(st.integers(0, 10**15))
def test_money_comes_back_as_it_was_written(micros: int) -> None:
    assert quantities.parse_money(quantities.format_money(micros)) == micros
