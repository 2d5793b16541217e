"""Fixtures: `pytest_plugins = ["nvml_sim.plugin"]` in a top conftest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nvml_sim.build import CURRENT, build, why_not
from nvml_sim.profiles import DEFAULT, Profile
from nvml_sim.simulator import NvmlSimulator

MakeSimulator = Callable[..., NvmlSimulator]


def require_compiler() -> None:
    """Skip the test, with the reason, where nothing can be compiled."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


def built(variant: str = CURRENT) -> Path:
    """Return the folder of that variant's library, or skip the test where it cannot be made."""
    require_compiler()
    return build(variant)


@pytest.fixture(scope="session")
def nvml_library() -> Path:
    """The folder with the simulator's library, of a current driver."""
    return built()


@pytest.fixture
def make_nvml_sim(tmp_path: Path) -> Iterator[MakeSimulator]:
    """Make a simulated host with the given profiles (default: RTX 3060 and RTX 2060)."""
    with contextlib.ExitStack() as stack:

        def make(*profiles: Profile, name: str = "nvml.state") -> NvmlSimulator:
            simulator = NvmlSimulator.create(tmp_path / name, profiles or DEFAULT)
            return stack.enter_context(simulator)

        yield make


@pytest.fixture
def nvml_sim(make_nvml_sim: MakeSimulator) -> NvmlSimulator:
    """A simulated host with an RTX 3060 and an RTX 2060."""
    return make_nvml_sim()


@pytest.fixture
def nvml_env(nvml_sim: NvmlSimulator, nvml_library: Path) -> dict[str, str]:
    """The environment in which a child process finds `nvml_sim` as its NVIDIA driver."""
    return nvml_sim.env(nvml_library)
