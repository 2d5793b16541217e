"""A stand-in for a program that uses a simulated GPU: a real process that claims VRAM.

`python -m supereziod.gpu.standin --vram 8GiB` takes it on each GPU of CUDA_VISIBLE_DEVICES, says
so on one line, and holds it until it is ended. A GPU without the room for it ends the process with
code 1, as a failed allocation would.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from superezio.quantities import format_size, parse_size
from supereziod.gpu.claims import (
    DIRECTORY_VARIABLE,
    Card,
    Claim,
    ClaimsDirectory,
    OutOfVramError,
    read_stat,
)


def main() -> int:
    """Claim, say so, hold."""
    arguments = _parser().parse_args()
    directory = ClaimsDirectory(arguments.directory or default_directory())
    try:
        cards = choose(arguments.gpu, directory.cards())
    except FileNotFoundError:
        return _fail(f"no simulated GPUs in {directory.directory}")
    except LookupError as error:
        return _fail(str(error.args[0]))
    time.sleep(arguments.after)
    pid = os.getpid()
    try:
        for card in cards:
            claim = Claim(
                pid, read_stat(pid) or 0, card.uuid, arguments.vram, min(100, arguments.load)
            )
            directory.add(claim)
    except OutOfVramError as error:
        return _fail(str(error))
    where = ", ".join(f"GPU {card.place}" for card in cards)
    sys.stdout.write(f"pid {pid} holds {format_size(arguments.vram)} on {where}\n")
    sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it as it ends other programs
    if arguments.seconds is None:
        signal.pause()
    else:
        time.sleep(arguments.seconds)
    return 0


def default_directory() -> Path:
    """Return where the daemon of this user simulates, if nothing else is said."""
    named = os.environ.get(DIRECTORY_VARIABLE)
    if named:
        return Path(named)
    runtime = Path("/run") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR", "/run"))
    return runtime / "superezio" / "simulated"


def choose(wanted: str | None, cards: list[Card]) -> list[Card]:
    """Return the cards that a CUDA program would see, in its order. Raises LookupError.

    CUDA gives a program one MIG instance, however many it names.
    """
    if wanted is None:
        wanted = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    chosen = []
    for name in filter(None, (part.strip() for part in wanted.split(","))):
        card = next((c for c in cards if name == c.place or c.uuid.startswith(name)), None)
        if card is None:
            raise LookupError(f"no simulated GPU {name}")
        chosen.append(card)
    if not chosen:
        raise LookupError("no CUDA-capable device is visible")
    instance = next((card for card in chosen if card.mig_index is not None), None)
    return chosen if instance is None else [instance]


def _fail(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m supereziod.gpu.standin")
    parser.add_argument("--vram", type=parse_size, required=True, help="such as 8GiB")
    parser.add_argument("--gpu", help="UUIDs or slots; CUDA_VISIBLE_DEVICES if left out")
    parser.add_argument("--load", type=int, default=0, help="percent of the core it keeps busy")
    parser.add_argument("--seconds", type=float, help="how long; for ever if left out")
    parser.add_argument("--after", type=float, default=0.0, help="seconds before it allocates")
    parser.add_argument("--directory", type=Path, help=f"else ${DIRECTORY_VARIABLE}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
