"""A page's commands, typed from the top into one shell, as somebody types them who reads it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

#: Names the command that failed, and ends what the page started, however far it came.
_PREAMBLE: Final = """\
set -eE
step() { current=$1; echo "\\$ $1" >&2; }
trap 'echo "failed: $current" >&2' ERR
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
"""
#: By itself, and as asked: a page starts a daemon, and its last line ends it.
_THE_DAEMON_HAS_STOPPED: Final = 'wait "$daemon"\n'


def type_from_the_top(
    lines: Sequence[str], *, directory: Path, environment: Mapping[str, str], within_s: float
) -> str:
    """Run the commands in `directory`, and return what they print; one that fails is an error."""
    steps = [f"step {shlex.quote(line)}\n{line}\n" for line in lines]
    done = subprocess.run(
        ["bash", "-c", "".join([_PREAMBLE, *steps, _THE_DAEMON_HAS_STOPPED])],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def installed_in(directory: Path) -> dict[str, str]:
    """Return the environment of somebody who has it installed; its files go to `directory`."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SUPEREZIO_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["TMPDIR"] = str(directory)
    return environment
