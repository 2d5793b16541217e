"""One file of the configuration: each of its keys checked, with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from msgspec.structs import fields

from superezio.in_short import in_short
from superezio.toml_lines import KeyPath, key_lines
from superezio.toml_values import read_value
from supereziod.config.reading_rights import why_unread
from supereziod.config.schema import Config
from supereziod.config.section import Section, section_type
from supereziod.config.setting import Origin, Problem, Setting
from supereziod.config.unknown_keys import unknown_key


class FileReader:
    """Checks one file against the sections and yields its settings.

    `tables` has each table of what goes by a name, and `problems` all that is wrong, once the
    settings were read.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lines: dict[KeyPath, int] = {}
        self.tables: dict[KeyPath, Origin] = {}
        self.problems: list[Problem] = []

    def settings(self) -> Iterator[Setting]:
        """Yield what is good."""
        table = self._parse()
        yield from self._section((), Config, table)

    def _parse(self) -> dict[str, Any]:
        try:
            # Editors elsewhere begin a text with a byte order mark, which is none of it.
            text = self._file.read_text("utf-8").removeprefix("\ufeff")
            table = tomllib.loads(text)
            self._lines = key_lines(text)
        except OSError as error:
            self._add((), f"cannot read it: {why_unread(error, self._file)}")
        except UnicodeDecodeError as error:
            self._add((), f"is not UTF-8: {error.reason} at byte {error.start}")
        except tomllib.TOMLDecodeError as error:
            message, line = _toml_position(str(error))
            origin = Origin(name=str(self._file), line=line)
            self.problems.append(Problem(origin=origin, key="", message=f"not TOML: {message}"))
        except ValueError:  # tomllib's own are told above
            self._add((), "it has a number with too many digits")
        except RecursionError:
            self._add((), "its tables and lists are nested too deeply")
        else:
            return table
        return {}

    def _section(self, path: KeyPath, section: type[Section], table: object) -> Iterator[Setting]:
        if not isinstance(table, dict):
            self._add(path, f"expected a table, got {in_short(table)}")
            return
        known = {field.encode_name: field.name for field in fields(section)}
        types = get_type_hints(section, include_extras=True)
        for key, value in table.items():
            if key not in known:
                self._add((*path, key), unknown_key(path, key, value, section))
                continue
            yield from self._field((*path, key), known[key], types[known[key]], value)

    def _field(self, path: KeyPath, name: str, type_: Any, value: object) -> Iterator[Setting]:  # noqa: ANN401 - a type form
        inner = section_type(type_)
        if inner is not None:
            yield from self._section(path, inner, value)
        elif get_origin(type_) is dict:
            yield from self._by_name(path, get_args(type_)[1], value)
        else:
            try:
                read = read_value(name, type_, value)
            except ValueError as error:
                self._add(path, str(error))
            else:
                yield Setting(path=path, value=read, origin=self._origin(path))

    def _by_name(self, path: KeyPath, section: type[Section], tables: object) -> Iterator[Setting]:
        if not isinstance(tables, dict):
            self._add(path, f"expected a table, got {in_short(tables)}")
            return
        for name, table in tables.items():
            at = (*path, name)
            self.tables[at] = self._origin(at)
            yield from self._section(at, section, table)

    def _add(self, path: KeyPath, message: str) -> None:
        problem = Problem(origin=self._origin(path), key=".".join(path), message=message)
        self.problems.append(problem)

    def _origin(self, path: KeyPath) -> Origin:
        return Origin(name=str(self._file), line=self._lines.get(path))


def _toml_position(message: str) -> tuple[str, int | None]:
    match = re.search(r" \(at line (\d+), column \d+\)$", message)
    if match is None:
        return message.replace(" (at end of document)", ", at the end of the file"), None
    return message[: match.start()], int(match.group(1))
