"""What is printed of each contestant: how long, how evenly, how much at once, and what for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from bench.resilience.contest import Caller, Contestant, Spread
from bench.resilience.crowd import Result
from bench.resilience.redis_server import MISSING

#: Between whom the state is one.
ALONE: Final = "the process"
SHARED_IN: Final = {"daemon": "the host", "redis": "the network"}

#: How many client processes work at once.
AT_ONCE: Final = 8


class Compared(NamedTuple):
    """A line of the table."""

    operation: str
    by: str
    took: str = ""
    spread: str = ""
    p99: str = ""
    a_second: str = ""
    p50_of_8: str = ""
    p99_of_8: str = ""
    a_second_of_8: str = ""
    server_cpu: str = ""
    shared_in: str = ""
    does_not_do: str = ""


#: How the columns are headed.
HEADER: Final = (
    "operation", "by", "took", "spread", "p99", "a second", f"{AT_ONCE}: p50", f"{AT_ONCE}: p99",
    f"{AT_ONCE}: a second", "server CPU", "shared in", "does not do",
)  # fmt: skip
#: What they mean.
LEGEND: Final = (
    "took: one piece of work: the median of the rounds, over a socket of the p50 of one client\n"
    "spread: of that, the least and the most of the rounds; p99, a second: of one client, too\n"
    f"{AT_ONCE}: so many client processes at once; server CPU: for one piece of work, with these"
)


def in_process_row(contestant: Contestant, took_ns: Spread) -> Compared:
    median, least, most = (f"{figure:,.0f}" for figure in took_ns)
    return Compared(
        f"{contestant.operation}, in process",
        contestant.name,
        f"{median} ns",
        f"{least} - {most}",
        shared_in=ALONE,
        does_not_do=contestant.lacks,
    )


def socket_row(caller: Caller, alone: Result, at_once: Result) -> Compared:
    return Compared(
        over_a_socket(caller),
        caller.name,
        f"{alone.p50_us.median:,.1f} us",
        f"{alone.p50_us.least:,.1f} - {alone.p50_us.most:,.1f}",
        f"{alone.p99_us.median:,.0f} us",
        f"{alone.a_second.median:,.0f}",
        f"{at_once.p50_us.median:,.0f} us",
        f"{at_once.p99_us.median:,.0f} us",
        f"{at_once.a_second.median:,.0f}",
        f"{at_once.server_us.median:.1f} us",
        SHARED_IN[caller.server],
        caller.lacks,
    )


def skipped_row(caller: Caller) -> Compared:
    """Return the row of one that Redis is missing for."""
    return Compared(over_a_socket(caller), caller.name, "skipped", does_not_do=MISSING)


def over_a_socket(caller: Caller) -> str:
    return f"{caller.operation}, over a socket"


def in_groups(rows: Iterable[Compared]) -> Iterator[Compared]:
    """Yield the rows with an operation named where it begins, and what is missing at the end."""
    last = ""
    for row in rows:
        named = row if row.operation != last else row._replace(operation="")
        last = row.operation
        yield named
