"""Fitness: what condemns a GPU, what does not, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superezio.wire import FitnessState
from supereziod.gpu.fitness import (
    APPLICATION_XIDS,
    FATAL_XIDS,
    Fitness,
    FitnessChange,
    FitnessRecord,
    FitnessRules,
)

SECOND = 1_000_000_000
MINUTE = 60
BOOT = "b0"


class Bench:
    """A GPU's fitness and a clock that the test turns; one good sample every ten seconds."""

    def __init__(self, rules: FitnessRules | None = None) -> None:
        self.rules = rules
        self.fitness = Fitness(rules=rules)
        self.now_s = 1000.0

    @property
    def now_ns(self) -> int:
        return round(self.now_s * SECOND)

    @property
    def state(self) -> FitnessState:
        return self.fitness.state

    def good(self, seconds: float = 0.0) -> FitnessState:
        """Good samples for so long; the first is now."""
        self.fitness.observe_good(self.now_ns)
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s = min(end_s, self.now_s + 10)
            self.fitness.observe_good(self.now_ns)
        return self.state

    def xid(self, number: int) -> FitnessChange | None:
        return self.fitness.observe_xid(number, self.now_ns)

    def condemn(self) -> FitnessChange:
        change = self.xid(79)
        assert change is not None
        assert change.state == "quarantined"
        return change

    def restart(self, *, down_s: float = 5, boot: str = BOOT, uptime_s: float = 7) -> None:
        record = self.fitness.dump(self.now_ns, boot_id=BOOT)
        # The monotonic clock starts anew with a boot.
        self.now_s = self.now_s + down_s if boot == BOOT else uptime_s
        self.fitness = Fitness(rules=self.rules)
        self.fitness.load(record, self.now_ns, boot_id=boot)


def test_a_gpu_is_healthy_until_something_happens() -> None:
    bench = Bench()
    assert bench.good(60 * MINUTE) == "healthy"


@pytest.mark.parametrize("number", sorted(APPLICATION_XIDS))
def test_application_level_xids_do_not_condemn_a_gpu(number: int) -> None:
    bench = Bench()
    for _ in range(10):
        assert bench.xid(number) is None
    assert bench.state == "healthy"


def test_the_application_level_xids_are_those_of_the_rule() -> None:
    assert frozenset({13, 31, 43, 45, 68}) == APPLICATION_XIDS
    assert {48, 79} <= FATAL_XIDS
    assert not APPLICATION_XIDS & FATAL_XIDS


def test_the_list_of_ignored_xids_is_configurable_and_wins() -> None:
    bench = Bench(FitnessRules(ignored_xids=frozenset({79})))
    assert bench.xid(79) is None
    assert bench.xid(13) is not None


@pytest.mark.parametrize("number", sorted(FATAL_XIDS))
def test_a_fatal_xid_quarantines_at_once(number: int) -> None:
    change = Bench().xid(number)
    assert change is not None
    assert (change.previous, change.state) == ("healthy", "quarantined")
    assert str(number) in change.reason
    assert change.quarantine_s == 600


def test_one_transient_xid_makes_a_suspect_that_is_cleared_when_clean() -> None:
    bench = Bench()
    change = bench.xid(63)
    assert change is not None
    assert (change.state, change.quarantine_s) == ("suspect", None)
    assert bench.good(10 * MINUTE - 1) == "suspect"
    assert bench.good(1) == "healthy"


def test_several_suspects_in_a_window_quarantine() -> None:
    bench = Bench()
    bench.xid(63)
    bench.good(4 * MINUTE)
    bench.xid(999)
    bench.good(4 * MINUTE)
    assert bench.state == "suspect"
    change = bench.xid(94)
    assert change is not None
    assert change.state == "quarantined"


def test_suspects_further_apart_than_the_window_do_not_add_up() -> None:
    bench = Bench()
    for _ in range(6):
        bench.xid(63)
        bench.good(6 * MINUTE)
    assert bench.state == "suspect"


def test_samples_missed_in_a_row_are_one_suspicion() -> None:
    bench = Bench()
    bench.good()
    for _ in range(60):
        bench.now_s += 1
        bench.fitness.observe_missed(bench.now_ns)
    assert bench.state == "suspect"


def test_a_gpu_that_keeps_hanging_is_quarantined() -> None:
    bench = Bench()
    for _ in range(3):
        bench.good(10)
        bench.fitness.observe_missed(bench.now_ns)
    assert bench.state == "quarantined"


def test_a_hang_is_not_clean_time() -> None:
    bench = Bench()
    bench.fitness.observe_missed(bench.now_ns)
    bench.now_s += 20 * MINUTE
    assert bench.good() == "suspect"
    assert bench.good(10 * MINUTE) == "healthy"


