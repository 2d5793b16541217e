"""One user takes all it can of each kind; another goes on leasing, and is measured.

    python -m exhaustion [--seconds 2] [KIND ...]

A daemon of its own, as it is configured by default, with nothing but a group for users by number.
The user who takes is a program (`hostile_user.py`); the other one asks for a lease and gives it
back, again and again, before and while. What is judged is the answers that both get, and the
memory of the daemon as the kernel tells it. Needs root, to be other users.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from live_daemon import LiveDaemon
from other_users import being
from plain_client import call_once

HOSTILE: Final = Path(__file__).with_name("hostile_user.py")
#: By number, so that the host need not know them.
OTHER: Final = 51001
FIRST_HOSTILE: Final = 51100
USERS: Final = 52000
MIB: Final = 1 << 20
#: The other user is answered within this, 99 times of 100 and at worst, on a machine that does
#: other things, too.
MOST_MS: Final = 1000.0
WORST_S: Final = 5.0
_CONFIG: Final = f'[access]\nuser_groups = ["{USERS}"]\n'
_REACHED_WITHIN_S: Final = 60.0
#: The connections of one user, and what else is open.
_FILES: Final = 8192


class Kind(Struct, frozen=True):
    """What one user may take of: what refuses more, and by how much the daemon may grow."""

    name: str
    refused: str | None
    grown_mib: int


#: `refused` None: one's own oldest make room.
KINDS: Final = (
    Kind("connections", "connections_per_uid", 160),
    Kind("requests", "requests_per_second", 32),
    Kind("in flight", "in_flight_per_connection", 32),
    Kind("unfinished lines", "closed", 128),
    Kind("requests ahead", "closed", 200),
    Kind("unread answers", "closed", 160),
    Kind("queue", "queue_per_uid", 32),
    Kind("leases", "busy", 64),
    Kind("sessions", "busy", 32),
    Kind("events", "subscriptions_per_uid", 96),
    Kind("annotations", "spans_per_second", 48),
    Kind("spans of one id", "spans_per_id", 32),
    Kind("searches", "searches", 32),
    Kind("cache", None, 200),
    Kind("cache namespaces", "namespaces_per_uid", 32),
    Kind("cache waiters", "waiters_per_uid", 48),
    Kind("limit names", "names_per_uid", 32),
    Kind("limit waiters", "waiters_per_uid", 48),
    Kind("reservations", None, 48),
    Kind("breakers", "breakers_per_uid", 32),
    Kind("permits", "permits_per_uid", 48),
)


class Latency(Struct, frozen=True):
    """What lease.acquire took the other user, in seconds."""

    samples: list[float]

    def percentile_ms(self, part: float) -> float:
        ordered = sorted(self.samples)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1000


class Row(Struct, frozen=True, kw_only=True):
    """What came of one kind. Memory is the daemon's, resident, in MiB."""

    kind: Kind
    reached: int
    refused: str | None
    before: Latency
    during: Latency
    rss_mib: tuple[int, int, int]

    def faults(self) -> list[str]:
        """Return what is wrong with it."""
        wrong = []
        if self.refused != self.kind.refused:
            wrong.append(f"refused with {self.refused}, not {self.kind.refused}")
        if not self.reached:
            wrong.append("nothing was taken, so that nothing is shown")
        worst_s = max(self.during.samples)
        if worst_s > WORST_S or self.during.percentile_ms(0.99) > MOST_MS:
            wrong.append(f"the other user waited {worst_s:.2f} s for a lease")
        before, most, _ = self.rss_mib
        if most - before > self.kind.grown_mib:
            wrong.append(f"the daemon grew by {most - before} MiB")
        return wrong


