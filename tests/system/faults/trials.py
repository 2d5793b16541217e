"""Faults are tried on each systemd, both beside each other: most of a row is waiting."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct

from system.faults.fault import CannotBeTriedError, Fault, Outcome, Sight
from system.faults.host import FaultyHost
from system.faults.observation import Observation
from system.installation import Installation
from system.machine import why_not
from system.trees import Tree, debian13

HERE, DEBIAN_13 = "here", "debian13"


class Trial(Struct, frozen=True, kw_only=True):
    """What became of one: why not where it was not tried, what failed where it did.

    `outcome` is None where there is no such systemd.
    """

    outcome: Outcome | None
    why_not: str | None = None
    failure: Exception | None = None


class Lane:
    """One systemd. Its host serves for one fault after another, until one fails.

    All of it is done in one thread, which lives on until the end: a process is sent its parent's
    death by the kernel when the thread that started it ends.
    """

    def __init__(self, name: str, *, scratch: Path) -> None:
        self._name = name
        self._scratch = scratch
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._trials: dict[str, Future[Trial]] = {}
        self._installation: Installation | str | None = None
        self._host: FaultyHost | None = None

    def begin(self, faults: Iterable[Fault]) -> None:
        """Try these, one after the other."""
        for fault in faults:
            self._trials[fault.name] = self._thread.submit(self._try, fault)

    def trial(self, fault: Fault) -> Trial:
        """Wait for what becomes of it."""
        return self._trials[fault.name].result()

    def end(self) -> None:
        """Try no more, and power off."""
        for trial in self._trials.values():
            trial.cancel()
        self._thread.submit(self._discard).result()
        self._thread.shutdown()

    def _try(self, fault: Fault) -> Trial:
        host: FaultyHost | None = None
        sight: Sight | None = None
        seen: Observation | None = None
        why, failure = "see the failure", None
        try:
            if self._installation is None:
                self._installation = self._prepare()
            if isinstance(self._installation, str):
                return Trial(outcome=None, why_not=self._installation)
            host = self._host = self._host or FaultyHost(self._installation, build=self._scratch)
            host.begin()
            sight = fault.provoke(host)
            seen = host.finish()
            fault.judge(seen)
        except CannotBeTriedError as error:
            why = f"cannot be tried here: {error}"
            self._discard()
            return Trial(outcome=self._outcome(host, fault, sight, seen, why), why_not=why)
        except Exception as error:  # noqa: BLE001 - the row's test raises it
            failure = error
        outcome = self._outcome(host, fault, sight, seen, why)
        if failure is not None:
            self._discard()
        return Trial(outcome=outcome, failure=failure)

    def _prepare(self) -> Installation | str:
        reason = why_not()
        if reason is not None:
            return reason
        tree = debian13() if self._name == DEBIAN_13 else Tree()
        if isinstance(tree, str):
            return tree
        return Installation.prepare(scratch=self._scratch, tree=tree)

    def _outcome(
        self,
        host: FaultyHost | None,
        fault: Fault,
        sight: Sight | None,
        seen: Observation | None,
        why: str,
    ) -> Outcome:
        systemd = self._name if host is None else host.systemd
        return Outcome(fault.name, systemd, sight, seen, why, says_loss=fault.says_loss)

    def _discard(self) -> None:
        host, self._host = self._host, None
        if host is not None:
            host.close()