def test_a_lost_gpu_is_quarantined_once() -> None:
    bench = Bench()
    change = bench.fitness.observe_lost(bench.now_ns)
    assert change is not None
    assert change.state == "quarantined"
    for _ in range(100):
        bench.now_s += 1
        assert bench.fitness.observe_lost(bench.now_ns) is None
        assert bench.fitness.observe_missed(bench.now_ns) is None
    assert bench.good(10 * MINUTE) == "probation"


def test_growing_uncorrected_memory_errors_are_a_suspicion() -> None:
    bench = Bench()
    observe = bench.fitness.observe_ecc
    assert observe(None, bench.now_ns) is None
    assert observe(7, bench.now_ns) is None  # from before the daemon
    assert observe(7, bench.now_ns) is None
    change = observe(9, bench.now_ns)
    assert change is not None
    assert change.state == "suspect"
    assert "2 uncorrected" in change.reason
    assert observe(0, bench.now_ns) is None  # the counter was reset
    assert observe(None, bench.now_ns) is None


def test_a_quarantine_ends_in_probation_after_ten_clean_minutes_and_then_in_health() -> None:
    bench = Bench()
    bench.condemn()
    assert bench.good(10 * MINUTE - 1) == "quarantined"
    assert bench.good(1) == "probation"
    assert bench.good(10 * MINUTE - 1) == "probation"
    assert bench.good(1) == "healthy"
    assert bench.fitness.reason == ""


def test_a_quarantine_does_not_end_while_the_gpu_does_not_answer() -> None:
    bench = Bench()
    bench.condemn()
    bench.now_s += 60 * MINUTE
    assert bench.good() == "quarantined"


def test_time_that_nobody_watched_is_not_clean() -> None:
    bench = Bench()
    bench.condemn()
    bench.good(9 * MINUTE)
    bench.now_s += 60 * MINUTE
    assert bench.good() == "quarantined"
    assert bench.good(MINUTE) == "probation"


def test_a_fault_during_quarantine_starts_its_clean_time_again_and_does_not_double_it() -> None:
    bench = Bench()
    bench.condemn()
    bench.good(9 * MINUTE)
    assert bench.xid(79) is None
    assert bench.good(9 * MINUTE) == "quarantined"
    assert bench.xid(63) is None
    assert bench.good(10 * MINUTE - 1) == "quarantined"
    assert bench.good(1) == "probation"


def test_an_application_level_xid_does_not_interrupt_clean_time() -> None:
    bench = Bench()
    bench.condemn()
    bench.good(5 * MINUTE)
    bench.xid(13)
    assert bench.good(5 * MINUTE) == "probation"


def test_one_transient_fault_on_probation_is_a_relapse() -> None:
    bench = Bench()
    bench.condemn()
    bench.good(10 * MINUTE)
    change = bench.xid(63)
    assert change is not None
    assert (change.previous, change.state) == ("probation", "quarantined")


def test_the_quarantine_doubles_per_relapse_up_to_its_limit() -> None:
    bench = Bench(FitnessRules(quarantine_limit_s=2400.0))
    lengths = []
    for _ in range(4):
        change = bench.condemn()
        assert change.quarantine_s is not None
        lengths.append(change.quarantine_s)
        assert bench.good(change.quarantine_s - 1) == "quarantined"
        assert bench.good(1) == "probation"
    assert lengths == [600, 1200, 2400, 2400]


def test_a_relapse_is_forgotten_when_clean_for_long_enough() -> None:
    bench = Bench()
    bench.condemn()
    bench.good(20 * MINUTE)
    assert bench.state == "healthy"
    assert bench.fitness.quarantine_s == 1200
    bench.good(60 * MINUTE - 1)
    assert bench.fitness.quarantine_s == 1200
    bench.good(1)
    assert bench.fitness.quarantine_s == 600
    assert bench.condemn().quarantine_s == 600


def test_a_thousand_relapses_do_not_overflow() -> None:
    bench = Bench(FitnessRules(quarantine_s=1.0, quarantine_limit_s=1.0))
    for _ in range(1100):
        bench.condemn()
        bench.good(1)
    assert bench.fitness.quarantine_s == 1.0


@pytest.mark.parametrize("boot", [BOOT, "another"])
def test_a_quarantine_outlives_a_restart_and_a_reboot(boot: str) -> None:
    bench = Bench()
    bench.condemn()
    bench.good(6 * MINUTE)
    bench.restart(boot=boot)
    assert bench.state == "quarantined"
    assert "79" in bench.fitness.reason
    assert bench.good(4 * MINUTE - 1) == "quarantined"
    assert bench.good(1) == "probation"
    assert bench.condemn().quarantine_s == 1200


def test_time_in_which_the_daemon_was_down_is_not_clean() -> None:
    bench = Bench()
    bench.condemn()
    bench.good(MINUTE)
    bench.restart(down_s=24 * 60 * MINUTE)
    assert bench.good(9 * MINUTE - 1) == "quarantined"
    assert bench.good(1) == "probation"


