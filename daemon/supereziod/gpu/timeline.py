"""What a scenario has in force on one card at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from superezio.quantities import parse_duration, parse_size
from supereziod.gpu.scenario import (
    AnyHappening,
    Back,
    DriverBack,
    Ecc,
    Foreign,
    Hang,
    Heat,
    Load,
    Lost,
    Mig,
    MigForbidden,
    NoDriver,
    Temperature,
    Vanish,
    VersionMismatch,
    XidEvent,
)

Presence = Literal["there", "hang", "lost", "vanished"]


class Timeline:
    """The events of one card, or of the driver (`slot` None). Times are since the start."""

    def __init__(self, events: Sequence[AnyHappening], *, slot: int | None) -> None:
        own = [event for event in events if event.gpu == slot]
        self._events = sorted(own, key=lambda event: event.start_ns)

    def presence(self, at_ns: int) -> Presence:
        """Return how the card answers."""
        event = self._latest(at_ns, Hang, Lost, Vanish, Back)
        match event:
            case Hang():
                return "hang"
            case Lost():
                return "lost"
            case Vanish():
                return "vanished"
        return "there"

    def driver_fault(self, at_ns: int) -> Literal["no_driver", "version_mismatch"] | None:
        """Return what is wrong with the driver as a whole."""
        match self._latest(at_ns, NoDriver, VersionMismatch, DriverBack):
            case NoDriver():
                return "no_driver"
            case VersionMismatch():
                return "version_mismatch"
        return None

    def temperature_c(self, at_ns: int, *, cool_c: float) -> float | None:
        """Return the forced temperature; a ramp begins at `cool_c`."""
        event = self._latest(at_ns, Temperature, Heat)
        if isinstance(event, Temperature):
            return event.celsius
        if isinstance(event, Heat):
            over_ns = parse_duration(event.over) * 1e9
            part = min(1.0, (at_ns - event.start_ns) / over_ns) if over_ns else 1.0
            return cool_c + (event.celsius - cool_c) * part
        return None

    def load_percent(self, at_ns: int) -> int:
        """Return the load that no stand-in makes."""
        event = self._latest(at_ns, Load)
        return event.percent if isinstance(event, Load) else 0

    def foreign_bytes(self, at_ns: int) -> int:
        """Return the VRAM that is used by no stand-in."""
        return sum(
            parse_size(event.vram)
            for event in self._events
            if isinstance(event, Foreign) and event.start_ns <= at_ns < event.end_ns
        )

    def ecc_uncorrected(self, at_ns: int) -> int:
        """Return the ECC errors so far."""
        return sum(e.count for e in self._events if isinstance(e, Ecc) and e.start_ns <= at_ns)

    def instances(self, at_ns: int) -> tuple[str, ...] | None:
        """Return what MIG has cut the card into, if an event says so."""
        event = self._latest(at_ns, Mig)
        return event.instances if isinstance(event, Mig) else None

    def is_mig_forbidden(self, at_ns: int) -> bool:
        """Whether the instances may not be read."""
        return self._latest(at_ns, MigForbidden) is not None

    def xids(self, *, after_ns: int, until_ns: int) -> list[tuple[int, int]]:
        """Return (time, xid) of those in the interval."""
        return [
            (event.start_ns, event.xid)
            for event in self._events
            if isinstance(event, XidEvent) and after_ns < event.start_ns <= until_ns
        ]

    def _latest(self, at_ns: int, *kinds: type[AnyHappening]) -> AnyHappening | None:
        """Return the event of these kinds that began last, unless it has ended."""
        latest = None
        for event in self._events:
            if event.start_ns > at_ns:
                break
            if isinstance(event, kinds):
                latest = event
        return latest if latest is not None and at_ns < latest.end_ns else None
