"""How many columns of a terminal a text takes: names may be of wide characters, or of marks.

What a terminal would act on is taken for one column: it is printed as `?`.
"""

from __future__ import annotations


def columns_of(text: str) -> int:
    """Return how many columns `text` takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def shortened(text: str, width: int) -> str:
    """Return `text` cut to `width` columns."""
    if columns_of(text) <= width:
        return text
    left, kept = width - 1, ""
    for each in text:
        left -= _columns(each)
        if left < 0:
            break
        kept += each
    return f"{kept}…"


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return `text` with blanks up to `width` columns; `right`: before it."""
    gap = " " * (width - columns_of(text))
    return gap + text if right else text + gap


def _columns(character: str) -> int:
    if character.isascii():
        return 1
    import unicodedata  # noqa: PLC0415 - names are mostly ASCII

    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