@pytest.mark.parametrize(
    ("down_s", "boot", "state"),
    [(5, BOOT, "quarantined"), (11 * MINUTE, BOOT, "suspect"), (5, "another", "quarantined")],
)
def test_suspicions_grow_old_over_a_restart_only_where_the_time_is_known(
    down_s: float, boot: str, state: FitnessState
) -> None:
    bench = Bench()
    bench.xid(63)
    bench.xid(63)
    bench.restart(down_s=down_s, boot=boot)
    bench.xid(63)
    assert bench.state == state


def test_the_clock_of_another_boot_says_nothing_of_how_old_a_suspicion_is() -> None:
    bench = Bench()
    bench.xid(63)
    bench.xid(63)
    bench.restart(boot="another", uptime_s=100_000)
    bench.xid(63)
    assert bench.state == "quarantined"


def test_a_record_from_a_clock_ahead_of_this_one_is_not_of_the_future() -> None:
    record = FitnessRecord(
        state="suspect",
        reason="XID 63",
        quarantines=-1,
        clean_s=-5.0,
        suspect_ages_s=(-10.0,),
        boot_id=BOOT,
        at_ns=10**15,
    )
    bench = Bench()
    bench.fitness.load(record, bench.now_ns, boot_id=BOOT)
    assert bench.good(10 * MINUTE) == "healthy"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("good"), st.sampled_from([1.0, 30.0, 300.0, 599.0, 600.0, 601.0])),
        st.tuples(st.just("away"), st.sampled_from([61.0, 700.0, 90_000.0])),
        st.tuples(st.just("xid"), st.sampled_from([13.0, 31.0, 63.0, 79.0, 48.0, 999.0])),
        st.tuples(st.just("missed"), st.just(0.0)),
        st.tuples(st.just("lost"), st.just(0.0)),
        st.tuples(st.just("restart"), st.sampled_from([5.0, 3600.0])),
        st.tuples(st.just("reboot"), st.just(0.0)),
    ),
    max_size=30,
)


class Model:
    """The rule read aloud, with the whole history kept as (kind, clean seconds) facts."""

    def __init__(self) -> None:
        self.state: FitnessState = "healthy"
        self.level = 0  # how often the next quarantine is doubled
        self.length_s = 0.0
        self.clean_s = 0.0
        self.suspicions: list[float] = []  # ages in seconds
        self.silent = False

    def pass_by(self, seconds: float, *, watched: bool) -> None:
        self.suspicions = [age + seconds for age in self.suspicions]
        if not watched:
            return
        self.clean_s += seconds
        if self.state == "quarantined" and self.clean_s >= self.length_s:
            self.state, self.clean_s = "probation", 0.0
        elif (self.state == "probation" and self.clean_s >= 600) or (
            self.state == "suspect" and self.clean_s >= 600
        ):
            self.state, self.clean_s = "healthy", 0.0
        elif self.state == "healthy" and self.level and self.clean_s >= 3600:
            self.level, self.clean_s = self.level - 1, 0.0

    def fault(self, *, fatal: bool) -> None:
        self.clean_s = 0.0
        if not fatal:
            self.suspicions = [age for age in self.suspicions if age < 600] + [0.0]
        if self.state == "quarantined":
            return
        if fatal or self.state == "probation" or len(self.suspicions) >= 3:
            self.state = "quarantined"
            self.length_s = min(600.0 * 2**self.level, 86_400.0)
            self.level += 1
            self.suspicions = []
        else:
            self.state = "suspect"


@given(steps=STEPS)
@settings(max_examples=100, deadline=None)
def test_fitness_is_the_rule(steps: list[tuple[str, float]]) -> None:
    """Whatever comes, the state is what a naive reading of the rule says."""
    bench, model = Bench(), Model()
    for step, value in steps:
        match step:
            case "good":
                watch(bench, model, value)
            case "away":
                bench.now_s += value
                model.pass_by(value, watched=False)
            case "xid":
                bench.xid(int(value))
                if value not in {13, 31}:
                    model.fault(fatal=value in {48, 79})
            case "missed":
                bench.fitness.observe_missed(bench.now_ns)
                model.clean_s = 0.0
                if not model.silent:
                    model.fault(fatal=False)
                model.silent = True
            case "lost":
                bench.fitness.observe_lost(bench.now_ns)
                model.fault(fatal=True)
                model.silent = True
            case "restart":
                bench.restart(down_s=value)
                model.pass_by(value, watched=False)
                model.silent = False
            case _:
                bench.restart(boot="another")
                model.silent = False
        assert bench.state == model.state


def watch(bench: Bench, model: Model, seconds: float) -> None:
    """Good samples after a pause that nobody watched, so that clean time starts here."""
    bench.now_s += 61
    model.pass_by(61, watched=False)
    bench.good()
    model.pass_by(0, watched=True)
    model.silent = False
    end_s = bench.now_s + seconds
    while bench.now_s < end_s:
        pause_s = min(10.0, end_s - bench.now_s)
        bench.now_s += pause_s
        bench.fitness.observe_good(bench.now_ns)
        model.pass_by(pause_s, watched=True)
