"""What runs seeded mutants tells a fault that a test saw from a run that came to grief."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mutants import Mutant, Mutants

# One module is as good as another: it has to be there, and not to be imported before.
LINE = "\nfrom __future__ import annotations\n"
RUNS = {
    "is not noticed": "def test_nothing(): pass",
    "is noticed": "def test_it(): assert False",
    "kills the run": """
import os, signal
def test_it():
    os.kill(os.getpid(), signal.SIGKILL)
""",
    "cannot be imported": "import nothing_of_this_name",
    "is noticed by a test that leaves garbage": """
import gc
class Careless:
    def __del__(self):
        raise RuntimeError("left open")
def test_it():
    gc.disable()
    careless = Careless()
    careless.itself = careless
    del careless
    assert False
""",
    "is alone with its files": """
def test_it(tmp_path):
    assert "mutants-" in str(tmp_path)
""",
    "draws what no line of code can change": """
from hypothesis import given, settings, strategies
from superezio.quantities import ODD
@settings(max_examples=500)
@given(strategies.integers(ODD - 2**32, ODD + 2**32))
def test_it(number):
    assert number != ODD
""",
}


def mutant(name: str) -> Mutant:
    return Mutant(name, "superezio.quantities", LINE, f"{LINE}ODD = 0x5EED_C0FFEE  # {name}\n")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mutants]:
    folder = tmp_path_factory.mktemp("judges")
    judges = {}
    for number, (name, text) in enumerate(RUNS.items()):
        judge = folder / f"test_{number}.py"
        judge.write_text(text)
        judges[mutant(name)] = [judge]
    with Mutants(judges) as running:
        yield running


@pytest.mark.parametrize("name", ["is noticed", "is noticed by a test that leaves garbage"])
def test_a_mutant_is_killed_by_a_test_that_fails(runs: Mutants, name: str) -> None:
    runs.assert_killed(mutant(name))


def test_a_mutant_that_survives_is_named(runs: Mutants) -> None:
    with pytest.raises(AssertionError, match="nothing noticed: is not noticed"):
        runs.assert_killed(mutant("is not noticed"))


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("kills the run", r"ended by signal 9 \(Killed\): kills the run"),
        ("cannot be imported", r"ended with status 2 \(interrupted\): (?s:.*)nothing_of_this_name"),
    ],
)
def test_a_run_that_comes_to_grief_kills_no_mutant(runs: Mutants, name: str, end: str) -> None:
    """What happened is told: how the run ended, and what it printed last."""
    with pytest.raises(AssertionError, match=f"no test of it failed, its run {end}"):
        runs.assert_killed(mutant(name))


def test_a_control_passes_or_says_what_failed(runs: Mutants) -> None:
    runs.assert_passes(mutant("is not noticed"))
    with pytest.raises(AssertionError, match=r"ended with status 1 \(tests failed\): is noticed"):
        runs.assert_passes(mutant("is noticed"))


def test_each_run_has_its_temporary_files_for_itself(runs: Mutants) -> None:
    runs.assert_passes(mutant("is alone with its files"))


def test_what_is_drawn_does_not_hang_on_the_constants_of_the_code(runs: Mutants) -> None:
    """Hypothesis tries them: a line of code anywhere would change what it tries beside them."""
    runs.assert_passes(mutant("draws what no line of code can change"))


def test_a_mutant_whose_place_has_moved_is_noticed() -> None:
    with pytest.raises(AssertionError, match="0 times"):
        Mutant("gone", "superezio.quantities", "no such text", "").source()
