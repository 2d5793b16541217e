"""Typed configuration: TOML, drop-ins, and errors that name file, line and key."""

from supereziod.config.changes import Changes, diff
from supereziod.config.doubts import doubts
from supereziod.config.host_names import unknown_names
from supereziod.config.loader import Loaded, Source
from supereziod.config.schema import Config
from supereziod.config.setting import ConfigError, Origin, Problem, Setting

__all__ = [
    "Changes",
    "Config",
    "ConfigError",
    "Loaded",
    "Origin",
    "Problem",
    "Setting",
    "Source",
    "diff",
    "doubts",
    "unknown_names",
]
