"""What the command line and the environment settle: the configuration, and where things lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from superezio.paths import daemon_socket_path
from supereziod.config import ConfigError, Loaded, Problem, Source

#: The options that set a key of the configuration.
_KEYS: Final = {
    "gpu_driver": "gpu.driver",
    "scenario": "gpu.scenario",
    "log_format": "logging.format",
    "log_level": "logging.level",
}
_SYSTEM_STATE_DIR: Final = Path("/var/lib/superezio")


class Options(Struct, frozen=True, kw_only=True):
    """How this daemon was started. `source` is what a reload reads again."""

    source: Source
    loaded: Loaded
    socket: Path
    runtime_dir: Path
    state_dir: Path


def resolve(given: Mapping[str, str | None], environ: Mapping[str, str] = os.environ) -> Options:
    """Load the configuration and settle the places.

    `given` has the options by name, None where neither the command line nor a variable set one.
    Raises ConfigError.
    """
    overrides = {key: value for name, key in _KEYS.items() if (value := given.get(name))}
    if "gpu.scenario" in overrides:
        overrides["gpu.scenario"] = str(Path(overrides["gpu.scenario"]).absolute())
    file = given.get("config")
    source = Source(file=Path(file).absolute() if file else None, overrides=overrides)
    loaded = source.load()
    _check_scenario(loaded.config.gpu.scenario)
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


def _check_scenario(file: str | None) -> None:
    """Raise ConfigError where a simulation could not begin: the probe alone would notice later."""
    if file is None:
        return
    from supereziod.gpu.scenario import ScenarioError, load_scenario  # noqa: PLC0415 - seldom used

    try:
        load_scenario(Path(file))
    except ScenarioError as error:
        problem = Problem(file=Path("gpu.scenario"), line=None, key="", message=str(error))
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
        return _SYSTEM_STATE_DIR
    home = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "superezio"


def _first(directories: str | None) -> Path | None:
    return Path(directories.split(":")[0]) if directories else None
