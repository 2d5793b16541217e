"""Breakers with users and connections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from unit.resilience.breaker_host import BreakerHost


@pytest.fixture
def host() -> Iterator[BreakerHost]:
    made = BreakerHost()
    yield made
    made.close()
