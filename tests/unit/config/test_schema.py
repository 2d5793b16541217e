"""The defaults of the configuration are those of the parts it configures."""

from __future__ import annotations

from inspect import signature
from typing import Any

import msgspec
import pytest
from msgspec.structs import asdict

from supereziod.config.access import Access
from supereziod.config.gpu import Fitness, Gpu, Probe, Thermal
from supereziod.config.health import Health, Watchdog
from supereziod.config.leases import Leases
from supereziod.config.limits import Limits
from supereziod.gpu.fitness import FitnessRules
from supereziod.gpu.frames import ProbeSpec
from supereziod.gpu.patience import Patience
from supereziod.gpu.roster import MonitorRules
from supereziod.gpu.thermal import Thresholds
from supereziod.health.manager import HealthManager
from supereziod.health.watchdog import Watchdog as HealthWatchdog
from supereziod.leases.ledger import Ledger
from supereziod.leases.manager import LeaseManager, LeaseTimes
from supereziod.leases.queue import LeaseQueue
from supereziod.rpc.access import resolve_access
from supereziod.rpc.limits import Limits as ServerLimits


def defaults(part: type[msgspec.Struct]) -> dict[str, Any]:
    return asdict(part())


def parameters(part: Any) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in signature(part).parameters.items()
        if parameter.default is not parameter.empty
    }


def test_the_ladder_is_that_of_the_rules() -> None:
    assert Thermal().thresholds() == Thresholds()
    assert set(defaults(Thermal)) == set(defaults(Thresholds))


def test_fitness_and_patience_are_those_of_their_parts() -> None:
    assert Fitness().rules() == FitnessRules()
    assert set(defaults(Fitness)) == set(defaults(FitnessRules))
    assert Probe().patience() == Patience()
    assert Probe().deadline_s == defaults_of_spec("deadline_s")


def defaults_of_spec(name: str) -> Any:
    return getattr(ProbeSpec(driver="nvml"), name)


@pytest.mark.parametrize(
    ("configured", "theirs"),
    [
        (defaults(Limits), defaults(ServerLimits)),
        (defaults(Leases), defaults(LeaseTimes)),
        (defaults(Leases), parameters(LeaseManager)),
        (defaults(Leases), parameters(Ledger)),
        (defaults(Leases), parameters(LeaseQueue)),
        (defaults(Leases), parameters(resolve_access)),
        (defaults(Health), parameters(HealthManager)),
        (defaults(Gpu), {k: v for k, v in defaults(MonitorRules).items() if k != "fitness"}),
        (defaults(Watchdog), parameters(HealthWatchdog)),
    ],
)
def test_a_name_that_both_have_has_one_default(
    configured: dict[str, Any], theirs: dict[str, Any]
) -> None:
    common = configured.keys() & theirs.keys()
    assert common
    assert {name: configured[name] for name in common} == {name: theirs[name] for name in common}


def test_access_asks_for_the_same_groups_and_users() -> None:
    theirs = parameters(resolve_access)
    for name, value in defaults(Access).items():
        assert tuple(value) == tuple(theirs[name])
