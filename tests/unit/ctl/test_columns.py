"""How many columns of a terminal a text takes, and how it is cut to them."""

from __future__ import annotations

import pytest

from superezioctl.columns import columns_of, padded, shortened


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", 0),
        ("llama", 5),
        ("ß°…", 3),
        ("日本", 4),
        ("\uff57\uff49", 4),
        ("e\u0301", 1),
        ("\U0001f600", 2),
        ("\x1b\x07", 2),
        ("\u202e", 1),
    ],
)
def test_wide_characters_take_two_columns_and_marks_none(text: str, columns: int) -> None:
    """What a terminal would act on is printed as one question mark."""
    assert columns_of(text) == columns


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("llama", 5, "llama"),
        ("llama-8b", 5, "llam…"),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
        ("ab日", 3, "ab…"),
        ("e\u0301e\u0301e\u0301", 2, "e\u0301…"),
        ("llama", 1, "…"),
        ("llama", 0, "…"),
    ],
)
def test_a_text_is_cut_to_its_columns(text: str, width: int, expected: str) -> None:
    assert shortened(text, width) == expected
    assert columns_of(expected) <= max(1, width)


def test_blanks_fill_what_is_left() -> None:
    assert padded("日本", 6) == "日本  "
    assert padded("日本", 6, right=True) == "  日本"
    assert padded("longer", 3) == "longer"
