"""The tests of cgroups see each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

TESTS = [Path(__file__).parent / "test_cgroups.py"]

CGROUPS = "supereziod.leases.cgroups"

MUTANTS = (
    Mutant(
        "counts all that a user runs for one holder",
        CGROUPS,
        '    r"user@.+\\.service"',
        '    r"user@\\.service"',
    ),
    Mutant(
        "counts a login for one holder",
        CGROUPS,
        '    r"|session-.+\\.scope"',
        '    r"|session\\.scope"',
    ),
    Mutant(
        "counts a terminal's tabs for one holder",
        CGROUPS,
        "(?:vte-spawn|tmux-spawn)-.+",
        "(?:vte-spawn)-.+",
    ),
    Mutant(
        "counts a machine for one holder",
        CGROUPS,
        "|machine-.+\\.scope|systemd-nspawn@",
        "|systemd-nspawn@",
    ),
    Mutant(
        "takes what is beside a container for the container",
        CGROUPS,
        '    r"|libpod-conmon-.+\\.scope"',
        '    r"|libpod-conmon\\.scope"',
    ),
    Mutant(
        "counts all containers of an engine for one holder",
        CGROUPS,
        "(?:docker|containerd|podman)",
        "(?:containerd|podman)",
    ),
    Mutant(
        "takes a service of the system for one that a desktop started",
        CGROUPS,
        "return not (in_user_manager and _DESKTOP.fullmatch(name))",
        "return not _DESKTOP.fullmatch(name)",
    ),
    Mutant(
        "takes what a desktop started for one program",
        CGROUPS,
        "return not (in_user_manager and _DESKTOP.fullmatch(name))",
        "return True",
    ),
    Mutant(
        "takes any number for a container",
        CGROUPS,
        "[0-9a-f]{64}",
        "[0-9a-f]{32,64}",
    ),
    Mutant(
        "lets the outermost count",
        CGROUPS,
        "for length in range(len(parts), 0, -1):",
        "for length in range(1, len(parts) + 1):",
    ),
    Mutant(
        "returns a part of a program",
        CGROUPS,
        'return "/".join(parts[:length])',
        "return path",
    ),
    Mutant(
        "reads the unified hierarchy alone",
        CGROUPS,
        '("", "name=systemd", "devices", "memory", "pids", "cpu,cpuacct", "cpu")',
        '("",)',
    ),
    Mutant(
        "cuts a path at its colon",
        CGROUPS,
        'line.split(":", 2)',
        'line.split(":")',
    ),
)

mutants, test_passes, test_the_suite_kills_one_that = kept_list(MUTANTS, tests=TESTS)
