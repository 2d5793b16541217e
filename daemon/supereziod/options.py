"""What the command line and the environment settle: the configuration, and where things lie."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from superezio.paths import SYSTEM_STATE_DIR, daemon_socket_path
from superezio.toml_lines import KeyPath
from supereziod.config import ConfigError, Loaded, Origin, Problem, Setting, Source
from supereziod.config.environment import variables_in

#: The options that set a key of the configuration.
_KEYS: Final[dict[str, KeyPath]] = {
    "gpu_driver": ("gpu", "driver"),
    "scenario": ("gpu", "scenario"),
    "log_format": ("logging", "format"),
    "log_level": ("logging", "level"),
}


class Options(Struct, frozen=True, kw_only=True):
    """How this daemon was started. `source` is what a reload reads again."""

    source: Source
    loaded: Loaded
    socket: Path
    runtime_dir: Path
    state_dir: Path


def resolve(
    given: Mapping[str, str | None],
    environ: Mapping[str, str] = os.environ,
    *,
    by_variable: Mapping[str, str] = MappingProxyType({}),
) -> Options:
    """Load the configuration and settle the places.

    `given` has the options by name, None where neither the command line nor a variable set one;
    `by_variable` has the variable of each that one set. Raises ConfigError.
    """
    file = given.get("config")
    source = Source(
        file=Path(file).absolute() if file else None,
        variables=variables_in(environ),
        options=tuple(_set_by_options(given, by_variable)),
    )
    loaded = source.load()
    _check_scenario(loaded)
    socket = _socket(given.get("socket"), environ)
    runtime_dir = given.get("runtime_dir")
    return Options(
        source=source,
        loaded=loaded,
        socket=socket,
        # The leases lie beside the socket: two daemons with sockets of their own share nothing.
        runtime_dir=Path(runtime_dir).absolute() if runtime_dir else socket.parent,
        state_dir=_state_dir(given.get("state_dir"), environ),
    )


def _set_by_options(
    given: Mapping[str, str | None], by_variable: Mapping[str, str]
) -> Iterator[Setting]:
    for name, path in _KEYS.items():
        value = given.get(name)
        if not value:
            continue
        if name in by_variable:
            origin = Origin(place="environment", name=by_variable[name])
        else:
            origin = Origin(place="option", name=f"--{name.replace('_', '-')}")
        value = str(Path(value).absolute()) if name == "scenario" else value
        yield Setting(path=path, value=value, origin=origin)


def _check_scenario(loaded: Loaded) -> None:
    """Raise ConfigError where a simulation could not begin: the probe alone would notice later."""
    file = loaded.config.gpu.scenario
    if file is None:
        return
    from supereziod.gpu.scenario import ScenarioError, load_scenario  # noqa: PLC0415 - seldom used

    try:
        load_scenario(Path(file))
    except ScenarioError as error:
        origin = loaded.origins["gpu", "scenario"]
        problem = Problem(origin=origin, key="gpu.scenario", message=str(error))
        raise ConfigError([problem]) from error


def _socket(given: str | None, environ: Mapping[str, str]) -> Path:
    if given:
        return Path(given).absolute()
    by_systemd = _first(environ.get("RUNTIME_DIRECTORY"))
    return by_systemd / "control.sock" if by_systemd else Path(daemon_socket_path())


def _state_dir(given: str | None, environ: Mapping[str, str]) -> Path:
    if given:
        return Path(given).absolute()
    by_systemd = _first(environ.get("STATE_DIRECTORY"))
    if by_systemd:
        return by_systemd
    if os.geteuid() == 0:
        return Path(SYSTEM_STATE_DIR)
    home = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "superezio"


def _first(directories: str | None) -> Path | None:
    return Path(directories.split(":")[0]) if directories else None
