"""An outage of a service, scaled down: `make outage` runs the whole minute.

How long a refusal takes by the clock is judged there, on an idle machine: p99. Here 50 processes
wait for a machine that does other things too, and a refusal is judged by the ping before it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from outage import Scale, beyond_ping_ms, faults, observe


@pytest.mark.slow
def test_an_outage_reaches_the_service_as_half_open_probes_alone(tmp_path: Path) -> None:
    """50 processes call on; each is told so at once, and all go on within one open interval."""
    seen = observe(tmp_path, Scale(outage_s=6.0, open_s=1.0, open_limit_s=1.0))
    assert faults(seen) == []
    # A ping is one round trip, a refusal asks limit and breaker and gives back what was reserved.
    assert beyond_ping_ms(seen, 0.5) < 3.0
