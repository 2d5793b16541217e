"""Reading the configuration: a file, the drop-ins beside it, and what is set over them.

All is read and all mistakes collected before anything is built, so that one look at the message
mends them all. What is read later wins, key by key: the file, conf.d, the environment, options.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_args, get_origin, get_type_hints

from msgspec import Struct
from msgspec.structs import asdict, fields

from superezio.toml_lines import KeyPath
from supereziod.config.environment import read_variables
from supereziod.config.file_reader import FileReader
from supereziod.config.gpu import Gpu, GpuOverride, Thermal
from supereziod.config.reading_rights import why_unread
from supereziod.config.schema import Config
from supereziod.config.section import section_type
from supereziod.config.setting import ConfigError, Origin, Problem, Setting, as_utf8, is_utf8

DEFAULT_FILE: Final = Path("/etc/superezio/superezio.toml")
DROP_INS: Final = "conf.d"


class Loaded(Struct, frozen=True, kw_only=True):
    """A configuration, and the files it came from, in the order they were read.

    `origins` has each key that is set, by its path, and `tables` each table of the files that goes
    by a name (`breaker.shared.NAME`), also one without a key.
    """

    config: Config
    files: tuple[Path, ...]
    origins: dict[KeyPath, Origin] = {}
    tables: dict[KeyPath, Origin] = {}


class FileStamp(Struct, frozen=True, kw_only=True):
    """What tells that a file is another, or was written to. `changed_ns` is a time of day."""

    file: Path
    identity: tuple[int, int]
    size_bytes: int
    changed_ns: int


class Source(Struct, frozen=True, kw_only=True):
    """Where the configuration comes from. A reload reads the same source again.

    `file` None: the default file, if there is one. `variables` are those of the environment that
    set keys (`SUPEREZIO__...`), and `options` what the options of the command line set.
    """

    file: Path | None = None
    variables: dict[str, str] = {}
    options: tuple[Setting, ...] = ()
    default_file: Path = DEFAULT_FILE

    def load(self) -> Loaded:
        """Read all. Raises ConfigError, and has changed nothing then."""
        problems: list[Problem] = []
        files = self._files(problems)
        settings: list[Setting] = []
        tables: dict[KeyPath, Origin] = {}
        for file in files:
            reader = FileReader(file)
            settings += reader.settings()
            tables |= reader.tables
            problems += reader.problems
        settings += read_variables(self.variables, problems)
        settings += self.options
        if problems:
            # Whether keys go together is not to be seen while some are missing.
            raise ConfigError(problems)
        config = _Builder(settings).build()
        origins = {setting.path: setting.origin for setting in settings}
        return Loaded(config=config, files=files, origins=origins, tables=tables)

    def stamps(self) -> tuple[FileStamp, ...]:
        """Return what the files are now, as far as that can be seen, and read none."""
        return tuple(stamp for file in self._files([]) if (stamp := _stamp(file)) is not None)

    def _files(self, problems: list[Problem]) -> tuple[Path, ...]:
        main = self.file or self.default_file
        files = [main] if self.file is not None or _may_be_there(main) else []
        drop_ins = main.parent / DROP_INS
        try:
            there = sorted(drop_ins.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            there = []
        except OSError as error:  # what nobody can read is not what nobody has written
            there = []
            problems.append(_problem(drop_ins, f"cannot read it: {why_unread(error, drop_ins)}"))
        files += [file for file in there if _is_drop_in(file)]
        refused = {file: why for file in files if (why := _why_not(file)) is not None}
        problems += [_problem(file, why) for file, why in refused.items()]
        return tuple(file for file in files if file not in refused)


def _is_drop_in(file: Path) -> bool:
    """Whether it is to be read: what is hidden is some editor's, or half written."""
    return file.suffix == ".toml" and not file.name.startswith(".")


def _why_not(file: Path) -> str | None:
    """Return why a file may not even be opened, or None."""
    if not is_utf8(str(file)):
        return "its name is not UTF-8"
    if file.parent.name != DROP_INS:
        return None
    try:
        waits = file.is_fifo() or file.is_char_device()
    except OSError:
        return None  # reading it tells
    # A reload would wait for who writes into it.
    return "cannot read it: it is no file" if waits else None


def _stamp(file: Path) -> FileStamp | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return FileStamp(
        file=file,
        identity=(status.st_dev, status.st_ino),
        size_bytes=status.st_size,
        changed_ns=status.st_mtime_ns,
    )


def _problem(file: Path, message: str) -> Problem:
    return Problem(origin=Origin(name=as_utf8(str(file))), key="", message=message)


def _may_be_there(file: Path) -> bool:
    """Whether there is such a file, or a link, or a directory that hides it: reading it tells."""
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


class _Builder:
    """Makes the configuration of what is set.

    A section whose values contradict each other is left as it is by default, so that what is wrong
    with others is found too.
    """

    def __init__(self, settings: list[Setting]) -> None:
        self._settings = settings
        self._problems: list[Problem] = []

    def build(self) -> Config:
        """Return it. Raises ConfigError with each contradiction."""
        tree: dict[str, Any] = {}
        for setting in self._settings:
            _put(tree, setting.path, setting.value)
        config: Config = self._make(Config, tree)
        if self._problems:
            raise ConfigError(self._problems)
        return config

    def _make(self, section: type[Any], tree: Mapping[str, Any], path: KeyPath = ()) -> Any:  # noqa: ANN401
        types = get_type_hints(section)
        values: dict[str, Any] = {}
        for field in fields(section):
            if field.encode_name not in tree:
                continue
            value, at = tree[field.encode_name], (*path, field.encode_name)
            inner = section_type(types[field.name])
            if inner is not None:
                value = self._make(inner, value, at)
            elif get_origin(types[field.name]) is dict and section is not Gpu:
                named = get_args(types[field.name])[1]
                value = {name: self._make(named, own, (*at, name)) for name, own in value.items()}
            values[field.name] = value
        if section is Gpu and "override" in values:
            common = values.get("thermal", Thermal())
            values["override"] = {
                uuid: self._make_override(own, common, (*path, "override", uuid))
                for uuid, own in values["override"].items()
            }
        return self._construct(section, values, path)

    def _make_override(
        self, tree: Mapping[str, Any], common: Thermal, path: KeyPath
    ) -> GpuOverride:
        """Make one GPU's own values; what its ladder leaves open is as in the common one."""
        thermal: Thermal | None = None
        if "thermal" in tree:
            names = {field.encode_name: field.name for field in fields(Thermal)}
            own = {names[key]: value for key, value in tree["thermal"].items()}
            thermal = self._construct(Thermal, asdict(common) | own, (*path, "thermal"))
        return GpuOverride(reserve_bytes=tree.get("reserve"), thermal=thermal)

    def _construct(self, section: type[Any], values: dict[str, Any], path: KeyPath) -> Any:  # noqa: ANN401
        try:
            return section(**values)
        except ValueError as error:
            self._problems.append(self._problem(path, str(error)))
            return section()

    def _problem(self, path: KeyPath, message: str) -> Problem:
        """Tell of a section; the line is that of what was set last in it."""
        last = [each for each in self._settings if each.path[: len(path)] == path][-1]
        return Problem(origin=last.origin, key=".".join(path), message=message)


def _put(tree: dict[str, Any], path: KeyPath, value: object) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value
