"""`make bench-placement`: what our policies make of a trace of jobs, beside what others do.

    python -m bench.placement [--jobs N] [--seed N] [--load X]

Virtual time, so that the figures are the same on every machine. Fragmented: of the time in which
somebody waited, the part in which all GPUs together had the VRAM for whoever was next, and no GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from bench.host import Chooser, Figures, Host, RoundRobin, first_fit, most_free
from bench.trace import HOSTS, Card, Job, trace
from superezio.quantities import format_duration
from superezio.wire import Policy

#: By name: the policy that requests name, and what chooses in its stead.
CHOICES: dict[str, tuple[Policy, Callable[[], Chooser | None]]] = {
    "best_fit": ("best_fit", lambda: None),
    "spread": ("spread", lambda: None),
    "coolest": ("coolest", lambda: None),
    "first-fit": ("best_fit", lambda: first_fit),
    "most-free": ("best_fit", lambda: most_free),
    "round-robin": ("best_fit", RoundRobin),
}
LOAD = 0.7
SEED = 7


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.placement", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--load", type=float, default=LOAD, help="of the host's VRAM-seconds")
    options = parser.parse_args()
    exceeded = 0
    for host, cards in HOSTS.items():
        jobs = trace(cards, jobs=options.jobs, load=options.load, seed=options.seed)
        print(f"{host}: {len(jobs):,} jobs that offer {options.load:.0%} of its VRAM")
        begun = time.monotonic()
        rows = []
        for name, figures in compare(cards, jobs):
            rows.append(row(name, figures))
            exceeded += figures.exceeded
        print_rows(rows)
        print(f"played {len(CHOICES)} times in {time.monotonic() - begun:.0f} s\n")
    return 1 if exceeded else 0


def compare(cards: Sequence[Card], jobs: Sequence[Job]) -> Iterator[tuple[str, Figures]]:
    """Play the same jobs on the same host, once by each way to choose."""
    for name, (policy, chooser) in CHOICES.items():
        yield name, Host(cards, policy=policy, chooser=chooser()).play(jobs)


HEADER = ("", "mean wait", "p95 wait", "VRAM in use", "refused", "fragmented", "exceeded")


def row(name: str, figures: Figures) -> tuple[str, ...]:
    return (
        name,
        format_duration(figures.mean_wait_s),
        format_duration(figures.p95_wait_s),
        f"{figures.utilisation:.1%}",
        f"{figures.refused:,}",
        f"{figures.fragmentation:.1%}",
        str(figures.exceeded),
    )


def print_rows(rows: Sequence[tuple[str, ...]]) -> None:
    table = [HEADER, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADER))]
    for cells in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)))


if __name__ == "__main__":
    sys.exit(main())
