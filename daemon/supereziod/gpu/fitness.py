"""The fitness of one GPU: whether its faults condemn it, and how it earns its way back.

HEALTHY -> SUSPECT -> QUARANTINED -> PROBATION -> HEALTHY. Pure, with the time as an argument.

A GPU is clean only while somebody watches it: time in which no good sample came (the daemon was
down, the probe detached, the host asleep) neither clears it nor counts against it. That is also
why nothing here needs the wall clock: what is kept over a restart are durations.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from superezio.wire import FitnessState

_SECOND: Final = 1_000_000_000

#: Raised by what a program does on a GPU (13, 31, 43, 45, 68: an illegal access, a page fault, a
#: reset channel, a preempted clean-up, a video exception): they say nothing of the card.
APPLICATION_XIDS: Final = frozenset({13, 31, 43, 45, 68})

#: After these the card does not work again without a reset, a reboot or a visit:
#: 46 it stopped processing, 48 an uncorrectable memory error, 62 its micro-controller halted,
#: 64 a faulty memory row could not be retired, 79 it fell off the bus, 95 an error that may have
#: corrupted other programs too, 119 and 120 its system processor no longer answers or has failed,
#: 140 an unrecovered memory error, 143 it failed to initialise. Everything else (63, 74, 92, 94,
#: 999 and numbers yet to come) makes it a suspect, and several of them in a while a fault.
FATAL_XIDS: Final = frozenset({46, 48, 62, 64, 79, 95, 119, 120, 140, 143})


class FitnessRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What condemns a GPU and for how long. Where an XID is in both sets, it is ignored.

    A quarantine ends after `quarantine_s` clean seconds, twice that after each relapse, at most
    `quarantine_limit_s`; a relapse is forgotten after `forget_s` clean seconds. Samples more than
    `watch_s` apart leave the time between them unwatched. A suspect is cleared after
    `suspect_window_s` clean seconds, in which `suspect_limit` suspicions would condemn it.
    """

    ignored_xids: frozenset[int] = APPLICATION_XIDS
    fatal_xids: frozenset[int] = FATAL_XIDS
    suspect_limit: int = 3
    suspect_window_s: float = 600.0
    quarantine_s: float = 600.0
    quarantine_limit_s: float = 86_400.0
    probation_s: float = 600.0
    forget_s: float = 3600.0
    watch_s: float = 60.0


class FitnessChange(Struct, frozen=True, kw_only=True):
    """One step of the state machine; `quarantine_s` is set where it leads into a quarantine."""

    previous: FitnessState
    state: FitnessState
    reason: str
    quarantine_s: float | None = None


class FitnessRecord(Struct, frozen=True, kw_only=True):
    """What outlives a restart. Durations, because the monotonic clock starts anew at each boot.

    `at_ns` is CLOCK_MONOTONIC of the boot `boot_id`, and means nothing in another one.
    """

    state: FitnessState
    reason: str
    quarantines: int
    clean_s: float
    suspect_ages_s: tuple[float, ...]
    boot_id: str
    at_ns: int


