"""Every command in the README is run, from an empty directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from markdown_blocks import all_blocks, commands_of
from page_shell import type_from_the_top

PROJECT = Path(__file__).parents[2]
README = PROJECT / "README.md"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What somebody has who cloned the project into an empty directory."""
    if shutil.which("git") is None:
        pytest.skip("git is not there: apt-get install git")
    directory = tmp_path_factory.mktemp("readme") / "superezio"
    subprocess.run(["git", "clone", "--quiet", PROJECT, directory], check=True)
    return directory


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(
    "SUPEREZIO_TEST_INSTALLED" in os.environ, reason="the README is about a checkout"
)
def test_every_command_of_the_readme_runs_from_an_empty_directory(
    checkout: Path, tmp_path: Path
) -> None:
    lines = list(typed(tmp_path))
    assert len(lines) > 10
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SUPEREZIO_", "COVERAGE", "VIRTUAL_ENV", "PYTHON"))
    }
    environment["PYTHON"] = getattr(sys, "_base_executable", sys.executable)
    printed = type_from_the_top(lines, directory=checkout, environment=environment, within_s=390)
    assert "on GPU-" in printed


def typed(directory: Path) -> Iterator[str]:
    """What somebody types who reads from the top; programs are files in `directory`."""
    for number, (language, block) in enumerate(all_blocks(README)):
        if language == "python":
            program = directory / f"readme-{number}.py"
            program.write_text(block)
            yield f"python {program}"
        elif language == "console":
            yield from commands_of(block, "$ ")
