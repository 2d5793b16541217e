"""Seeded mutants: faults put into a module on purpose, to show that its tests would see them.

A mutant replaces one piece of a module's source, which has to be there exactly once, so that a
list of mutants cannot rot unseen. The tests run against it in a process of their own, where an
import hook serves the changed source; nothing on disk changes. That process is forked from one
that has imported what no mutant is in, and as many run at once as there are cores:

    MUTANTS = (Mutant("drops the reserve", "package.module", "- reserve", ""), ...)

    mutants, test_passes, test_kills_one_that = kept_list(MUTANTS, tests=[...])
"""

from __future__ import annotations

import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Final, Self, TypeVar

import msgspec
import pytest
from msgspec import Struct

T = TypeVar("T")

ROOT: Final = Path(__file__).parent.parent
#: What every test needs and no mutant is in.
_WARM: Final = (
    "_hypothesis_pytestplugin", "asyncio", "ctypes", "hypothesis.stateful", "hypothesis.strategies",
    "msgspec", "pdb", "pytest_asyncio.plugin", "pytest_timeout", "sdnotify", "sqlite3",
    "structlog.testing", "unittest", "uvloop", "xml.etree.ElementTree",
)  # fmt: skip
#: How long a verdict may take: a test's own time limit, and what comes before.
_VERDICT_S: Final = 400
# Plain asserts: nobody reads what failed, and what is imported before cannot be rewritten. No
# plugin of anyio, which httpx brings, no test uses, and takes a fifth of a short run to import.
_OPTIONS: Final = (
    "-x", "-q", "--tb=line", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:anyio",
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


#: The tests that judge a mutant, the quick ones first: they stop at the first failure.
Tests = Sequence[Path] | Callable[[Mutant], Sequence[Path]]


def kept_list(
    mutants: Sequence[Mutant], *, tests: Tests, environment: Mapping[str, str] | None = None
) -> tuple[Callable[..., Iterator[Mutants]], Callable[..., None], Callable[..., None]]:
    """Return what a module of tests consists of that keeps a list of `mutants`.

    These are, under the names given here or where the module wants others: the fixture `mutants`;
    `test_passes`, that `tests` pass where nothing is changed, with a control for each set of
    them that is no part of another; and `test_kills_one_that`, that they kill each of the mutants.
    """
    judges = {each: tuple(tests(each) if callable(tests) else tests) for each in mutants}
    modules = {judge: mutant.module for mutant, judge in judges.items()}
    controls = {
        _control(module, judge): judge
        for judge, module in modules.items()
        if not any(set(judge) < set(other) for other in modules)
    }

    @pytest.fixture(scope="module", name="mutants")
    def fixture(request: pytest.FixtureRequest) -> Iterator[Mutants]:
        chosen = selected(request, controls | judges)
        with Mutants(chosen, environment=environment) as running:
            yield running

    # A fault may let a test hang, which its own time limit ends first.
    @pytest.mark.timeout(_VERDICT_S)
    @pytest.mark.parametrize("mutant", list(controls), ids=str)
    def passes(mutants: Mutants, mutant: Mutant) -> None:
        mutants.assert_passes(mutant)

    @pytest.mark.timeout(_VERDICT_S)
    @pytest.mark.parametrize("mutant", mutants, ids=str)
    def kills(mutants: Mutants, mutant: Mutant) -> None:
        mutants.assert_killed(mutant)

    return fixture, passes, kills


def _control(module: str, judge: Sequence[Path]) -> Mutant:
    """Return one that changes nothing of a module, and so has to pass its tests."""
    line = "\nfrom __future__ import annotations"
    return Mutant(f"control of {judge[0].stem}", module, f"{line}\n", f"{line}  # as is\n")


def selected(request: pytest.FixtureRequest, judges: Mapping[Mutant, T]) -> dict[Mutant, T]:
    """Return those that the requesting module's selected tests are about."""
    wanted = {
        item.callspec.params["mutant"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.path == request.path
        and hasattr(item, "callspec")
    }
    return {mutant: judge for mutant, judge in judges.items() if mutant in wanted}


class _Job(Struct, frozen=True):
    """A run of tests against a changed source.

    What they print goes to the file `output`; what they keep in files, to the folder `temporary`,
    for runs that shared one would trip over each other in tidying it.
    """

    module: str
    source: str
    tests: list[str]
    output: str
    temporary: str


class Mutants:
    """Runs each mutant's test files against it, in the order given, as long as it is open.

    `environment` is added to theirs; SUPEREZIO_MUTANT tells them that they run against a mutant.
    """

    def __init__(
        self,
        judges: Mapping[Mutant, Sequence[Path]],
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._judges = judges
        self._environment = dict(environment or {})
        self._mutants = list(judges)
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
            "PYTHONDONTWRITEBYTECODE": "",
        }
        jobs = [self._job(number, mutant) for number, mutant in enumerate(self._mutants)]
        self._runner = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # To be ended with its children; of the caller's session, so that both share the
            # processors as their niceness says.
            process_group=0,
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
        assert status == pytest.ExitCode.TESTS_FAILED, (
            f"no test of it failed, its run {self._end(mutant)}"
        )

    def assert_passes(self, mutant: Mutant) -> None:
        """Fail unless all tests pass: the control, for a mutant that changes nothing."""
        status = self._status(mutant)
        assert status == pytest.ExitCode.OK, f"its tests do not pass, their run {self._end(mutant)}"

    def _job(self, number: int, mutant: Mutant) -> _Job:
        source = Path(self._scratch.name) / f"{number}.py"
        source.write_text(mutant.source())
        return _Job(
            module=mutant.module,
            source=str(source),
            tests=list(map(str, self._judges[mutant])),
            output=str(source.with_suffix(".txt")),
            temporary=str(source.with_suffix("")),
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

    def _end(self, mutant: Mutant) -> str:
        number = self._mutants.index(mutant)
        output = Path(self._scratch.name) / f"{number}.txt"
        # A run that was killed before it began has printed nothing, not even an empty file.
        printed = output.read_text(errors="replace") if output.exists() else ""
        return f"ended {_how(self._status(mutant))}: {mutant.name}\n{printed[-4000:]}"


def _how(status: int) -> str:
    if status < 0:
        return f"by signal {-status} ({signal.strsignal(-status)})"
    names = {code.value: code.name.lower().replace("_", " ") for code in pytest.ExitCode}
    return f"with status {status} ({names.get(status, 'not one of pytest')})"


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
    _draw_the_same()
    # What is here now stays: no collection in a child is to look at it, and so to copy it.
    gc.freeze()
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


def _draw_the_same() -> None:
    """Have Hypothesis draw the same examples each time, so that what was killed stays killed.

    It strews in constants that it finds in the source of all local modules that are imported: a
    line of code anywhere would change what is drawn here.
    """
    # With the others that are warmed, and not in the process that asks.
    from hypothesis import Phase, settings  # noqa: PLC0415
    from hypothesis.internal.conjecture import providers  # noqa: PLC0415
    from hypothesis.internal.constants_ast import Constants  # noqa: PLC0415

    found = "_get_local_constants"
    assert hasattr(providers, found), f"Hypothesis has no {found} any more: what is it called now?"
    setattr(providers, found, Constants)
    # No search for the smallest: the first failure is enough.
    settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
    )


class _Ending:
    """How the tests ended, whatever pytest meets with while it tidies up after them.

    A test that failed leaves open what it had, and to find that out may be pytest's last act.
    """

    status = int(pytest.ExitCode.INTERNAL_ERROR)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.TESTS_FAILED:
            self.status = int(exitstatus)


def _fork(job: _Job) -> int:
    pid = os.fork()
    if pid:
        return pid
    ending = _Ending()
    try:
        output = os.open(job.output, os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        assert job.module not in sys.modules, f"{job.module} is imported before it is changed"
        sys.meta_path.insert(0, _OneModule(job.module, job.source))
        options = (*_OPTIONS, f"--basetemp={job.temporary}")
        ending.status = int(pytest.main([*options, *job.tests], plugins=[ending]))
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        os._exit(ending.status)


if __name__ == "__main__":
    main()
