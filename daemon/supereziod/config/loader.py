"""Reading the configuration: a file, the drop-ins beside it, and what the command line overrides.

All files are read and all their mistakes collected before anything is built, so that one look at
the message mends them all.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args, get_origin, get_type_hints

from msgspec import Struct
from msgspec.structs import asdict, fields

from superezio.toml_lines import KeyPath, key_lines
from superezio.toml_values import read_value
from supereziod.config.schema import Config, Gpu, GpuOverride, Thermal
from supereziod.config.section import Section, section_type
from supereziod.config.unknown_keys import unknown_key

DEFAULT_FILE: Final = Path("/etc/superezio/superezio.toml")
DROP_INS: Final = "conf.d"


class Problem(Struct, frozen=True, kw_only=True):
    """One thing wrong with the configuration."""

    file: Path
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


class ConfigError(Exception):
    """The configuration cannot be used. The message has a line for each problem."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class Origin(Struct, frozen=True, kw_only=True):
    """Where a key was set."""

    file: Path
    line: int | None


class Loaded(Struct, frozen=True, kw_only=True):
    """A configuration, and the files it came from, in the order they were read.

    `origins` has each key that a file sets, by its path, and `tables` each table of what goes by a
    name (`breaker.shared.NAME`), also one without a key.
    """

    config: Config
    files: tuple[Path, ...]
    origins: dict[KeyPath, Origin] = {}
    tables: dict[KeyPath, Origin] = {}


class Source(Struct, frozen=True, kw_only=True):
    """Where the configuration comes from. A reload reads the same source again.

    `file` None: the default file, if there is one. `overrides` are keys that the command line or
    the environment set (`gpu.driver`), with their values.
    """

    file: Path | None = None
    overrides: dict[str, str] = {}
    default_file: Path = DEFAULT_FILE

    def load(self) -> Loaded:
        """Read all files. Raises ConfigError, and has changed nothing then."""
        files = self._files()
        problems: list[Problem] = []
        settings: dict[KeyPath, _Setting] = {}
        tables: dict[KeyPath, Origin] = {}
        for file in files:
            reader = _FileReader(file)
            settings |= {setting.path: setting for setting in reader.settings()}
            tables |= reader.tables
            problems += reader.problems
        config = None if problems else _build(settings, self.overrides, problems)
        if config is None:
            raise ConfigError(problems)
        origins = {
            path: Origin(file=setting.file, line=setting.line) for path, setting in settings.items()
        }
        return Loaded(config=config, files=files, origins=origins, tables=tables)

    def _files(self) -> tuple[Path, ...]:
        main = self.file or self.default_file
        files = [main] if self.file is not None or main.exists() else []
        return (*files, *sorted((main.parent / DROP_INS).glob("*.toml")))


class _Setting(Struct, frozen=True):
    path: KeyPath
    value: object
    file: Path
    line: int | None


