"""A process that holds simulated VRAM: `python -m nvml_sim.alloc --size 4GiB`.

It claims VRAM for its own pid, prints `claimed`, and holds it until it is killed, until --hold is
over, or with --stdin until its input ends. With --stdin, a line `resize SIZE` claims anew, and is
answered `claimed` or `out of memory`. Exit code 3: the claim did not fit.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from nvml_sim.simulator import (
    STATE_VARIABLE,
    NvmlSimulator,
    Place,
    SimulatedOutOfMemoryError,
)

OUT_OF_MEMORY = 3
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def _size(text: str) -> int:
    unit = text[-3:]
    return int(float(text[:-3]) * _UNITS[unit]) if unit in _UNITS else int(text)


def _arguments() -> argparse.Namespace:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")
    parser = argparse.ArgumentParser(prog="python -m nvml_sim.alloc", description=__doc__)
    parser.add_argument("--state", type=Path, default=os.environ.get(STATE_VARIABLE))
    parser.add_argument(
        "--gpu",
        action="append",
        help="UUID (a MIG device's too) or index; default: CUDA_VISIBLE_DEVICES, else 0",
    )
    parser.add_argument("--size", type=_size, required=True, help="bytes, or like 512MiB")
    parser.add_argument("--hold", type=float, metavar="SECONDS")
    parser.add_argument("--stdin", action="store_true")
    arguments = parser.parse_args()
    if arguments.state is None:
        parser.error(f"set {STATE_VARIABLE} or give --state")
    arguments.gpu = arguments.gpu or visible
    return arguments


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _claim(places: list[Place], size: int) -> bool:
    try:
        for gpu, mig in places:
            gpu.claim(os.getpid(), size, mig=mig)
    except SimulatedOutOfMemoryError as error:
        _say("out of memory")
        sys.stderr.write(f"{error}\n")
        return False
    _say("claimed")
    return True


def _hold(places: list[Place], *, follow_stdin: bool, seconds: float | None) -> None:
    if follow_stdin:
        for line in sys.stdin:
            _claim(places, _size(line.split()[1]))
    elif seconds is None:
        signal.pause()
    else:
        signal.sigtimedwait([], seconds)


def main() -> int:
    """Claim, say so, hold."""
    arguments = _arguments()
    with NvmlSimulator(arguments.state) as simulator:
        places = [simulator.find_place(name) for name in arguments.gpu]
        if not _claim(places, arguments.size):
            return OUT_OF_MEMORY
        _hold(places, follow_stdin=arguments.stdin, seconds=arguments.hold)
    return 0


if __name__ == "__main__":
    sys.exit(main())
