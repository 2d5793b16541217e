"""A key that somebody set, where, and what may be wrong with it."""

from __future__ import annotations

import os
from typing import Literal

from msgspec import Struct

from superezio.toml_lines import KeyPath

Place = Literal["file", "environment", "option"]


class Origin(Struct, frozen=True, kw_only=True):
    """Where a key was set: `name` is a file, a variable of the environment, or an option.

    `line` is one of a file, counted from 1; None where the mistake has none.
    """

    place: Place = "file"
    name: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.name}:{self.line}" if self.line else self.name


class Setting(Struct, frozen=True, kw_only=True):
    """A key with its value, as its field takes it."""

    path: KeyPath
    value: object
    origin: Origin


class Problem(Struct, frozen=True, kw_only=True):
    """One thing wrong with the configuration; `key` is empty where it is none of a key."""

    origin: Origin
    key: str
    message: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (str(self.origin), self.key, self.message)))


class ConfigError(Exception):
    """The configuration cannot be used. The message has a line for each problem."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def is_utf8(name: str) -> bool:
    """Whether what the system calls so can be told: it may hold any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_utf8(name: str) -> str:
    r"""Return a name of the system's with what is not UTF-8 in it as `\xff` and the like."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
