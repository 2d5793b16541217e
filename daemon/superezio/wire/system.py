"""The daemon itself, and the configuration it runs by."""

from __future__ import annotations

from typing import Literal

from superezio.wire.message import Params, Result, Role


class Pong(Result):
    pid: int
    uptime_s: float


class SystemInfo(Result):
    version: str
    protocol: int
    pid: int
    started_at: str
    uptime_s: float
    gpu_driver: str
    driver_version: str | None
    cuda_version: str | None
    socket: str
    runtime_dir: str
    state_dir: str
    config_files: list[str]
    log_level: str
    uid: int
    role: Role
    connections: int
    requests: int


class ReloadResult(Result):
    """What a reload did: keys in force at once, and keys that wait for a restart.

    `warnings`: users and groups that the files name and this host does not know, each in a
    sentence with file, line and key. They have no rights and no quota until a reload finds them.
    """

    applied: list[str]
    restart_required: list[str]
    config_files: list[str]
    warnings: list[str] = []


class ConfigParams(Params):
    """`key`: a key or a section, as TOML writes it, and all where it is null.

    `all`: also what nobody has set, with its default.
    """

    key: str | None = None
    all: bool = False


class ConfigOrigin(Result):
    """Where a value was set: in a file, by a variable of the environment, by an option, nowhere.

    `name` is the file, the variable or the option; `line` is one of a file, from 1.
    """

    place: Literal["default", "file", "environment", "option"]
    name: str | None
    line: int | None


class ConfigRunTime(Result):
    """A value that a user has set in the running daemon: it holds until the next reload or restart.

    `configured` is what the files, a variable or an option have instead.
    """

    value: bool | int | float | str | list[int | str] | None
    configured: bool | int | float | str | list[int | str] | None
    uid: int
    at: str


class ConfigValue(Result):
    """A key of the configuration that is in force.

    `key` is as TOML writes it and `path` its parts. Values are as in a file: sizes and durations as
    text where that is exact; null is not set. `live`: a reload changes it, else a restart.
    `run_time`: who has set it in the running daemon; `origin` is then that of `configured`.
    """

    key: str
    path: list[str]
    value: bool | int | float | str | list[int | str] | None
    default: bool | int | float | str | list[int | str] | None
    origin: ConfigOrigin
    live: bool
    run_time: ConfigRunTime | None = None


class ConfigValues(Result):
    """`read_at`: when the files were last read and found good.

    `restart_required` are keys that have another value once the daemon is restarted; `fault` says
    why the last reload was refused, and null that it was not.
    """

    values: list[ConfigValue]
    config_files: list[str]
    read_at: str
    restart_required: list[str]
    fault: str | None


class ConfigChange(Result):
    """A key that the files set otherwise than it is in force; null is not set, or not there.

    `origin` is where the new value is from.
    """

    key: str
    path: list[str]
    old: bool | int | float | str | list[int | str] | None
    new: bool | int | float | str | list[int | str] | None
    origin: ConfigOrigin
    live: bool


class ConfigDiff(Result):
    """What a reload, or a restart where a change is not live, would put in force.

    `warnings` are those of a reload.
    """

    changes: list[ConfigChange]
    config_files: list[str]
    warnings: list[str]


class LogLevelParams(Params):
    """`level` None asks; otherwise one of debug, info, warning, error, critical."""

    level: str | None = None


class LogLevelResult(Result):
    level: str
    previous: str
