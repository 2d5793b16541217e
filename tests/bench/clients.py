"""What a call costs its caller: the Python client, and a lease from end to end."""

import statistics
import time
from collections.abc import Callable, Iterator

from bench.table import Row
from superezio.client import Client

MIB = 1 << 20


def client_rows(client: Client, rounds: int) -> Iterator[Row]:
    """Medians over one connection, the daemon and its client free to use any core."""
    yield _row("Python client, sync: system.ping", client.system_ping, rounds * 200)

    def lease() -> None:
        client.lease_release(client.lease_acquire(MIB).id)

    yield _row("lease.acquire + lease.release, committed each", lease, rounds * 20)


def _row(figure: str, call: Callable[[], object], count: int) -> Row:
    for _ in range(count // 10):
        call()
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        call()
        times.append((time.perf_counter() - begun) * 1e6)
    p99 = statistics.quantiles(times, n=100)[98]
    return Row(figure, f"p50 {statistics.median(times):.0f} us, p99 {p99:.0f} us")