class _FileReader:
    """Checks one file against the sections and yields its settings."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lines: dict[KeyPath, int] = {}
        self.tables: dict[KeyPath, Origin] = {}
        self.problems: list[Problem] = []

    def settings(self) -> Iterator[_Setting]:
        table = self._parse()
        yield from self._section((), Config, table)

    def _parse(self) -> dict[str, Any]:
        try:
            text = self._file.read_text("utf-8")
            table = tomllib.loads(text)
        except OSError as error:
            self._add((), f"cannot read it: {error.strerror}")
        except UnicodeDecodeError as error:
            self._add((), f"is not UTF-8: {error.reason} at byte {error.start}")
        except tomllib.TOMLDecodeError as error:
            message, line = _toml_position(str(error))
            problem = Problem(file=self._file, line=line, key="", message=f"not TOML: {message}")
            self.problems.append(problem)
        else:
            self._lines = key_lines(text)
            return table
        return {}

    def _section(self, path: KeyPath, section: type[Section], table: object) -> Iterator[_Setting]:
        if not isinstance(table, dict):
            self._add(path, f"expected a table, got {table!r}")
            return
        known = {field.encode_name: field.name for field in fields(section)}
        types = get_type_hints(section, include_extras=True)
        for key, value in table.items():
            if key not in known:
                self._add((*path, key), unknown_key(path, key, value, section))
                continue
            yield from self._field((*path, key), known[key], types[known[key]], value)

    def _field(self, path: KeyPath, name: str, type_: Any, value: object) -> Iterator[_Setting]:  # noqa: ANN401 - a type form
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
                yield _Setting(path, read, self._file, self._line(path))

    def _by_name(self, path: KeyPath, section: type[Section], tables: object) -> Iterator[_Setting]:
        if not isinstance(tables, dict):
            self._add(path, f"expected a table, got {tables!r}")
            return
        for name, table in tables.items():
            at = (*path, name)
            self.tables[at] = Origin(file=self._file, line=self._line(at))
            yield from self._section(at, section, table)

    def _add(self, path: KeyPath, message: str) -> None:
        self.problems.append(
            Problem(file=self._file, line=self._line(path), key=".".join(path), message=message)
        )

    def _line(self, path: KeyPath) -> int | None:
        return self._lines.get(path)


def _build(
    settings: Mapping[KeyPath, _Setting], overrides: Mapping[str, str], problems: list[Problem]
) -> Config | None:
    tree: dict[str, Any] = {}
    for path, setting in settings.items():
        _put(tree, path, setting.value)
    for key, value in overrides.items():
        _put(tree, tuple(key.split(".")), value)
    try:
        config: Config = _make(Config, tree)
    except _SectionError as error:
        problems.append(_section_problem(error, settings))
        return None
    return config


class _SectionError(Exception):
    """The values of a section contradict each other."""

    def __init__(self, path: KeyPath, message: str) -> None:
        super().__init__(message)
        self.path = path


def _make(section: type[Any], tree: Mapping[str, Any], path: KeyPath = ()) -> Any:  # noqa: ANN401
    types = get_type_hints(section)
    values: dict[str, Any] = {}
    for field in fields(section):
        if field.encode_name not in tree:
            continue
        value, at = tree[field.encode_name], (*path, field.encode_name)
        inner = section_type(types[field.name])
        if inner is not None:
            value = _make(inner, value, at)
        elif get_origin(types[field.name]) is dict and section is not Gpu:
            named = get_args(types[field.name])[1]
            value = {name: _make(named, own, (*at, name)) for name, own in value.items()}
        values[field.name] = value
    if section is Gpu and "override" in values:
        common = values.get("thermal", Thermal())
        values["override"] = {
            uuid: _make_override(own, common, (*path, "override", uuid))
            for uuid, own in values["override"].items()
        }
    return _construct(section, values, path)


def _make_override(tree: Mapping[str, Any], common: Thermal, path: KeyPath) -> GpuOverride:
    """Make one GPU's own values; what its ladder leaves open is as in the common one."""
    thermal: Thermal | None = None
    if "thermal" in tree:
        names = {field.encode_name: field.name for field in fields(Thermal)}
        own = {names[key]: value for key, value in tree["thermal"].items()}
        thermal = _construct(Thermal, asdict(common) | own, (*path, "thermal"))
    return GpuOverride(reserve_bytes=tree.get("reserve"), thermal=thermal)


def _construct(section: type[Any], values: dict[str, Any], path: KeyPath) -> Any:  # noqa: ANN401
    try:
        return section(**values)
    except ValueError as error:
        raise _SectionError(path, str(error)) from None


def _section_problem(error: _SectionError, settings: Mapping[KeyPath, _Setting]) -> Problem:
    inside = [s for s in settings.values() if s.path[: len(error.path)] == error.path]
    if not inside:  # what the command line sets contradicts the defaults
        return Problem(
            file=Path("command line"), line=None, key=".".join(error.path), message=str(error)
        )
    last = inside[-1]
    return Problem(file=last.file, line=last.line, key=".".join(error.path), message=str(error))


def _put(tree: dict[str, Any], path: KeyPath, value: object) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _toml_position(message: str) -> tuple[str, int | None]:
    match = re.search(r" \(at line (\d+), column \d+\)$", message)
    if match is None:
        return message.replace(" (at end of document)", ", at the end of the file"), None
    return message[: match.start()], int(match.group(1))