class Fitness:
    """The state of one GPU. Each `observe_` returns the change it makes, or None."""

    def __init__(self, *, rules: FitnessRules | None = None) -> None:
        self.state: FitnessState = "healthy"
        self.reason = ""
        self._rules = rules if rules is not None else FitnessRules()
        self._suspicions: list[int] = []
        self._quarantines = 0
        self._clean_ns = 0
        self._watched_ns: int | None = None
        self._missing = False
        self._ecc: int | None = None

    def observe_xid(self, xid: int, now_ns: int) -> FitnessChange | None:
        """Take in a critical error that the driver reported."""
        if xid in self._rules.ignored_xids:
            return None
        if xid in self._rules.fatal_xids:
            return self._condemn(f"XID {xid}, after which a GPU needs a reset")
        return self._suspect(f"XID {xid}", now_ns)

    def observe_lost(self, now_ns: int) -> FitnessChange | None:
        """Take in that the driver has lost the GPU; repeated calls are one loss."""
        del now_ns
        self._missing = True
        return self._condemn("the driver has lost it")

    def observe_missed(self, now_ns: int) -> FitnessChange | None:
        """Take in that a sample did not come; those missed in a row are one suspicion."""
        self._interrupt()
        if self._missing:
            return None
        self._missing = True
        return self._suspect("a sample did not come", now_ns)

    def observe_ecc(self, uncorrected: int | None, now_ns: int) -> FitnessChange | None:
        """Take in the driver's count of uncorrected memory errors; only growth is a suspicion."""
        if uncorrected is None:
            return None
        known, self._ecc = self._ecc, uncorrected
        if known is None or uncorrected <= known:
            return None
        return self._suspect(f"{uncorrected - known} uncorrected memory errors", now_ns)

    def observe_good(self, now_ns: int) -> FitnessChange | None:
        """Take in a sample in which the GPU answered, its memory included."""
        self._missing = False
        if self._watched_ns is not None:
            passed_ns = now_ns - self._watched_ns
            if 0 <= passed_ns <= self._rules.watch_s * _SECOND:
                self._clean_ns += passed_ns
        self._watched_ns = now_ns
        self._forget_suspicions(now_ns)
        return self._improve()

    @property
    def quarantine_s(self) -> float:
        """How long the present quarantine is, or the next one would be, in clean seconds."""
        repeats = max(0, self._quarantines - (self.state == "quarantined"))
        doubled = self._rules.quarantine_s * 2.0 ** min(repeats, 64)
        return min(doubled, self._rules.quarantine_limit_s)

    def dump(self, now_ns: int, *, boot_id: str) -> FitnessRecord:
        """Return what has to outlive a restart."""
        return FitnessRecord(
            state=self.state,
            reason=self.reason,
            quarantines=self._quarantines,
            clean_s=self._clean_ns / _SECOND,
            suspect_ages_s=tuple((now_ns - at_ns) / _SECOND for at_ns in self._suspicions),
            boot_id=boot_id,
            at_ns=now_ns,
        )

    def load(self, record: FitnessRecord, now_ns: int, *, boot_id: str) -> None:
        """Go on from a `dump`."""
        # Within one boot the time since the dump is known. Over a reboot it is not (the wall
        # clock may have been set): suspicions then stay as old as they were.
        away_ns = max(0, now_ns - record.at_ns) if record.boot_id == boot_id else 0
        self.state = record.state
        self.reason = record.reason
        self._quarantines = max(0, record.quarantines)
        self._clean_ns = round(max(0.0, record.clean_s) * _SECOND)
        self._suspicions = sorted(
            now_ns - away_ns - round(max(0.0, age_s) * _SECOND) for age_s in record.suspect_ages_s
        )
        self._watched_ns = None

    def _suspect(self, reason: str, now_ns: int) -> FitnessChange | None:
        self._interrupt()
        self._forget_suspicions(now_ns)
        self._suspicions.append(now_ns)
        if self.state == "quarantined":
            return None
        if self.state == "probation":
            return self._condemn(f"{reason}, on probation")
        count = len(self._suspicions)
        if count >= self._rules.suspect_limit:
            window_s = self._rules.suspect_window_s
            return self._condemn(f"{reason}: {count} suspicions within {window_s:g} s")
        return self._move("suspect", reason) if self.state == "healthy" else None

    def _condemn(self, reason: str) -> FitnessChange | None:
        self._interrupt()
        if self.state == "quarantined":
            return None
        self._quarantines += 1
        self._suspicions.clear()
        return self._move("quarantined", reason)

    def _improve(self) -> FitnessChange | None:
        clean_s = self._clean_ns / _SECOND
        if self.state == "quarantined" and clean_s >= self.quarantine_s:
            return self._move("probation", f"answers, and clean for {self.quarantine_s:g} s")
        if self.state == "probation" and clean_s >= self._rules.probation_s:
            return self._move("healthy", f"clean for {self._rules.probation_s:g} s on probation")
        if self.state == "suspect" and clean_s >= self._rules.suspect_window_s:
            return self._move("healthy", f"clean for {self._rules.suspect_window_s:g} s")
        if self.state == "healthy" and self._quarantines and clean_s >= self._rules.forget_s:
            self._quarantines -= 1
            self._clean_ns = 0
        return None

    def _interrupt(self) -> None:
        self._clean_ns = 0
        self._watched_ns = None

    def _forget_suspicions(self, now_ns: int) -> None:
        oldest_ns = now_ns - self._rules.suspect_window_s * _SECOND
        self._suspicions = [at_ns for at_ns in self._suspicions if at_ns > oldest_ns]

    def _move(self, state: FitnessState, reason: str) -> FitnessChange:
        previous, self.state = self.state, state
        self.reason = "" if state == "healthy" else reason
        self._clean_ns = 0
        return FitnessChange(
            previous=previous,
            state=state,
            reason=reason,
            quarantine_s=self.quarantine_s if state == "quarantined" else None,
        )
