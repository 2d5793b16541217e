"""Fault by fault: what was lost, how long the daemon was away, and what an administrator sees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from system.faults import clock_faults, daemon_faults, file_faults, gpu_faults, systemd_faults
from system.faults.fault import Fault, Outcome
from system.faults.trials import DEBIAN_13, HERE, Lane

FAULTS = (
    *daemon_faults.FAULTS,
    *systemd_faults.FAULTS,
    *file_faults.FAULTS,
    *gpu_faults.FAULTS,
    *clock_faults.FAULTS,
    *gpu_faults.HEAT,
)
#: All that superezio has to bear; a row begins with what it tries of it.
_TO_BEAR = (
    "stuck loop",
    "overheating",
    "bad configuration",
    "five manual restarts",
    "OOM kill",
    "SIGKILL",
    "SIGSTOP",
    "runtime directory full",
    "state directory read-only",
    "state directory full",
    "corrupt state file",
    "corrupt file of leases",
    "clock jumps",
    "suspend",
    "journald restarted",
    "socket unit restarted",
    "daemon-reload",
    "daemon-reexec",
    "probe killed",
    "probe stuck",
    "fd limit reached",
    "driver removed",
    "driver upgraded",
    "1,000 connects during a restart",
)


@pytest.fixture(scope="session")
def lanes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Lane]]:
    """Each systemd, which is trying what is asked of it from now on."""
    asked: dict[str, list[Fault]] = {HERE: [], DEBIAN_13: []}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and "lanes" in item.fixturenames:
            systemd, fault = (item.callspec.params[name] for name in ("systemd", "fault"))
            assert isinstance(systemd, str)
            assert isinstance(fault, Fault)
            asked[systemd].append(fault)
    lanes = {name: Lane(name, scratch=tmp_path_factory.mktemp(name)) for name in asked}
    for name, faults in asked.items():
        lanes[name].begin(faults)
    yield lanes
    for lane in lanes.values():
        lane.end()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("systemd", [HERE, DEBIAN_13])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_loses_nothing(
    fault: Fault, systemd: str, lanes: dict[str, Lane], outcomes: list[Outcome]
) -> None:
    trial = lanes[systemd].trial(fault)
    if trial.outcome is not None:
        outcomes.append(trial.outcome)
    if trial.failure is not None:
        raise trial.failure
    if trial.why_not is not None:
        pytest.skip(trial.why_not)


def test_all_that_is_to_be_borne_is_tried() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names))
    for wanted in _TO_BEAR:
        assert any(name.startswith(wanted) for name in names), wanted
    for name in names:
        assert name.startswith(_TO_BEAR), name
