"""Machines with superezio installed as a host has it: wheel, units, sysusers.d, tmpfiles.d."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from system.installation import Installation, install
from system.machine import Machine, why_not
from system.trees import Tree, debian13

_OURS, _DEBIAN_13 = "here", "debian13"
#: What is tried on each systemd, besides what is marked so; all else is tried on this machine's.
_ON_EACH_SYSTEMD = {"test_units", "test_service"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "installation" in metafunc.fixturenames:
        definition = metafunc.definition
        is_marked = definition.get_closest_marker("each_systemd") is not None
        both = is_marked or definition.path.stem in _ON_EACH_SYSTEMD
        trees = (_OURS, _DEBIAN_13) if both else (_OURS,)
        metafunc.parametrize("installation", trees, indirect=True, scope="session")


@pytest.fixture(scope="session")
def installation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Installation:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    tree = debian13() if request.param == _DEBIAN_13 else Tree()
    if isinstance(tree, str):
        pytest.skip(tree)
    return Installation.prepare(scratch=tmp_path_factory.mktemp("wheel"), tree=tree)


@pytest.fixture
def machine(installation: Installation) -> Iterator[Machine]:
    """A booted machine with superezio installed, and nothing of it started."""
    with installation.boot() as machine:
        install(machine)
        yield machine
