"""Losses are told while they are recent."""

from __future__ import annotations

from supereziod.health.losses import RecentLosses
from unit.health.host import Clock


def test_losses_are_told_for_a_while_and_then_forgotten(clock: Clock) -> None:
    count = 4  # lost before anyone looked
    losses = RecentLosses(lambda: count, noun="log lines", window_s=300, clock=clock)
    assert losses() is None
    count += 2
    assert losses() == "2 log lines were lost lately"
    clock.advance(200)
    count += 3
    assert losses() == "5 log lines were lost lately"
    clock.advance(300)
    assert losses() == "5 log lines were lost lately"
    clock.advance(1)
    assert losses() is None
    count += 1
    assert losses() == "1 log lines were lost lately"
