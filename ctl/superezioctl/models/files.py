"""Reading a model's file: all that is wrong with it, each with file, line and key."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
from msgspec.structs import fields

from superezio.toml_lines import KeyPath, key_lines
from superezio.toml_values import read_value
from superezioctl.models.model import Model, Ready, is_name


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong with a file."""

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


class ModelFileError(Exception):
    """A model's file cannot be used. The message has a line for each problem."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def load(
    name: str,
    directory: Path,
    *,
    also: Callable[[Model], Iterable[tuple[KeyPath, str]]] | None = None,
) -> Model:
    """Return the model of that name. Raises ModelFileError.

    `also` tells of what is wrong with a model whose file is good: at which key, and what.
    """
    file = directory / f"{name}.toml"
    if not is_name(name):
        told = "a model's name is of letters, digits, and _ . : - after the first, at most 64"
        problem = Problem(file=str(directory), line=None, key="", message=f"{name!r}: {told}")
        raise ModelFileError([problem])
    reader = _Reader(file)
    model: Model | None = reader.read()
    if model is not None and also is not None:
        for key, message in also(model):
            reader.add(key, message)
    if model is None or reader.problems:
        raise ModelFileError(reader.problems)
    return model


class _Reader:
    """Reads one file, and collects what is wrong with it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []

    def read(self) -> Model | None:
        table = self._parse()
        return None if table is None else self._section((), Model, table)

    def _parse(self) -> dict[str, Any] | None:
        try:
            text = self._file.read_text("utf-8")
            table = tomllib.loads(text)
        except OSError as error:
            self.add((), f"cannot read it: {error.strerror}")
        except UnicodeDecodeError as error:
            self.add((), f"is not UTF-8: {error.reason} at byte {error.start}")
        except tomllib.TOMLDecodeError as error:
            at = re.search(r" \(at line (\d+), column \d+\)$", str(error))
            message = str(error)[: at.start()] if at else str(error)
            self.add((), f"not TOML: {message}", line=int(at[1]) if at else None)
        else:
            self._lines = key_lines(text)
            return table
        return None

    def _section(self, path: KeyPath, section: type[Any], table: dict[str, Any]) -> Any:  # noqa: ANN401 - as `section` says
        types = get_type_hints(section, include_extras=True)
        known = {each.encode_name: each for each in fields(section)}
        before = len(self.problems)
        values: dict[str, Any] = {}
        for key, value in table.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                meant = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
                self.add((*path, key), f"no such key{meant}")
                continue
            name = known[key].name
            values[name] = self._value((*path, key), name, types[name], value)
        for key, each in known.items():
            if each.required and key not in table:
                self.add((*path, key), "is missing")
        if len(self.problems) > before:
            return None
        try:
            return section(**values)
        except ValueError as error:
            self.add(path, str(error), line=self._line_of_sentence(path, str(error)))
            return None

    def _value(self, path: KeyPath, name: str, type_: Any, value: object) -> Any:  # noqa: ANN401 - as the type says
        if name == "ready" and isinstance(value, dict):
            return self._section(path, Ready, value)
        if name == "environment" and isinstance(value, dict):
            return {key: self._value((*path, key), key, str, each) for key, each in value.items()}
        try:
            return read_value("" if type_ is str else name, type_, value)
        except ValueError as error:
            self.add(path, str(error))
            return None

    def _line_of_sentence(self, path: KeyPath, sentence: str) -> int | None:
        """Return the line of the key that a sentence on several begins with."""
        return self._lines.get((*path, sentence.split(maxsplit=1)[0])) or self._lines.get(path)

    def add(self, path: KeyPath, message: str, *, line: int | None = None) -> None:
        """Note a mistake, at the line of its key where none is given."""
        line = line or self._lines.get(path)
        self.problems.append(
            Problem(file=str(self._file), line=line, key=".".join(path), message=message)
        )
