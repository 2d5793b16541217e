"""The directory in which stand-ins and simulated GPUs meet: who holds which VRAM.

A stand-in writes one file for each GPU it uses; the simulated driver reads them on each sample.
Nothing else does: the ledger of the leases never comes here. Standard library only, because a
stand-in has to start fast.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

#: Where stand-ins look for the directory.
DIRECTORY_VARIABLE: Final = "SUPEREZIO_SIMULATED_DIR"


class Claim(NamedTuple):
    """VRAM and load of one process on one GPU."""

    pid: int
    start_time: int
    uuid: str
    vram_bytes: int
    load_percent: int


class Card(NamedTuple):
    """A simulated GPU as stand-ins see it; `usable_bytes` is without the driver's reserve.

    A MIG instance has the slot of its card, and a place among the instances there.
    """

    uuid: str
    slot: int
    usable_bytes: int
    mig_index: int | None = None

    @property
    def place(self) -> str:
        """What it goes by, as `0` or `0:1`."""
        return str(self.slot) if self.mig_index is None else f"{self.slot}:{self.mig_index}"


class OutOfVramError(Exception):
    """The GPU has no room for the claim, as a real allocation would find."""


class ClaimsDirectory:
    """The files of one simulation. Any process of the host may come to it.

    `read_only`: it is only looked at. What would be made, told or removed is not.
    """

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        self.directory = directory
        self._read_only = read_only
        self._claims = directory / "claims"
        self._cards = directory / "gpus.json"
        self._cache: dict[str, tuple[int, Claim]] = {}

    def create(self) -> None:
        """Make the directories. Other users' stand-ins may write, not remove each other's."""
        if self._read_only:
            return
        self._claims.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            self._claims.chmod(0o1777)

    def publish(self, cards: list[Card]) -> None:
        """Tell stand-ins which GPUs there are."""
        if self._read_only:
            return
        text = json.dumps([card._asdict() for card in cards])
        try:
            if self._cards.read_text(encoding="utf-8") == text:
                return
        except FileNotFoundError:
            pass
        write_atomically(self._cards, text)

    def cards(self) -> list[Card]:
        """Return the published GPUs. Raises FileNotFoundError where no simulation ran."""
        return [Card(**card) for card in json.loads(self._cards.read_text(encoding="utf-8"))]

    def add(self, claim: Claim) -> Path:
        """Record what a process uses of a GPU, if there is room. Raises OutOfVramError.

        It takes the place of what the same process claimed before.
        """
        path = self._claims / f"{claim.pid}-{claim.uuid}.json"
        with self._locked():
            card = next((card for card in self.cards() if card.uuid == claim.uuid), None)
            if card is None:
                raise OutOfVramError(f"no simulated GPU {claim.uuid}")
            others = (c for _, c in self.read(claim.uuid) if c.pid != claim.pid)
            used = sum(c.vram_bytes for c in others if is_alive(c))
            if used + claim.vram_bytes > card.usable_bytes:
                free = max(0, card.usable_bytes - used)
                raise OutOfVramError(
                    f"out of memory: asked for {claim.vram_bytes} bytes on {claim.uuid},"
                    f" {free} bytes are free"
                )
            write_atomically(path, json.dumps(claim._asdict()))
        return path

    def read(self, uuid: str) -> list[tuple[str, Claim]]:
        """Return the recorded claims on a GPU by file name, those of the dead included."""
        suffix = f"-{uuid}.json"
        if self._read_only and not self._claims.exists():
            return []
        names = [path.name for path in self._claims.iterdir() if path.name.endswith(suffix)]
        found = ((name, self._load(name)) for name in names)
        return [(name, claim) for name, claim in found if claim is not None]

    def remove(self, name: str) -> None:
        """Forget a claim: its VRAM is free."""
        self._cache.pop(name, None)
        if self._read_only:
            return
        (self._claims / name).unlink(missing_ok=True)

    def _load(self, name: str) -> Claim | None:
        path = self._claims / name
        try:
            stamp = path.stat().st_mtime_ns
            known = self._cache.get(name)
            if known is None or known[0] != stamp:
                known = stamp, Claim(**json.loads(path.read_text(encoding="utf-8")))
                self._cache[name] = known
        except FileNotFoundError:
            self._cache.pop(name, None)
            return None
        return known[1]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._claims, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def is_alive(claim: Claim) -> bool:
    """Whether the very process of the claim still has its memory; a zombie has none."""
    stat = read_stat(claim.pid)
    return stat is not None and stat == claim.start_time


def read_stat(pid: int) -> int | None:
    """Return the start time of a process, in clock ticks since boot; None when it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - on the path of each sample
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that a reader sees the old or the new text, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
