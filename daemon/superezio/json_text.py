r"""JSON as it may be shown: with what a terminal might obey written as `\u009b` and the like.

JSON escapes the controls of ASCII and no others: those of C1 (CSI among them), separators of lines
and characters that turn the direction of a text may stand in it as they are. Names and command
lines of others have them. A program reads the same either way.
"""

from __future__ import annotations

_LAST_SHORT = 0xFFFF


def shown_json(text: str) -> str:
    """Return a JSON text that says the same, with nothing but what is printed and its newlines."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else _escaped(each) for each in text)


def shown_json_bytes(raw: bytes) -> bytes:
    """Do the same for UTF-8."""
    # Most lines have no other characters, which is seen at once.
    if raw.isascii() and b"\x7f" not in raw:
        return raw
    return shown_json(raw.decode()).encode()


def _escaped(each: str) -> str:
    code = ord(each)
    if code <= _LAST_SHORT:
        return f"\\u{code:04x}"
    high, low = divmod(code - _LAST_SHORT - 1, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
