"""Fault by fault: what was lost, how long the daemon was away, and what an administrator sees.

The short run tries every fault on this machine's systemd, and on another those that are systemd's
to deal with; SUPEREZIO_FAULTS=all, as `make faults` sets it, tries all on each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.faults import clock_faults, daemon_faults, file_faults, gpu_faults, systemd_faults
from system.faults.fault import CannotBeTriedError, Fault, Outcome, Sight
from system.faults.host import FaultyHost
from system.faults.observation import Observation
from system.installation import Installation

_ALL = os.environ.get("SUPEREZIO_FAULTS") == "all"
FAULTS = (
    *daemon_faults.FAULTS,
    *systemd_faults.FAULTS,
    *file_faults.FAULTS,
    *gpu_faults.FAULTS,
    *clock_faults.FAULTS,
    *gpu_faults.HEAT,
)


class Hosts:
    """A host for each installation, which serves until a fault is found that it does not bear."""

    def __init__(self, build: Path) -> None:
        self._build = build
        self._host: FaultyHost | None = None
        self._installation: Installation | None = None

    def of(self, installation: Installation) -> FaultyHost:
        if self._host is None or self._installation != installation:
            self.discard()
            self._host = FaultyHost(installation, build=self._build)
            self._installation = installation
        return self._host

    def discard(self) -> None:
        host, self._host = self._host, None
        if host is not None:
            host.close()


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    hosts = Hosts(tmp_path_factory.mktemp("faults"))
    yield hosts
    hosts.discard()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "fault",
    [each for each in FAULTS if _ALL or each.is_short],
    ids=lambda fault: fault.name.replace(" ", "-"),
)
def test_a_fault_loses_nothing(
    fault: Fault, installation: Installation, hosts: Hosts, outcomes: list[Outcome]
) -> None:
    if not (_ALL or fault.each_systemd or installation.tree.is_ours):
        pytest.skip("`make faults` tries it on this systemd, too")
    host = hosts.of(installation)
    systemd = host.machine.output("systemctl", "--version").split()[1]
    sight: Sight | None = None
    seen: Observation | None = None
    why = "see the failure"
    try:
        host.begin()
        sight = fault.provoke(host)
        seen = host.finish()
        _judge(fault, seen)
    except CannotBeTriedError as error:
        why = f"cannot be tried here: {error}"
        hosts.discard()
        pytest.skip(why)
    except BaseException:
        hosts.discard()
        raise
    finally:
        outcomes.append(Outcome(fault.name, systemd, sight, seen, why))


def _judge(fault: Fault, seen: Observation) -> None:
    assert seen.standing == 3
    assert seen.grants > 0
    assert (seen.lost, seen.leaked, seen.missing, seen.wrong) == ((), (), (), ())
    assert seen.away_s < fault.away_s
