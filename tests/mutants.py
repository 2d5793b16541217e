"""Seeded mutants: faults put into a module on purpose, to show that its tests would see them.

A mutant replaces one piece of a module's source, which has to be there exactly once, so that a
list of mutants cannot rot unseen. The tests run against it in a process of their own, where an
import hook serves the changed source; nothing on disk changes. That process is forked from one
that has imported what no mutant is in, and as many run at once as there are cores:

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

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Final, Self

import msgspec
import pytest
from msgspec import Struct

ROOT: Final = Path(__file__).parent.parent
#: What every test needs and no mutant is in.
_WARM: Final = (
    "asyncio", "hypothesis.strategies", "msgspec", "pytest_asyncio.plugin", "pytest_timeout",
    "sdnotify", "structlog.testing", "uvloop",
)  # fmt: skip
# Plain asserts: nobody reads what failed, and what is imported before cannot be rewritten.
_OPTIONS: Final = (
    "-x", "-q", "--tb=line", "--assert=plain", "-p", "no:cacheprovider",
    "--hypothesis-profile=mutants",
)  # fmt: skip


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


class _Job(Struct, frozen=True):
    """A run of tests against a changed source; `output` is where what they print goes."""

    module: str
    source: str
    tests: list[str]
    output: str


class Mutants:
    """Runs test files against each of some mutants, in the order given, as long as it is open.

    `tests` (for all, or by mutant) stop at the first failure: put the quick ones first.
    `environment` is added to theirs; SUPEREZIO_MUTANT tells them that they run against a mutant.
    """

    def __init__(
        self,
        mutants: Sequence[Mutant],
        *,
        tests: Sequence[Path] | Callable[[Mutant], Sequence[Path]],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._tests = tests
        self._environment = dict(environment or {})
        self._mutants = list(mutants)
        self._statuses: dict[int, int] = {}

    def __enter__(self) -> Self:
        self._scratch = TemporaryDirectory(prefix="mutants-")
        # A mutant is not to be measured, nor to be run as its caller is.
        private = ("COVERAGE_", "COV_", "PYTEST_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(private)}
        environment |= self._environment
        environment |= {
            "SUPEREZIO_MUTANT": "1",
            # Compiled once for all mutants, whatever the caller does with bytecode.
            "PYTHONPYCACHEPREFIX": f"{self._scratch.name}/bytecode",
            "PYTHONDONTWRITEBYTECODE": "",
        }
        jobs = [self._job(number, mutant) for number, mutant in enumerate(self._mutants)]
        self._runner = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._runner.stdin is not None
        self._runner.stdin.write(msgspec.json.encode(jobs))
        self._runner.stdin.close()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._runner.stdout is not None
        if len(self._statuses) < len(self._mutants):
            os.killpg(self._runner.pid, signal.SIGKILL)
        self._runner.stdout.close()
        self._runner.wait()
        self._scratch.cleanup()

    def assert_killed(self, mutant: Mutant) -> None:
        """Fail unless a test failed: not a crash of the run, not an import that broke."""
        status = self._status(mutant)
        assert status != pytest.ExitCode.OK, f"nothing noticed: {mutant.name}"
        assert status == pytest.ExitCode.TESTS_FAILED, self._output(mutant)

    def assert_passes(self, mutant: Mutant) -> None:
        """Fail unless all tests pass: the control, for a mutant that changes nothing."""
        assert self._status(mutant) == pytest.ExitCode.OK, self._output(mutant)

    def _job(self, number: int, mutant: Mutant) -> _Job:
        source = Path(self._scratch.name) / f"{number}.py"
        source.write_text(mutant.source())
        tests = self._tests(mutant) if callable(self._tests) else self._tests
        return _Job(
            mutant.module, str(source), list(map(str, tests)), str(source.with_suffix(".txt"))
        )

    def _status(self, mutant: Mutant) -> int:
        number = self._mutants.index(mutant)
        assert self._runner.stdout is not None
        while number not in self._statuses:
            line = self._runner.stdout.readline()
            assert line, "the runner of the mutants ended: see above"
            done, status = line.split()
            self._statuses[int(done)] = int(status)
        return self._statuses[number]

    def _output(self, mutant: Mutant) -> str:
        number = self._mutants.index(mutant)
        return (Path(self._scratch.name) / f"{number}.txt").read_text(errors="replace")[-4000:]


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


# --- in the process that runs them --------------------------------------------------------------


class _OneModule(importlib.abc.MetaPathFinder):
    """Finds one module elsewhere; everything else is where it always is."""

    def __init__(self, module: str, source: str) -> None:
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


def main() -> None:
    """Read a JSON list of jobs; write the number and pytest's exit status of each that is done."""
    jobs = msgspec.json.decode(sys.stdin.buffer.read(), type=list[_Job])
    for name in _WARM:
        importlib.import_module(name)
    from hypothesis import Phase, settings  # noqa: PLC0415 - with the others that are warmed

    # The same examples each time, so that what was killed stays killed, and no search for the
    # smallest: the first failure is enough.
    settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
    )
    waiting = list(reversed(list(enumerate(jobs))))
    running: dict[int, int] = {}
    at_once = max(2, len(os.sched_getaffinity(0)))
    while waiting or running:
        if waiting and len(running) < at_once:
            number, job = waiting.pop()
            running[_fork(job)] = number
            continue
        pid, status = os.wait()
        print(running.pop(pid), os.waitstatus_to_exitcode(status), flush=True)


def _fork(job: _Job) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = int(pytest.ExitCode.INTERNAL_ERROR)
    try:
        output = os.open(job.output, os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        assert job.module not in sys.modules, f"{job.module} is imported before it is changed"
        sys.meta_path.insert(0, _OneModule(job.module, job.source))
        code = int(pytest.main([*_OPTIONS, *job.tests]))
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