class OtherUser:
    """Asks for a small lease and gives it back, over one connection and over new ones."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = self._connect()

    def measure(self, seconds: float) -> Iterator[float]:
        """Yield what each lease.acquire took, for so long. Raises AssertionError if refused."""
        deadline = time.monotonic() + seconds
        number = 0
        while time.monotonic() < deadline:
            number += 1
            began = time.monotonic()
            if number % 8:
                lease = self._ask(self._kept, "lease.acquire", vram_bytes=MIB, mode="ttl")["id"]
            else:  # a newcomer, who has to be let in first
                with self._connect() as connection:
                    lease = self._ask(connection, "lease.acquire", vram_bytes=MIB, mode="ttl")["id"]
            yield time.monotonic() - began
            assert self._ask(self._kept, "lease.release", lease=lease)["released"]

    def close(self) -> None:
        self._kept.close()

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        with being(OTHER, [USERS], gid=OTHER):
            connection.connect(str(self._path))
        connection.settimeout(30)
        return connection

    @staticmethod
    def _ask(connection: socket.socket, method: str, **params: Any) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(connection.makefile("rb").readline())
        assert "result" in answer, f"the other user was refused {method}: {answer}"
        result: dict[str, Any] = answer["result"]
        return result


def observe(daemon: LiveDaemon, kind: Kind, *, uid: int, seconds: float) -> Row:
    """Let `uid` take of one kind, and measure the other user for `seconds` before and while."""
    other = OtherUser(daemon.socket_path)
    try:
        before = list(other.measure(seconds / 2))
        rss = [_resident_mib(daemon.pid)]
        with _hostile(daemon, kind, uid) as program:
            during, told = [], ""
            deadline = time.monotonic() + _REACHED_WITHIN_S
            while not told:
                assert time.monotonic() < deadline, f"{kind.name}: nothing is exhausted"
                during += list(other.measure(0.05))
                rss.append(_resident_mib(daemon.pid))
                told = _line(program)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                during += list(other.measure(0.1))
                rss.append(_resident_mib(daemon.pid))
            assert program.poll() is None, f"{kind.name}: the hostile program has ended"
        said = json.loads(told)
        list(other.measure(0.2))
        return Row(
            kind=kind,
            reached=said["reached"],
            refused=said["refused"],
            before=Latency(before),
            during=Latency(during),
            rss_mib=(rss[0], max(rss), _resident_mib(daemon.pid)),
        )
    finally:
        other.close()


@contextmanager
def _hostile(daemon: LiveDaemon, kind: Kind, uid: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-IS", str(HOSTILE), kind.name, str(uid), str(USERS)]
    program = subprocess.Popen(
        [*command, str(daemon.socket_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with program:
        try:
            yield program
        finally:
            assert program.stdin is not None
            program.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(2)
            program.kill()


def _line(program: subprocess.Popen[bytes]) -> str:
    """Return what it says, or nothing yet."""
    assert program.stdout is not None
    if not select.select([program.stdout], [], [], 0)[0]:
        return ""
    line = program.stdout.readline().decode()
    assert line, "the hostile program has ended"
    return line


def _resident_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) >> 10


@contextmanager
def exhaustible(config: str = "") -> Iterator[LiveDaemon]:
    """A daemon whose socket other users can reach, with a lease on the larger GPU."""
    with tempfile.TemporaryDirectory(prefix="superezio-exhaustion-") as name:
        Path(name).chmod(0o755)
        daemon = LiveDaemon(Path(name) / "d", config=_CONFIG + config)
        try:
            daemon.start()
            call_once(
                daemon.socket_path,
                "lease.acquire",
                vram_bytes=4 << 30,
                prefer=["0"],
                mode="ttl",
                ttl_ms=3_600_000,
            )
            yield daemon
        finally:
            daemon.close()


def why_not() -> str | None:
    """Return why nothing can be exhausted here, or None."""
    if os.geteuid() != 0:
        return "needs root, to be other users"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard >= _FILES else f"needs {_FILES} open files, and may have {hard}"


def table(rows: Sequence[Row]) -> str:
    """Return all rows, for people."""
    head = (
        f"{'kind':<18}{'reached':>8}  {'refused with':<26}"
        f"{'p50 ms before/while':>20}{'p99 ms before/while':>22}{'worst':>8}{'RSS MiB':>16}"
    )
    lines = [head]
    for row in rows:
        p50 = " / ".join(f"{each.percentile_ms(0.5):.1f}" for each in (row.before, row.during))
        p99 = " / ".join(f"{each.percentile_ms(0.99):.1f}" for each in (row.before, row.during))
        rss = " ".join(map(str, row.rss_mib))
        lines.append(
            f"{row.kind.name:<18}{row.reached:>8}  {row.refused or 'own oldest make room':<26}"
            f"{p50:>20}{p99:>22}{max(row.during.samples) * 1000:>8.0f}{rss:>16}"
        )
    lines.append("(lease.acquire of another user; RSS of the daemon before, at most, and after)")
    return "\n".join(lines)


def observe_all(kinds: Sequence[Kind], *, seconds: float) -> list[Row]:
    """Try kind after kind, each with a user of its own, on one daemon."""
    with exhaustible() as daemon:
        rows = [
            observe(daemon, kind, uid=FIRST_HOSTILE + number, seconds=seconds)
            for number, kind in enumerate(kinds)
        ]
        assert "Traceback" not in daemon.log(), daemon.log()[-4000:]
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="exhaustion")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each kind, once reached")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="all of them if left out")
    arguments = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(f"exhaustion {reason}", file=sys.stderr)
        return 1
    kinds = [each for each in KINDS if not arguments.kinds or each.name in arguments.kinds]
    rows = observe_all(kinds, seconds=arguments.seconds)
    print(table(rows))
    wrong = [f"{row.kind.name}: {fault}" for row in rows for fault in row.faults()]
    print("\n".join(wrong) or "every kind is refused, and the other user is served")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
