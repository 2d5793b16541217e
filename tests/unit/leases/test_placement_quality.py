"""The bench of placement in short: on the kept trace our best_fit is no worse than the others.

Virtual time, the real ledger, queue and placement; the judge is the host's own sums.
"""

from __future__ import annotations

import pytest

from bench.host import Figures
from bench.placement import CHOICES, LOAD, SEED, compare
from bench.trace import HOSTS, trace

TWO, EIGHT = HOSTS.values()


@pytest.fixture(scope="module")
def played() -> dict[str, Figures]:
    return dict(compare(EIGHT, trace(EIGHT, jobs=800, load=LOAD, seed=SEED)))


def test_every_job_was_served_or_refused_by_every_choice(played: dict[str, Figures]) -> None:
    assert set(played) == set(CHOICES)
    for figures in played.values():
        assert len(figures.waits_s) + figures.refused == 800
        assert figures.refused < 100
        assert 0.3 < figures.utilisation < 1


def test_no_choice_ever_exceeds_a_gpu(played: dict[str, Figures]) -> None:
    assert {name: figures.exceeded for name, figures in played.items()} == dict.fromkeys(played, 0)
    on_two = compare(TWO, trace(TWO, jobs=300, load=1.5, seed=SEED))
    assert [figures.exceeded for _, figures in on_two] == [0] * len(CHOICES)


@pytest.mark.parametrize("other", ["first-fit", "most-free", "round-robin"])
def test_best_fit_refuses_and_waits_no_more_than(other: str, played: dict[str, Figures]) -> None:
    ours, theirs = played["best_fit"], played[other]
    assert ours.refused <= theirs.refused
    assert ours.mean_wait_s <= theirs.mean_wait_s


def test_a_trace_is_the_same_each_time() -> None:
    jobs = trace(TWO, jobs=50, load=LOAD, seed=SEED)
    assert jobs == trace(TWO, jobs=50, load=LOAD, seed=SEED)
    assert jobs != trace(TWO, jobs=50, load=LOAD, seed=SEED + 1)
    first, again = (dict(compare(TWO, jobs))["spread"] for _ in range(2))
    assert first == again
