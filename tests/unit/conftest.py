"""How Hypothesis judges here: by what is right, never by how long an example took."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Its own limits (200 ms for an example, some seconds for drawing the first ten) are of the wall
# clock: beside others on a busy machine they fail tests of code that is right.
settings.register_profile(
    "by what is right", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("by what is right")
