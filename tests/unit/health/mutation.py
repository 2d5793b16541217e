"""Runs tests against seeded mutants: `python mutation.py`, jobs on stdin, outcomes on stdout.

Each mutant is a module whose source has one piece replaced, in memory and in a forked child alone:
nothing on disk changes. What every child needs is imported once, before the forks.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Literal

import msgspec
import pytest

Outcome = Literal["killed", "survived", "broken"]

_WARM = (
    "asyncio",
    "hypothesis",
    "hypothesis.strategies",
    "pytest_asyncio",
    "pytest_timeout",
    "sdnotify",
    "structlog.testing",
    "superezio.wire",
    "supereziod.gpu.hardware",
    "supereziod.observability.events",
    "supereziod.storage",
)

# Plain asserts: nobody reads what failed, and what is warmed can no longer be rewritten.
_OPTIONS = (
    "--exitfirst",
    "--quiet",
    "--assert=plain",
    "--tb=no",
    "--timeout=20",
    "--hypothesis-profile=mutants",
    "-pno:cacheprovider",
)


class Mutant(msgspec.Struct, frozen=True):
    """`old`, which stands once in the source of `module`, becomes `new`; `tests` should see it.

    Without an `old` the module stays sound, and `tests` should pass.
    """

    name: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...]

    def source(self) -> tuple[str, str]:
        """Return the file and the mutated source. Raises ValueError where `old` is not once."""
        spec = importlib.util.find_spec(self.module)
        assert spec is not None
        assert spec.origin is not None
        text = Path(spec.origin).read_text()
        if not self.old:
            return spec.origin, text
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} stands {text.count(self.old)} times")
        return spec.origin, text.replace(self.old, self.new)


def judge(mutants: list[Mutant], *, at_once: int) -> dict[str, Outcome]:
    """Return what became of each mutant."""
    outcomes: dict[str, Outcome] = {}
    running: dict[int, str] = {}
    waiting = [(mutant, *mutant.source()) for mutant in reversed(mutants)]
    while waiting or running:
        if waiting and len(running) < at_once:
            mutant, origin, source = waiting.pop()
            running[_fork(mutant, origin, source)] = mutant.name
            continue
        pid, status = os.wait()
        outcomes[running.pop(pid)] = _outcome(os.waitstatus_to_exitcode(status))
    return outcomes


def _fork(mutant: Mutant, origin: str, source: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = int(pytest.ExitCode.INTERNAL_ERROR)
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        _install(mutant.module, origin, source)
        code = int(pytest.main([*_OPTIONS, *mutant.tests]))
    finally:
        os._exit(code)


def _install(name: str, origin: str, source: str) -> None:
    parent, _, leaf = name.rpartition(".")
    module = ModuleType(name)
    module.__file__ = origin
    module.__package__ = parent
    sys.modules[name] = module
    exec(compile(source, origin, "exec"), module.__dict__)
    setattr(importlib.import_module(parent), leaf, module)


def _outcome(code: int) -> Outcome:
    if code == pytest.ExitCode.TESTS_FAILED:
        return "killed"
    return "survived" if code == pytest.ExitCode.OK else "broken"


def main() -> None:
    """Read a JSON list of mutants, judge them, and write an object of outcomes by name."""
    for name in _WARM:
        importlib.import_module(name)
    from hypothesis import Phase, settings  # noqa: PLC0415 - with the others that are warmed

    # The same examples each time, and no search for the smallest: the first failure is enough.
    settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
    )
    mutants = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Mutant])
    json.dump(judge(mutants, at_once=os.cpu_count() or 1), sys.stdout)


if __name__ == "__main__":
    main()
