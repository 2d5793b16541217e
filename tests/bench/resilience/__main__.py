"""`make bench-resilience`: breaker, rate limiter and cache beside other packages, and Redis.

    python -m bench.resilience [--short] [--json FILE]

Each row is one who does the work of its operation, with what it does not do of the job: a figure
without that would compare what is not alike. All of an operation are timed in turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from bench.resilience.conditions import conditions
from bench.resilience.contest import Caller, Contestant, Place, timed_in_turns
from bench.resilience.crowd import Crowd
from bench.resilience.everyone import IN_PROCESS, OVER_SOCKETS
from bench.resilience.redis_server import RedisServer, installed
from bench.resilience.rows import (
    AT_ONCE,
    HEADER,
    LEGEND,
    Compared,
    in_groups,
    in_process_row,
    skipped_row,
    socket_row,
)
from bench.table import print_columns
from live_daemon import LiveDaemon

T = TypeVar("T", Contestant, Caller)

#: How much one user may ask, and may have open, is not what is measured here.
UNLIMITED: Final = """
[limits]
requests_per_second = 10_000_000
requests_burst = 10_000_000
[limit]
reservations_per_uid = 1_000_000
"""


class Effort(NamedTuple):
    """How many rounds, and how many seconds each contestant has in one."""

    rounds: int
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.resilience", description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    in_process, over_sockets = Effort(9, 0.05), Effort(5, 0.4)
    if options.short:
        in_process, over_sockets = Effort(3, 0.01), Effort(1, 0.05)
    rows = [*in_process_rows(in_process), *socket_rows(over_sockets)]
    print_columns(HEADER, in_groups(rows))
    print(LEGEND, conditions(), sep="\n")
    if options.json:
        options.json.write_text(json.dumps([row._asdict() for row in rows]))
    return 0


def in_process_rows(effort: Effort) -> Iterator[Compared]:
    for contestants in by_operation(IN_PROCESS):
        took = timed_in_turns(contestants, rounds=effort.rounds, seconds=effort.seconds)
        for each in contestants:
            yield in_process_row(each, took[each])


def socket_rows(effort: Effort) -> Iterator[Compared]:
    """Run the servers, and the clients of both in turns."""
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="superezio-bench-"))
        )
        daemon = LiveDaemon(directory / "daemon", config=UNLIMITED)
        stack.callback(daemon.close)
        servers = {"daemon": daemon.start().pid}
        redis = RedisServer(directory / "redis")
        if installed():
            servers["redis"] = stack.enter_context(redis).pid
        place = Place(daemon.socket_path, redis.socket_path)
        crowd = stack.enter_context(Crowd(OVER_SOCKETS, place, servers, size=AT_ONCE))
        for callers in by_operation(OVER_SOCKETS):
            there = [each for each in callers if each.server in servers]
            alone, at_once = (
                crowd.results(there, size=size, rounds=effort.rounds, seconds=effort.seconds)
                for size in (1, AT_ONCE)
            )
            for each in callers:
                found = each in there
                yield socket_row(each, alone[each], at_once[each]) if found else skipped_row(each)


def by_operation(everyone: Sequence[T]) -> Iterator[list[T]]:
    for _, group in groupby(everyone, key=lambda each: each.operation):
        yield list(group)


if __name__ == "__main__":
    sys.exit(main())
