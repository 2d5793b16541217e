"""The section of the flight recorder."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from supereziod.config.section import Section

_MIB = 1 << 20


class Recorder(Section, frozen=True):
    size_bytes: Annotated[
        int,
        Meta(
            ge=256 * 1024,
            le=1024 * _MIB,
            description="The file that requests leave their records in (flight.ring, in the state"
            " directory): the newest push out the oldest. Of requests that waited, failed or were"
            " about a lease no user's flood pushes out those of others: what is more than its share"
            " is recorded in short.",
        ),
    ] = 8 * _MIB
