"""What the figures were measured on and with, and how they are to be read."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from typing import Final

from bench.resilience.redis_server import PROGRAM, installed

_PACKAGES: Final = (
    "superezio", "pybreaker", "purgatory", "limits", "aiolimiter", "cachetools", "cashews", "redis",
    "hiredis",
)  # fmt: skip


def conditions() -> str:
    """Return a line of the host and how busy it is, and one of the versions."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    redis = f", redis-server {_redis_version()}" if installed() else ""
    load = ", ".join(f"{figure:.1f}" for figure in os.getloadavg())
    return (
        f"{len(os.sched_getaffinity(0))} cores, load {load} (nothing else is to run meanwhile)\n"
        f"Python {platform.python_version()}, {packages}{redis}"
    )


def _redis_version() -> str:
    told = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"v=(\S+)", told.stdout)
    return found[1] if found else "of no known version"
