"""Seeded mutants: faults put into a module on purpose, to show that its tests would see them.

A mutant replaces one piece of a module's source, which has to be there exactly once, so that a
list of mutants cannot rot unseen. The tests run against it in a process of their own, where an
import hook serves the changed source; nothing on disk changes. `Mutants` runs a list with as many
processes as there are cores:

    MUTANTS = (Mutant("drops the reserve", "package.module", "- reserve", ""), ...)

    @pytest.fixture(scope="module")
    def mutants(request):
        with Mutants(selected(request, MUTANTS), tests=[...]) as running:
            yield running

    @pytest.mark.parametrize("mutant", MUTANTS, ids=str)
    def test_the_suite_kills(mutants, mutant):
        mutants.assert_killed(mutant)
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Self

import pytest
from msgspec import Struct

ROOT = Path(__file__).parent.parent
ALL_PASSED = 0
A_TEST_FAILED = 1


class Mutant(Struct, frozen=True):
    """One fault: in `module`, `old` (there exactly once) becomes `new`."""

    name: str
    module: str
    old: str
    new: str

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    def source(self) -> str:
        """Return the module's source with the fault in it."""
        spec = importlib.util.find_spec(self.module)
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).read_text()
        found = source.count(self.old)
        assert found == 1, f"{self.name}: {self.old!r} is {found} times in {self.module}, not once"
        mutated = source.replace(self.old, self.new)
        compile(mutated, spec.origin, "exec")
        return mutated


class Outcome(Struct, frozen=True):
    """What the tests said: pytest's exit status and the end of what it printed."""

    status: int
    output: str


class Mutants:
    """Runs test files against each of some mutants, in the order given, as long as it is open.

    `tests` stop at the first failure: put the quick ones first. `environment` is added to theirs;
    SUPEREZIO_MUTANT tells them that they run against a mutant.
    """

    def __init__(
        self,
        mutants: Sequence[Mutant],
        *,
        tests: Sequence[Path],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._tests = tests
        self._environment = dict(environment or {})
        self._mutants = list(mutants)
        self._outcomes: dict[Mutant, Future[Outcome]] = {}

    def __enter__(self) -> Self:
        self._scratch = TemporaryDirectory(prefix="mutants-")
        self._pool = ThreadPoolExecutor(max_workers=max(2, len(os.sched_getaffinity(0))))
        for mutant in self._mutants:
            self._outcomes[mutant] = self._pool.submit(self._run, mutant)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._scratch.cleanup()

    def assert_killed(self, mutant: Mutant) -> None:
        """Fail unless a test failed: not a crash of the run, not an import that broke."""
        outcome = self._outcomes[mutant].result()
        assert outcome.status != ALL_PASSED, f"nothing noticed: {mutant.name}"
        assert outcome.status == A_TEST_FAILED, outcome.output

    def assert_passes(self, mutant: Mutant) -> None:
        """Fail unless all tests pass: the control, for a mutant that changes nothing."""
        outcome = self._outcomes[mutant].result()
        assert outcome.status == ALL_PASSED, outcome.output

    def _run(self, mutant: Mutant) -> Outcome:
        directory = Path(self._scratch.name) / str(self._mutants.index(mutant))
        directory.mkdir()
        source = directory / "mutant.py"
        source.write_text(mutant.source())
        command = [sys.executable, __file__, mutant.module, str(source), *map(str, self._tests)]
        # A mutant is not to be measured, nor to be run as its caller is.
        private = ("COVERAGE_", "COV_", "PYTEST_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(private)}
        environment |= self._environment
        environment |= {
            "SUPEREZIO_MUTANT": mutant.name,
            "HYPOTHESIS_STORAGE_DIRECTORY": str(directory),
            # Compiled once for all mutants, whatever the caller does with bytecode.
            "PYTHONPYCACHEPREFIX": f"{self._scratch.name}/bytecode",
            "PYTHONDONTWRITEBYTECODE": "",
        }
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Outcome(done.returncode, done.stdout[-4000:])


def selected(request: pytest.FixtureRequest, mutants: Sequence[Mutant]) -> list[Mutant]:
    """Return those of `mutants` that the requesting module's selected tests are about."""
    wanted = {
        item.callspec.params["mutant"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.path == request.path
        and hasattr(item, "callspec")
    }
    return [mutant for mutant in mutants if mutant in wanted]


class _OneModule(importlib.abc.MetaPathFinder):
    """Finds one module elsewhere; everything else is where it always is."""

    def __init__(self, module: str, source: Path) -> None:
        self._module = module
        self._source = source

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if fullname != self._module:
            return None
        return importlib.util.spec_from_file_location(fullname, self._source)


def main(module: str, source: str, *tests: str) -> int:
    """Run `tests` with `module` read from `source`."""
    sys.meta_path.insert(0, _OneModule(module, Path(source)))
    return pytest.main(
        ["-x", "-q", "--tb=line", "--assert=plain", "-p", "no:cacheprovider", *tests]
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
