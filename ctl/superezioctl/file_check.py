"""Checking a configuration without a daemon: supereziod's own reader, in a process of its own.

The command line and the daemon share no code but the client package, and the rules of the
configuration are the daemon's.
"""

from __future__ import annotations

import json
import subprocess
import sys

from superezio.errors import SuperezioError

#: The exit codes of `supereziod --check` that come with a document: good, and bad.
_TOLD = (0, 78)


class CheckFailedError(SuperezioError):
    """The files could not be checked."""


def check(file: str | None) -> bytes:
    """Return what `supereziod --check --json` says. Raises CheckFailedError."""
    # -P: no code from the directory that somebody happens to be in.
    command = [sys.executable, "-P", "-m", "supereziod", "--check", "--json"]
    if file is not None:
        command += ["--config", file]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode in _TOLD:
        return done.stdout.strip()
    said = done.stderr.decode(errors="replace").strip()
    if "No module named supereziod" in said:
        said = "there is only the client here; run `supereziod --check` where the daemon is"
    raise CheckFailedError(f"cannot check the configuration: {said}")


def is_good(raw: bytes) -> bool:
    """Whether a document of `check` is of files that can be used."""
    return json.loads(raw)["good"] is True
