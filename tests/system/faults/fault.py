"""What a fault is, and what is said of one that was tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from system.faults.host import FaultyHost
from system.faults.observation import Observation


@dataclass(frozen=True, slots=True)
class Sight:
    """That the fault was seen to happen, and what an administrator sees of it.

    Each is what was read, in the words of systemd, of the daemon or of the kernel.
    """

    seen: str
    status: str
    journal: str


class CannotBeTriedError(Exception):
    """Why this host cannot have the fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault: `provoke` makes it, sees it, mends what an administrator has to mend.

    `away_s` is how long the daemon may answer nobody. `lives_on`: one instance answers all along.
    `says_loss`: the leases that stood cannot be known any more, and every holder is told so.
    """

    name: str
    provoke: Callable[[FaultyHost], Sight]
    away_s: float
    lives_on: bool = False
    says_loss: bool = False

    def judge(self, seen: Observation) -> None:
        """Raise AssertionError where the fault was not borne as it has to be."""
        assert seen.standing == 3
        assert seen.grants > 0
        assert (seen.leaked, seen.missing) == ((), ())
        if self.says_loss:
            self._judge_loss(seen)
        else:
            assert (seen.lost, seen.wrong) == ((), ())
        assert seen.away_s < self.away_s
        assert not self.lives_on or len(seen.pids) == 1

    @staticmethod
    def _judge_loss(seen: Observation) -> None:
        """Each refusal is that of a lease that is lost, and who looks after one was told."""
        lost = set(seen.lost)
        assert len(lost) >= seen.standing
        assert {(each.kind, each.lease in lost) for each in seen.wrong} == {("stale_lease", True)}
        assert {each.what for each in seen.wrong} >= {"not_renewed", "not_resumed"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row of the table. What is None was not there to be told."""

    fault: str
    systemd: str
    sight: Sight | None
    observation: Observation | None
    why: str = ""
    says_loss: bool = False

    @property
    def cells(self) -> tuple[str, ...]:
        """Fault, systemd, lost, away, seen."""
        seen = f"NOT SEEN: {self.why}" if self.sight is None else self.sight.seen
        lost, away = "-", "-"
        if self.observation is not None:
            lost, away = self.observation.loss, f"{self.observation.away_s:.2f} s"
            if self.says_loss:
                lost = f"{len(self.observation.lost)} leases, each told"
        return (self.fault, self.systemd, lost, away, seen)
