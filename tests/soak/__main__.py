"""`python -m soak [--days N] [--seed N] [--hardship N]`: the leases for a month, in minutes."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from soak.mishaps import MISHAPS
from soak.soak import Soak, SoakError


def main() -> int:
    """Run one soak; print what happened in it, or what went wrong."""
    parser = argparse.ArgumentParser(prog="soak")
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hardship", type=float, default=1)
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        soak = Soak(
            MISHAPS,
            directory=Path(directory),
            seed=options.seed,
            days=options.days,
            hardship=options.hardship,
        )
        soak.on_day = lambda day: print(f"day {day}", file=sys.stderr, flush=True)
        try:
            soak.simulate()
        except SoakError as failure:
            print(failure, file=sys.stderr)
            return 1
    for name, count in sorted((soak.host.counts + soak.judge.counts).items()):
        print(f"{count:10,} {name}")
    print(
        f"{options.days:g} days, seed {options.seed}: the ledger was the truth at"
        f" {soak.judge.counts['steps']:,} steps ({time.perf_counter() - began:.0f} s)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
