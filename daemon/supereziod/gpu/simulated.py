"""Simulated GPUs behind the driver seam: a physical model, never chosen silently.

Three things make a reading: the scenario (a timeline from the daemon's start), the control file
(tests and demonstrations), and the claims of real stand-in processes, which are what VRAM and load
follow. The ledger of the leases is no part of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from supereziod.gpu.claims import Card, Claim, ClaimsDirectory, is_alive
from supereziod.gpu.control import CardControl, Control, ControlReader
from supereziod.gpu.hardware import (
    DriverInfo,
    Fault,
    FaultError,
    GpuDetails,
    GpuIdentity,
    GpuSample,
    InstanceReading,
    ProcessUse,
    Xid,
)
from supereziod.gpu.physics import Heat, clocks_mhz, throttle_mask
from supereziod.gpu.profiles import Profile, find_profile, simulated_uuid
from supereziod.gpu.scenario import CardSection, Scenario
from supereziod.gpu.simulated_mig import Holding, SimulatedInstance, as_cards, cut, read_instance
from supereziod.gpu.timeline import Presence, Timeline

DRIVER_VERSION: Final = "580.65.06"
CUDA_VERSION: Final = "13.0"
_LOOK_AGAIN_S: Final = 0.05
#: Each look wakes a thread: ten a second would cost an idle host more than all else here.
_LOOK_FOR_XIDS_S: Final = 0.5
_FAULTS: Final = {
    "no_driver": "the driver is not loaded (simulated)",
    "version_mismatch": "the library and the loaded driver differ in version (simulated)",
}


class Use(Struct, frozen=True, kw_only=True):
    """VRAM and load of one card at one moment, that of its instances included."""

    used_bytes: int
    load_percent: int
    processes: tuple[ProcessUse, ...]


class SimulatedCard:
    """One card: used by one thread at a time, as a probe does."""

    def __init__(
        self, slot: int, *, section: CardSection, scenario: Scenario, claims: ClaimsDirectory
    ) -> None:
        profile = find_profile(section.profile)
        if profile is None:
            raise ValueError(f"no profile {section.profile!r}")
        self.slot = slot
        self.profile: Profile = profile
        self.section = section
        self.uuid = simulated_uuid(slot, profile)
        self.vram_bytes = section.vram_bytes or profile.vram_bytes
        self.timeline = Timeline(scenario.events, slot=slot)
        self._claims = claims
        self._heat = Heat(profile, ambient_c=scenario.ambient_c)
        self._cool_c = self._heat.advance(0, load_percent=0, forced_c=None)
        self._heat = Heat(profile, ambient_c=scenario.ambient_c)
        self._died_ns: dict[str, int] = {}
        self._known_instances: set[str] = set()

    @property
    def usable_bytes(self) -> int:
        """The VRAM that processes can get."""
        return self.vram_bytes - self.profile.driver_reserved_bytes

    def instances(self, control: CardControl, at_ns: int) -> list[SimulatedInstance] | None:
        """Return what MIG has cut the card into; None where it is off."""
        sizes = control.instances
        if sizes is None:
            sizes = self.timeline.instances(at_ns)
        if sizes is None:
            sizes = self.section.instances or (() if self.section.mig else None)
        return None if sizes is None else cut(self.slot, self.profile, sizes)

    def read_instances(
        self, control: CardControl, *, now_ns: int, at_ns: int, delay_s: float, full: bool
    ) -> tuple[InstanceReading, ...]:
        """Read each instance: VRAM and processes from the claims on it."""
        forbidden = control.mig_forbidden or self.timeline.is_mig_forbidden(at_ns)
        known, instances = self._known_instances, self.instances(control, at_ns) or []
        self._known_instances = set() if forbidden else {each.uuid for each in instances}
        return tuple(
            read_instance(
                instance,
                gpu_uuid=self.uuid,
                gpu_name=self.profile.name,
                now_ns=now_ns,
                holding=lambda uuid: self._holding(uuid, now_ns, delay_s)[0],
                forbidden=forbidden,
                full=full or instance.uuid not in known,
            )
            for instance in instances
        )

    def presence(self, control: CardControl, at_ns: int) -> Presence:
        """Return how the card answers now; what is forced goes before the scenario."""
        if control.hang:
            return "hang"
        if control.vanished:
            return "vanished"
        return "lost" if control.lost else self.timeline.presence(at_ns)

    def identity(self, index: int) -> GpuIdentity:
        """Return what does not change of the card."""
        profile = self.profile
        return GpuIdentity(
            uuid=self.uuid,
            index=index,
            pci_bus_id=f"00000000:{self.slot + 1:02X}:00.0",
            name=profile.name,
            compute_capability=profile.compute_capability,
            vram_total_bytes=self.vram_bytes,
            slowdown_temperature_c=profile.slowdown_temperature_c,
            shutdown_temperature_c=profile.shutdown_temperature_c,
            max_temperature_c=profile.max_temperature_c,
            memory_max_temperature_c=profile.memory_max_temperature_c,
        )

    def sample(
        self, control: CardControl, *, now_ns: int, at_ns: int, delay_s: float, full: bool
    ) -> GpuSample:
        """Read the card: VRAM and processes from the claims, the rest from the physics."""
        instances = self.instances(control, at_ns)
        uuids = [self.uuid, *(instance.uuid for instance in instances or ())]
        use = self._use(control, uuids, now_ns=now_ns, at_ns=at_ns, delay_s=delay_s)
        forced_c = control.temperature_c
        if forced_c is None:
            forced_c = self.timeline.temperature_c(at_ns, cool_c=self._cool_c)
        celsius = self._heat.advance(now_ns, load_percent=use.load_percent, forced_c=forced_c)
        mask = control.throttle_mask
        if mask is None:
            mask = throttle_mask(self.profile, celsius=celsius, load_percent=use.load_percent)
        mig = instances is not None
        ecc = control.ecc_uncorrected + self.timeline.ecc_uncorrected(at_ns)
        return GpuSample(
            uuid=self.uuid,
            taken_ns=now_ns,
            vram_total_bytes=self.vram_bytes,
            vram_used_bytes=use.used_bytes,
            vram_free_bytes=self.usable_bytes - use.used_bytes,
            vram_driver_reserved_bytes=self.profile.driver_reserved_bytes,
            utilization_core_percent=None if mig else use.load_percent,
            utilization_memory_percent=None if mig else use.load_percent * 3 // 5,
            temperature_c=round(celsius),
            margin_c=self.profile.slowdown_temperature_c - round(celsius),
            margin_source="t_limit" if self.profile.t_limit else "threshold",
            power_w=round(self._heat.power_w(use.load_percent), 1),
            throttle_mask=mask,
            details=self._details(
                celsius, load_percent=use.load_percent, mask=mask, ecc=ecc, mig=mig
            )
            if full
            else None,
            processes=use.processes if full else None,
        )

    def _use(
        self, control: CardControl, uuids: list[str], *, now_ns: int, at_ns: int, delay_s: float
    ) -> Use:
        held = [self._holding(uuid, now_ns, delay_s) for uuid in uuids]
        foreign = control.foreign_bytes or self.timeline.foreign_bytes(at_ns)
        load = control.load_percent
        if load is None:
            load = self.timeline.load_percent(at_ns) + sum(percent for _, percent in held)
        used = foreign + sum(holding.used_bytes for holding, _ in held)
        processes = [process for holding, _ in held for process in holding.processes]
        return Use(
            used_bytes=min(self.usable_bytes, used),
            load_percent=max(0, min(100, load)),
            processes=tuple(sorted(processes, key=lambda process: process.pid)),
        )

    def _holding(self, uuid: str, now_ns: int, delay_s: float) -> tuple[Holding, int]:
        """Return what is held of the card or an instance, and the load in percent."""
        held = list(self._held(uuid, now_ns, delay_s))
        alive = sorted(claim for claim, lives in held if lives)
        known = self.section.process_memory
        holding = Holding(
            used_bytes=sum(claim.vram_bytes for claim, _ in held),
            processes=tuple(
                ProcessUse(pid=c.pid, type="C", vram_bytes=c.vram_bytes if known else None)
                for c in alive
            ),
        )
        return holding, sum(claim.load_percent for claim in alive)

    def _held(self, uuid: str, now_ns: int, delay_s: float) -> Iterator[tuple[Claim, bool]]:
        """Yield the claims that hold VRAM, and whether their process lives."""
        for name, claim in self._claims.read(uuid):
            if is_alive(claim):
                yield claim, True
                continue
            died_ns = self._died_ns.setdefault(name, now_ns)
            if now_ns - died_ns < delay_s * 1e9:
                yield claim, False
            else:
                self._claims.remove(name)
                del self._died_ns[name]

    def _details(
        self, celsius: float, *, load_percent: int, mask: int, ecc: int, mig: bool
    ) -> GpuDetails:
        profile = self.profile
        core_mhz, memory_mhz = clocks_mhz(profile, load_percent=load_percent, mask=mask)
        warm_memory = profile.memory_max_temperature_c is not None
        mode: Literal["enabled", "disabled"] = "enabled" if mig else "disabled"
        return GpuDetails(
            compute_mode=self.section.compute_mode,
            mig_mode=mode if profile.has_mig or mig else None,
            memory_temperature_c=round(celsius) + 6 if warm_memory else None,
            power_limit_w=profile.power_limit_w,
            energy_j=round(self._heat.energy_j, 3),
            fan_percent=min(100, max(0, round(celsius) - 30)) if profile.has_fan else None,
            clock_core_mhz=core_mhz,
            clock_memory_mhz=memory_mhz,
            ecc_enabled=True if profile.has_ecc else None,
            ecc_corrected=0 if profile.has_ecc else None,
            ecc_uncorrected=ecc if profile.has_ecc or ecc else None,
            pcie_generation=profile.pcie_generation if load_percent else 1,
            pcie_generation_max=profile.pcie_generation,
            pcie_width=16,
            pcie_width_max=16,
            drives_display=self.section.display,
        )


class SimulatedDriver:
    """A `GpuDriver` over simulated cards.

    `epoch_ns` is when the scenario began (the daemon's start, so that a new probe goes on where
    the last one was), `since_ns` the moment from which on errors count as new. `wait` is how a
    call that hangs spends its time. `read_only` looks at a simulation that another keeps.
    """

    def __init__(
        self,
        *,
        directory: Path,
        scenario: Scenario,
        epoch_ns: int,
        since_ns: int,
        read_only: bool = False,
        clock: Callable[[], int] = time.monotonic_ns,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._scenario = scenario
        self._epoch_ns = epoch_ns
        self._since_ns = since_ns
        self._clock = clock
        self._wait = wait
        self._control = ControlReader(directory)
        self._claims = ClaimsDirectory(directory, read_only=read_only)
        self._driver = Timeline(scenario.events, slot=None)
        self._cards = [
            SimulatedCard(slot, section=section, scenario=scenario, claims=self._claims)
            for slot, section in enumerate(scenario.cards)
        ]
        self._publishing = threading.Lock()
        self._listed: list[SimulatedCard] = []
        self._identified: dict[str, SimulatedCard] = {}
        self._reported: set[tuple[int, int, int]] = set()

    def open(self) -> DriverInfo:
        """List the cards that are on the bus now."""
        control = self._usable_driver()
        at_ns = self._at_ns()
        self._claims.create()
        self._listed = [
            card
            for card in self._cards
            if card.presence(control.card(card.slot), at_ns) != "vanished"
        ]
        self._publish(control)
        return DriverInfo(
            driver="simulated",
            driver_version=DRIVER_VERSION,
            cuda_version=CUDA_VERSION,
            gpu_count=len(self._listed),
        )

    def identify(self, index: int) -> GpuIdentity:
        """Return the identity of the card at `index` of those listed."""
        card = self._listed[index]
        self._answering(card, index)
        self._identified[card.uuid] = card
        return card.identity(index)

    def sample(self, uuid: str, *, with_processes: bool) -> GpuSample:
        """Read a card. Blocks while it hangs."""
        card = self._identified[uuid]
        control = self._answering(card, None)
        return card.sample(
            control.card(card.slot),
            now_ns=self._clock(),
            at_ns=self._at_ns(),
            delay_s=self._delay_s(control),
            full=with_processes,
        )

    def instances(self, uuid: str, *, with_processes: bool) -> tuple[InstanceReading, ...]:
        """Read what MIG has cut a card into. Blocks while it hangs."""
        card = self._identified[uuid]
        control = self._answering(card, None)
        self._publish(control)
        return card.read_instances(
            control.card(card.slot),
            now_ns=self._clock(),
            at_ns=self._at_ns(),
            delay_s=self._delay_s(control),
            full=with_processes,
        )

    def wait_xid(self, timeout_s: float) -> Xid | None:
        """Wait for the next error of an identified card."""
        end_ns = self._clock() + round(timeout_s * 1e9)
        while True:
            xid = next(self._new_xids(), None)
            if xid is not None or self._clock() >= end_ns:
                return xid
            self._wait(_LOOK_FOR_XIDS_S)

    def close(self) -> None:
        """Forget the cards."""
        self._identified.clear()

    def _new_xids(self) -> Iterator[Xid]:
        now_ns, control = self._clock(), self._control.read()
        for card in tuple(self._identified.values()):
            since = self._since_ns
            found = [
                (self._epoch_ns + at_ns, xid)
                for at_ns, xid in card.timeline.xids(
                    after_ns=since - self._epoch_ns - 1, until_ns=now_ns - self._epoch_ns
                )
            ]
            found += [(x.at_ns, x.xid) for x in control.xids if x.slot == card.slot]
            for at_ns, number in found:
                key = (card.slot, at_ns, number)
                if at_ns >= since and key not in self._reported:
                    self._reported.add(key)
                    yield Xid(uuid=card.uuid, xid=number, taken_ns=now_ns)

    def _answering(self, card: SimulatedCard, index: int | None) -> Control:
        """Block while the card hangs; raise if it or the driver is gone."""
        while True:
            control = self._usable_driver()
            presence = card.presence(control.card(card.slot), self._at_ns())
            if presence == "there":
                return control
            if presence != "hang":
                raise FaultError(
                    Fault(
                        kind="gpu_lost",
                        message="GPU is lost (simulated)",
                        uuid=card.uuid,
                        index=index,
                    )
                )
            self._wait(_LOOK_AGAIN_S)

    def _publish(self, control: Control) -> None:
        """Tell stand-ins which GPUs and instances there are now."""
        at_ns = self._at_ns()
        cards: list[Card] = []
        for card in self._cards:
            cards.append(Card(card.uuid, card.slot, card.usable_bytes))
            instances = card.instances(control.card(card.slot), at_ns)
            cards += as_cards(card.slot, instances or [])
        with self._publishing:
            self._claims.publish(cards)

    def _delay_s(self, control: Control) -> float:
        delay_s = control.vram_return_delay_s
        return self._scenario.vram_return_delay_s if delay_s is None else delay_s

    def _usable_driver(self) -> Control:
        control = self._control.read()
        kind = control.driver or self._driver.driver_fault(self._at_ns())
        if kind is not None:
            raise FaultError(Fault(kind=kind, message=_FAULTS[kind]))
        return control

    def _at_ns(self) -> int:
        return self._clock() - self._epoch_ns
