"""Typed configuration: TOML, drop-ins, and errors that name file, line and key."""

from supereziod.config.changes import Changes, diff
from supereziod.config.doubts import doubts
from supereziod.config.host_names import unknown_names
from supereziod.config.loader import ConfigError, Loaded, Problem, Source
from supereziod.config.schema import Config

__all__ = [
    "Changes",
    "Config",
    "ConfigError",
    "Loaded",
    "Problem",
    "Source",
    "diff",
    "doubts",
    "unknown_names",
]
