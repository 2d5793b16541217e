"""An outage of a service, scaled down: `make outage` runs the whole minute."""

from __future__ import annotations

from pathlib import Path

import pytest

from outage import Scale, faults, observe, refusal_ms


@pytest.mark.slow
def test_an_outage_reaches_the_service_as_half_open_probes_alone(tmp_path: Path) -> None:
    """50 processes call on; each is told so at once, and all go on within one open interval."""
    seen = observe(tmp_path, Scale(outage_s=6.0, open_s=1.0, open_limit_s=1.0))
    assert faults(seen) == []
    # With 50 processes on a machine that does other things too, the others wait for the machine;
    # `make outage` on an idle one judges 99 of 100.
    assert refusal_ms(seen, 0.1) < 5.0
