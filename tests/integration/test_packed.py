"""What was packed is the tree: the same files, the same programs, and all can be imported."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import PathDistribution, distribution
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.installed,
    pytest.mark.skipif(
        "SUPEREZIO_TEST_INSTALLED" not in os.environ, reason="`make wheel-test` packs it"
    ),
]

PROJECT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
IMPORT_ALL = """
import importlib, pathlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not module.name.endswith(".__main__"):
            print(importlib.import_module(module.name).__file__)
"""


@pytest.fixture(scope="module")
def packages() -> list[Path]:
    """The folders that are to be packed."""
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    return [PROJECT / each for each in wheel["packages"]]


@pytest.fixture(scope="module")
def installed() -> PathDistribution:
    found = distribution("superezio")
    assert isinstance(found, PathDistribution)
    return found


def test_every_file_is_packed_as_it_is(packages: list[Path], installed: PathDistribution) -> None:
    tree = {
        str(path.relative_to(package.parent)): path.read_bytes()
        for package in packages
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {
        str(path): Path(path.locate()).read_bytes()
        for path in installed.files or ()
        if path.parts[0] in {package.name for package in packages} and path.suffix != ".pyc"
    }
    assert len(tree) > 300
    assert sorted(packed) == sorted(tree)
    assert [name for name, text in tree.items() if packed[name] != text] == []


def test_its_programs_and_extras_are_those_of_the_project(installed: PathDistribution) -> None:
    project = PYPROJECT["project"]
    assert {each.name: each.value for each in installed.entry_points} == project["scripts"]
    assert set(installed.metadata.get_all("Provides-Extra") or ()) == {
        *project["optional-dependencies"]
    }
    for program in project["scripts"]:
        path = Path(sys.executable).with_name(program)
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
        assert installed.version in done.stdout


def test_every_module_can_be_imported_from_where_it_is_installed(
    packages: list[Path], installed: PathDistribution
) -> None:
    names = [package.name for package in packages]
    command = [sys.executable, "-I", "-W", "error", "-c", IMPORT_ALL, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = [Path(line) for line in done.stdout.splitlines()]
    assert len(imported) > 300
    place = Path(str(installed.locate_file("")))
    assert [path for path in imported if not path.is_relative_to(place)] == []
