"""Machines with superezio installed as a host has it: wheel, units, sysusers.d, tmpfiles.d."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from system.installation import Installation, install
from system.machine import Machine, why_not


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    return Installation.prepare(scratch=tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def machine(installation: Installation) -> Iterator[Machine]:
    """A booted machine with superezio installed, and nothing of it started."""
    with Machine(nspawn_options=installation.nspawn_options) as machine:
        install(machine)
        yield machine
