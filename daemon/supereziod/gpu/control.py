"""Live control of simulated GPUs, for tests and demonstrations.

`SimulatedControl` writes a file that the simulated driver reads again when it changes; a call in
flight sees it too, so that a hang can be ended. From a shell::

    python -m supereziod.gpu.control --directory DIR 0 temperature_c=95
    python -m supereziod.gpu.control --directory DIR 1 hang=true
    python -m supereziod.gpu.control --directory DIR 1 reset
    python -m supereziod.gpu.control --directory DIR 0 'instances=["3g.40gb"]'
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from supereziod.gpu.claims import DIRECTORY_VARIABLE, Claim, ClaimsDirectory, write_atomically

DriverFault = Literal["no_driver", "version_mismatch"]


class CardControl(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is forced on one card. None, False and 0 leave it to the scenario and the physics."""

    temperature_c: float | None = None
    load_percent: int | None = None
    throttle_mask: int | None = None
    foreign_bytes: int = 0
    ecc_uncorrected: int = 0
    hang: bool = False
    lost: bool = False
    vanished: bool = False
    instances: tuple[str, ...] | None = None
    mig_forbidden: bool = False


class InjectedXid(Struct, frozen=True):
    at_ns: int
    slot: int
    xid: int


class Control(Struct, kw_only=True, omit_defaults=True):
    """The content of the file. Cards go by their slot, as text."""

    cards: dict[str, CardControl] = {}
    driver: DriverFault | None = None
    vram_return_delay_s: float | None = None
    xids: list[InjectedXid] = []

    def card(self, slot: int) -> CardControl:
        """Return what is forced on the card in `slot`."""
        return self.cards.get(str(slot)) or _NOTHING


_NOTHING = CardControl()
_NO_CONTROL = Control()


class ControlReader:
    """The driver's side: the present control, read again only when the file was replaced."""

    def __init__(self, directory: Path) -> None:
        self._path = str(directory / "control.json")
        self._seen: tuple[tuple[int, int], Control] = (0, 0), _NO_CONTROL

    def read(self) -> Control:
        """Return what is in force now."""
        try:
            stat = os.stat(self._path)  # noqa: PTH116 - on the path of each sample
        except FileNotFoundError:
            return _NO_CONTROL
        stamp = stat.st_mtime_ns, stat.st_ino
        if stamp != self._seen[0]:
            body = Path(self._path).read_bytes()
            self._seen = stamp, msgspec.json.decode(body, type=Control)
        return self._seen[1]


class SimulatedControl:
    """The test's side. `gpu` is the slot of a card, counted from 0.

    Every method is in force when it returns: the next call of the driver sees it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._path = directory / "control.json"
        directory.mkdir(parents=True, exist_ok=True)

    def temperature(self, gpu: int, celsius: float | None) -> None:
        """Force the temperature; None lets the card cool by its physics."""
        self.set(gpu, temperature_c=celsius)

    def hang(self, gpu: int) -> None:
        """Block every call for this GPU, those of other processes included."""
        self.set(gpu, hang=True)

    def lose(self, gpu: int, *, vanish: bool = False) -> None:
        """Take the GPU off the bus; `vanish`: a driver opened anew does not list it either."""
        self.set(gpu, lost=True, vanished=vanish)

    def restore(self, gpu: int) -> None:
        """End a hang, bring a lost GPU back, force nothing any more."""
        self._change(lambda control: control.cards.pop(str(gpu), None))

    def foreign(self, gpu: int, vram_bytes: int) -> None:
        """Use VRAM that no process is named for; 0 frees it."""
        self.set(gpu, foreign_bytes=vram_bytes)

    def xid(self, gpu: int, number: int, *, at_ns: int | None = None) -> None:
        """Report a critical error, once; now, or at a moment of CLOCK_MONOTONIC."""
        moment_ns = time.monotonic_ns() if at_ns is None else at_ns
        injected = InjectedXid(moment_ns, gpu, number)
        self._change(lambda control: control.xids.append(injected))

    def driver_fault(self, kind: DriverFault | None) -> None:
        """Unload the driver under the daemon, upgrade it, or bring it back (None)."""
        self._change(lambda control: setattr(control, "driver", kind))

    def vram_return_delay(self, seconds: float) -> None:
        """Show the VRAM of the dead as used for this long."""
        self._change(lambda control: setattr(control, "vram_return_delay_s", seconds))

    def cut(self, gpu: int, *instances: str) -> None:
        """Cut the card anew with MIG, into instances of these sizes, such as 1g.10gb."""
        self.set(gpu, instances=list(instances))

    def forbid_mig(self, gpu: int) -> None:
        """Let nobody read the instances, as without the nodes of /dev/nvidia-caps."""
        self.set(gpu, mig_forbidden=True)

    def set(self, gpu: int, **fields: float | bool | list[str] | None) -> None:
        """Force fields of `CardControl`."""

        def change(control: Control) -> None:
            card = control.cards.get(str(gpu)) or CardControl()
            forced = {**msgspec.structs.asdict(card), **fields}
            control.cards[str(gpu)] = msgspec.convert(forced, CardControl, strict=False)

        self._change(change)

    def claims(self) -> list[Claim]:
        """Return all claims of stand-ins, those of the dead whose VRAM is not back included."""
        directory = ClaimsDirectory(self.directory)
        return [claim for card in directory.cards() for _, claim in directory.read(card.uuid)]

    def _change(self, change: Callable[[Control], object]) -> None:
        control = Control(cards={}, xids=[])
        if self._path.exists():
            control = msgspec.json.decode(self._path.read_bytes(), type=Control)
        change(control)
        write_atomically(self._path, msgspec.json.encode(control).decode())


def main() -> int:
    """Force fields on a card from a shell."""
    parser = argparse.ArgumentParser(prog="python -m supereziod.gpu.control")
    parser.add_argument("--directory", type=Path, default=os.environ.get(DIRECTORY_VARIABLE))
    parser.add_argument("gpu", type=int, help="slot of the card, counted from 0")
    parser.add_argument("fields", nargs="+", help="reset, xid=79, or FIELD=VALUE of CardControl")
    arguments = parser.parse_args()
    if arguments.directory is None:
        parser.error(f"name the directory of the simulation, here or in {DIRECTORY_VARIABLE}")
    control = SimulatedControl(Path(arguments.directory))
    for field in arguments.fields:
        name, _, value = field.partition("=")
        if name == "reset":
            control.restore(arguments.gpu)
        elif name == "xid":
            control.xid(arguments.gpu, int(value))
        else:
            try:
                control.set(arguments.gpu, **{name: msgspec.json.decode(value.encode())})
            except msgspec.MsgspecError as error:
                parser.error(f"{field}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
