"""On which line of a TOML file each key stands: tomllib does not tell.

The scanner trusts that tomllib has accepted the text, and only has to find where statements and
values begin and end.
"""

from __future__ import annotations

import re
import tomllib
from typing import Final

KeyPath = tuple[str, ...]

_SPACE: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY_PART: Final = re.compile(r"""[ \t]*([A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')[ \t]*""")
_PLAIN: Final = re.compile(r"""[^"'\[\]{},#\n]+""")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:[^"\\]|\\.)*"|' + r"'[^']*'", re.DOTALL
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line, counted from 1, of each key and table in valid TOML `text`."""
    return _Scanner(text).scan()


def read_key(text: str) -> KeyPath | None:
    """Return the parts of `text`, if it is a key and no more."""
    path: KeyPath = ()
    at = 0
    while (match := _KEY_PART.match(text, at)) is not None:
        try:
            path = (*path, _unquote(match.group(1)))
        except tomllib.TOMLDecodeError:  # an escape that there is not
            return None
        at = match.end()
        if at == len(text):
            return path
        if text[at] != ".":
            return None
        at += 1
    return None


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[KeyPath, int] = {}

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self._skip(_SPACE)
        while self._at < len(self._text):
            if self._peek() == "[":
                self._skip(re.compile(r"\[+"))
                table = self._key(())
                self._skip(re.compile(r"\]+"))
            else:
                self._statement(table)
            self._skip(_SPACE)
        return self._lines

    def _statement(self, table: KeyPath) -> None:
        path = self._key(table)
        self._skip(re.compile(r"=[ \t]*"))
        self._value(path)

    def _key(self, table: KeyPath) -> KeyPath:
        line = self._text.count("\n", 0, self._at) + 1
        path = table
        while (match := _KEY_PART.match(self._text, self._at)) is not None:
            path = (*path, _unquote(match.group(1)))
            self._lines.setdefault(path, line)
            self._at = match.end()
            if self._peek() != ".":
                break
            self._at += 1
        return path

    def _value(self, path: KeyPath) -> None:
        """Step over one value, noting the keys of inline tables on the way."""
        opening = self._peek()
        if opening == "[":
            self._members("]", path, keyed=False)
        elif opening == "{":
            self._members("}", path, keyed=True)
        else:
            self._skip(_STRING if opening in {'"', "'"} else _PLAIN)

    def _members(self, closing: str, path: KeyPath, *, keyed: bool) -> None:
        self._at += 1
        self._skip(_SPACE)
        while self._peek() != closing:
            if keyed:
                self._statement(path)
            else:
                self._value(path)
            self._skip(_SPACE)
            if self._peek() == ",":
                self._at += 1
                self._skip(_SPACE)
        self._at += 1

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()


def _unquote(part: str) -> str:
    if part[0] not in {'"', "'"}:
        return part
    return str(tomllib.loads(f"key = {part}")["key"])
