"""GPUs as they truly are: cards, and what of each can be used: the whole, or its MIG instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from soak.processes import Process
from superezio.wire import Level
from supereziod.gpu.hardware import Block, ComputeMode

GIB: Final = 1 << 30
MIB: Final = 1 << 20
_INSTANCE_RESERVED: Final = 64 * MIB
#: What a card with MIG may be cut into, by the driver's words for sizes. Nothing: MIG is off.
Layout = tuple[str, ...]


class Gpu:
    """A GPU, or a MIG instance of a card that is cut up.

    `uses` is what each process has; `lingering` what ended ones have not given back.
    """

    def __init__(
        self, uuid: str, *, card: Card, name: str, total: int, reserved: int, mig_index: int | None
    ) -> None:
        self.uuid = uuid
        self.card = card
        self.name = name
        self.total_bytes = total
        self.driver_reserved_bytes = reserved
        self.mig_index = mig_index
        self.uses: dict[Process, int] = {}
        self.lingering: dict[Process, int] = {}
        self.cordoned = False

    @property
    def is_there(self) -> bool:
        """Whether MIG has not been cut anew without it."""
        return self in self.card.units

    @property
    def used_bytes(self) -> int:
        """What is in use in all, besides the driver's reserve."""
        return sum(self.uses.values()) + sum(self.lingering.values())

    @property
    def room_bytes(self) -> int:
        """What can be allocated: the physical truth."""
        return self.total_bytes - self.driver_reserved_bytes - self.used_bytes

    def lets_in(self, process: Process) -> bool:
        """Tell whether the process can use it, as the driver has it."""
        card = self.card
        if not self.is_there or (card.block is not None and card.block.code == "lost"):
            return False
        if process in self.uses or card.compute_mode == "default":
            return True
        return card.compute_mode == "exclusive_process" and not self.uses


class Card:
    """A card: all that is one for its parts, and `units`, what it can be used as now."""

    def __init__(
        self,
        uuid: str,
        *,
        index: int,
        name: str,
        total: int,
        reserved: int,
        capability: tuple[int, int],
        drives_display: bool = False,
        layouts: Sequence[Layout] = ((),),
    ) -> None:
        self.uuid = uuid
        self.index = index
        self.name = name
        self.capability = capability
        self.drives_display = drives_display
        self.layouts = layouts
        self.layout: Layout = ()
        self.level: Level = "normal"
        self.block: Block | None = None
        self.compute_mode: ComputeMode = "default"
        self.hidden = False
        self.hung = False
        self.latency_s = 0.002
        self.whole = Gpu(uuid, card=self, name=name, total=total, reserved=reserved, mig_index=None)
        self.units = [self.whole]
        self._instances: dict[str, Gpu] = {}
        self.cut(layouts[0])

    def cut(self, layout: Layout) -> None:
        """Cut it up anew. An instance of the same size at the same place is the same again."""
        self.layout = layout
        self.units = [self._instance(*each) for each in enumerate(layout)] or [self.whole]

    @property
    def is_cut_up(self) -> bool:
        """Whether MIG is on."""
        return bool(self.layout)

    @property
    def is_empty(self) -> bool:
        """Whether nothing uses it, as the driver wants it to cut it anew."""
        return not any(unit.uses or unit.lingering for unit in self.units)

    def mend(self) -> None:
        """Let it be as it should be."""
        self.level, self.block, self.compute_mode = "normal", None, "default"
        self.hidden = self.hung = False
        self.latency_s = 0.002
        for unit in self.units:
            unit.cordoned = False

    def _instance(self, index: int, size: str) -> Gpu:
        uuid = f"MIG-{self.uuid}-{index}-{size}"
        if uuid not in self._instances:
            self._instances[uuid] = Gpu(
                uuid,
                card=self,
                name=f"{self.name} MIG {size}",
                total=int(size.removesuffix("gb").split(".")[1]) * GIB,
                reserved=_INSTANCE_RESERVED,
                mig_index=index,
            )
        return self._instances[uuid]


def cards() -> list[Card]:
    """Return the cards of the host."""
    return [
        Card(
            "GPU-a", index=0, name="RTX 3090", total=24 * GIB, reserved=400 * MIB,
            capability=(8, 6), drives_display=True,
        ),
        Card(
            "GPU-b", index=1, name="RTX 3060", total=12 * GIB, reserved=250 * MIB,
            capability=(8, 6),
        ),
        Card(
            "GPU-d", index=2, name="RTX 2060", total=6 * GIB, reserved=200 * MIB,
            capability=(7, 5),
        ),
        Card(
            "GPU-m", index=3, name="A30", total=24 * GIB, reserved=500 * MIB, capability=(8, 0),
            layouts=(("2g.12gb", "1g.6gb"), ("1g.6gb", "1g.6gb", "2g.12gb"), (),
                     ("2g.12gb", "2g.12gb")),
        ),
    ]  # fmt: skip
