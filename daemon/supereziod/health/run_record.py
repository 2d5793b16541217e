"""That a run of the daemon goes on, kept where the next one finds how it ended.

A run that is told to stop says at last that it ended. One that is killed, crashes, or loses its
host cannot: what it said last stands, and the next run tells of it. What it finds is a hint for
people, and nothing is decided by it: where it makes no sense, nothing is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from supereziod.observability.events import EventLog

_SECOND: Final = 1_000_000_000
_INTERVAL_NS: Final = 10 * _SECOND

#: A wall clock's, as it is read by people and by the next boot.
_Time = Annotated[datetime, Meta(tz=True)]


class Run(Struct, frozen=True, kw_only=True):
    """One run as it was at `last_seen`; `ended` is said by one that was told to stop."""

    version: Literal[1]
    boot_id: str
    pid: int
    started_at: _Time
    last_seen: _Time
    ended: bool


class SuddenEnd(Struct, frozen=True, kw_only=True):
    """That `run` ended without having been told to, in this boot or with the one before."""

    run: Run
    same_boot: bool

    @property
    def message(self) -> str:
        """What happened, by what it may have, and what became of the leases."""
        run = self.run
        whose = f"the previous run (pid {run.pid}, started {_text(run.started_at)})"
        if self.same_boot:
            return (
                f"{whose} ended suddenly, last seen {_text(run.last_seen)}: killed by a signal"
                " (kill -9, the kernel's OOM killer, systemd's watchdog where it hung) or a crash;"
                " leases stand"
            )
        return (
            f"the host ended suddenly under {whose}, last seen {_text(run.last_seen)}: a power cut,"
            " a panic, or a reboot that did not wait; leases ended with that boot"
        )

    @property
    def witness(self) -> str:
        """The command that shows why."""
        return "journalctl -u superezio -b" if self.same_boot else "journalctl -b -1"


class RunRecord:
    """This run's record, a part of what the keeper keeps, and how the run before it ended.

    A sudden end is forgotten when this run is `forget_after_s` old. `clock` is monotonic, `now` the
    wall clock.
    """

    def __init__(
        self,
        *,
        boot_id: str,
        pid: int,
        forget_after_s: float = 900.0,
        clock: Callable[[], int] = time.monotonic_ns,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._boot_id = boot_id
        self._pid = pid
        self._forget_after_ns = round(forget_after_s * _SECOND)
        self._clock = clock
        self._now = now
        self._started_at = now()
        self._started_ns = clock()
        self._said_ns: int | None = None
        self._is_stopping = False
        self._found: SuddenEnd | None = None

    def load(self, body: bytes | None, *, explained: bool, fault: str | None) -> None:
        """Take what the run before this one said last.

        `explained`: it is known otherwise how that ended, and told as that. `fault`: why nothing
        can be written; a run that ended in order could not say so either, and none is accused.
        """
        run = None if body is None else _decode(body)
        if run is None or run.ended or explained or fault is not None:
            return
        if run.started_at <= run.last_seen <= self._started_at:
            self._found = SuddenEnd(run=run, same_boot=run.boot_id == self._boot_id)

    def sudden_end(self) -> str | None:
        """Return how the run before this one ended, where it was sudden and is not forgotten."""
        is_forgotten = self._clock() - self._started_ns >= self._forget_after_ns
        return None if self._found is None or is_forgotten else self._found.message

    def tell(self, events: EventLog) -> None:
        """Say once, before anything is kept of this run, how the one before it ended."""
        end = self._found
        if end is not None:
            events.emit(
                "daemon.ended_suddenly",
                f"{end.message}; `{end.witness}` has why",
                severity="warning" if end.same_boot else "info",
                previous_pid=end.run.pid,
                started_at=_text(end.run.started_at),
                last_seen=_text(end.run.last_seen),
                same_boot=end.same_boot,
            )

    def stop(self) -> None:
        """Have it said at the end that this run ended: it was told to."""
        self._is_stopping = True

    def snapshot(self, *, final: bool) -> bytes | None:
        """Return that this run goes on, once in ten seconds, or at the end that it ended."""
        now_ns = self._clock()
        if not final and self._said_ns is not None and now_ns - self._said_ns < _INTERVAL_NS:
            return None
        self._said_ns = now_ns
        return msgspec.json.encode(
            Run(
                version=1,
                boot_id=self._boot_id,
                pid=self._pid,
                started_at=self._started_at,
                last_seen=self._now(),
                ended=final and self._is_stopping,
            )
        )


def _decode(body: bytes) -> Run | None:
    try:
        return msgspec.json.decode(body, type=Run)
    except (ValueError, RecursionError):  # msgspec's own, and bytes that are no text
        return None


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
