"""The tests of minders see each of these faults: a kept list.

A minder is a process of its own, which an import hook in the tests' does not reach: each fault is
in a copy of the package, before the real one on the path of both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

import superezioctl
from mutants import ROOT, Mutant, selected

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parent / "test_minding.py"

FOLLOWER = "superezioctl.minding.follower"
MINDER = "superezioctl.minding.minder"
RESPONSES = "superezioctl.minding.responses"

CONTROL = Mutant(
    "control: changes nothing",
    RESPONSES,
    "return last_ns if grace_s is None else min(last_ns, told_ns + round(grace_s * 1e9))",
    "return last_ns if grace_s is None else min(told_ns + round(grace_s * 1e9), last_ns)",
)
#: Each with the test that sees it, so that not all have to be run for each.
MUTANTS = {
    CONTROL: "test_a_notice_is_acknowledged_and_ends_the_command",
    Mutant(
        "kills after the lease is lost",
        RESPONSES,
        "last_ns = deadline_ns - min(_MARGIN_NS, left_ns // _MARGIN_SHARE)",
        "last_ns = deadline_ns",
    ): "test_when_a_command_is_killed",
    Mutant(
        "lets a grace outlast the lease",
        RESPONSES,
        "min(last_ns, told_ns + round(grace_s * 1e9))",
        "told_ns + round(grace_s * 1e9)",
    ): "test_when_a_command_is_killed",
    Mutant(
        "kills at once",
        RESPONSES,
        "self._kill_ns = kill_ns(self._told_ns, revocation.deadline_ns, self._grace_s)\n\n"
        "    def withdrawn(self) -> None:\n"
        '        """Kill nothing; that SIGTERM',
        "self._kill_ns = self._told_ns\n\n"
        "    def withdrawn(self) -> None:\n"
        '        """Kill nothing; that SIGTERM',
    ): "test_a_command_that_does_not_end_is_killed_before_its_lease_is_lost",
    Mutant(
        "kills for a notice that was withdrawn",
        RESPONSES,
        '"""Kill nothing; that SIGTERM was sent cannot be undone."""\n'
        "        self._told_ns = self._kill_ns = None\n",
        '"""Kill nothing; that SIGTERM was sent cannot be undone."""\n',
    ): "test_a_notice_that_was_withdrawn_kills_nothing_later_either",
    Mutant(
        "leaves running what a command leaves",
        RESPONSES,
        "            _end(process, _signal.SIGTERM)\n",
        "            pass\n",
    ): "test_what_a_script_leaves_running_is_ended_too",
    Mutant(
        "ends with the command, whatever that leaves",
        MINDER,
        "            return not self._response.busy\n",
        "            return True\n",
    ): "test_what_it_leaves_running_and_does_not_listen_is_killed",
    Mutant(
        "does not tell the daemon that it has heard",
        MINDER,
        "            self._follower.accept()\n",
        "            pass\n",
    ): "test_a_notice_is_acknowledged_and_ends_the_command",
    Mutant(
        "runs the user's command at each look",
        MINDER,
        "            self._response.changed(revocation)\n            return\n",
        "            self._response.changed(revocation)\n",
    ): "test_it_is_run_once_for_a_notice_and_its_failure_is_said",
    Mutant(
        "says nothing of why to the user's command",
        RESPONSES,
        '"SUPEREZIO_REVOKE_REASON": revocation.reason,',
        '"SUPEREZIO_REVOKE_REASON": "",',
    ): "test_a_command_of_the_users_is_run_at_a_notice",
    Mutant(
        "outlives the lease",
        FOLLOWER,
        "        if kind in _OVER:\n",
        "        if False:\n",
    ): "test_a_minder_ends_with_the_lease",
    Mutant(
        "looks for every lease's events",
        FOLLOWER,
        '                if event["lease"] == self._lease:\n',
        "                if True:\n",
    ): "test_an_event_of_another_lease_is_none_of_ours",
    Mutant(
        "says in words what is asked for as JSON",
        MINDER,
        'if as_json else f"superezioctl run: {text}"',
        'if not as_json else f"superezioctl run: {text}"',
    ): "test_with_json_notices_are_lines_of_json",
}


def run(mutant: Mutant, scratch: Path) -> tuple[int, str]:
    """Return pytest's exit status and output, with the mutant before the real package."""
    package = Path(superezioctl.__file__).parent
    copy = scratch / "superezioctl"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    module = Path(*mutant.module.split(".")[1:]).with_suffix(".py")
    (copy / module).write_text(mutant.source())
    private = ("COVERAGE_", "COV_", "PYTEST_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(private)}
    environment |= {"PYTHONPATH": str(scratch), "SUPEREZIO_MUTANT": "1"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", "--assert=plain"),
            *("-p", "no:cacheprovider", f"{TESTS}::{MUTANTS[mutant]}"),
        ],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


Running = dict[Mutant, Future[tuple[int, str]]]


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    with ThreadPoolExecutor(max(2, len(os.sched_getaffinity(0)))) as pool:
        yield {
            mutant: pool.submit(run, mutant, tmp_path_factory.mktemp("mutant"))
            for mutant in selected(request, MUTANTS)
        }


@pytest.mark.parametrize("mutant", list(MUTANTS)[:1], ids=str)
def test_the_suite_passes_where_there_is_no_fault(running: Running, mutant: Mutant) -> None:
    status, output = running[mutant].result()
    assert status == pytest.ExitCode.OK, output


@pytest.mark.parametrize("mutant", list(MUTANTS)[1:], ids=str)
def test_the_suite_kills_one_that(running: Running, mutant: Mutant) -> None:
    status, output = running[mutant].result()
    assert status != pytest.ExitCode.OK, f"nothing noticed: {mutant.name}"
    assert status == pytest.ExitCode.TESTS_FAILED, output
