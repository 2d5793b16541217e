"""What the daemon tells a monitoring system of itself: families of metrics, and who has them.

A part declares its families as data and reads their samples off itself when it is asked: counting
and measuring cost a request nothing. Prometheus' naming holds: base units in the name, `_total` for
what only grows. The set of values that a label may have is bounded, and never a person's: no uid,
no pid, no id of a lease or of a request. What is not known has no sample, which is not 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from msgspec import Struct

#: The values of a family's labels, in their order, and what was measured.
Sample = tuple[tuple[str, ...], float]


class Family(Struct, frozen=True, kw_only=True):
    """What is measured under one name. `help` is one sentence, without its full stop."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...] = ()


class Metric(Struct, frozen=True):
    """A family with its samples of now."""

    family: Family
    samples: Sequence[Sample]


class MetricSource(Protocol):
    """A part that has metrics. `collect` is called on the event loop and must not block."""

    @property
    def families(self) -> Sequence[Family]:
        """All families that it may have samples of; no other source has one of them."""

    def collect(self) -> Iterable[Metric]:
        """Return what holds now: each family once at most."""


def gauge(name: str, help_: str, *labels: str) -> Family:
    """Declare what goes up and down."""
    return Family(name=name, kind="gauge", help=help_, labels=labels)


def counter(name: str, help_: str, *labels: str) -> Family:
    """Declare what only grows while the daemon runs."""
    return Family(name=name, kind="counter", help=help_, labels=labels)


def single(family: Family, value: float | None) -> Metric:
    """Return a family without labels; None is no sample."""
    return Metric(family, [] if value is None else [((), value)])


def state_samples(labels: tuple[str, ...], states: Iterable[str], current: str) -> list[Sample]:
    """Return a sample for each state, 1 for the current one and 0 for the others."""
    return [((*labels, state), float(state == current)) for state in states]
