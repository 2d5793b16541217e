"""The table of checks: what each condition of the host looks like to a person."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from superezio.wire import Health, Verdict
from supereziod.gpu.hardware import Cooling, Fault
from supereziod.health.checks import declared_checks
from unit.health.host import NO_DRIVER, Host, codes, mig_view


def look(host: Host, *, after_s: float = 0.0, **looks: Any) -> Health:
    """What health says once the present condition has stood for `after_s`."""
    health = host.health(**looks)
    health.evaluate()
    host.clock.advance(after_s)
    return health.evaluate()


def test_two_good_gpus_are_healthy(host: Host) -> None:
    health = look(host, after_s=100)
    assert (health.verdict, health.reasons) == ("healthy", [])


@pytest.mark.parametrize("kind", ["no_library", "no_driver", "version_mismatch", "no_permission"])
def test_a_driver_that_is_not_there_is_degraded_with_what_to_do(host: Host, kind: Any) -> None:
    fault = Fault(kind=kind, message="cannot load it")
    host.set(driver=None, driver_fault=fault, gpus=())
    health = look(host, after_s=3600)
    assert health.verdict == "degraded"
    (reason,) = health.reasons
    assert (reason.check, reason.message) == ("driver", "cannot load it")
    other = Fault(kind="unknown", message="")
    host.set(driver_fault=other)
    assert reason.action != look(host).reasons[0].action


def test_a_driver_that_is_down_hides_what_follows_from_it(host: Host) -> None:
    host.set(driver=None, driver_fault=NO_DRIVER)
    host.set_gpu(0, status="unknown", level="unknown", temperature=None)
    host.set_gpu(1, status="lost", level="unknown", temperature=None)
    health = look(host, after_s=60, probe_faults=lambda: ["no probe answers"])
    assert codes(health) == ["driver"]
    hidden = {each.check: each.hidden_by for each in health.checks if each.hidden_by}
    assert hidden == {"probe": "driver", "gpu_lost": "driver", "gpu_unknown": "driver"}


def test_a_hung_gpu_is_named_and_the_other_is_not(host: Host) -> None:
    host.set_gpu(1, status="unknown", status_reason="a call has not returned for 60 s")
    health = look(host)
    assert health.verdict == "degraded"
    (reason,) = health.reasons
    assert reason.check == "gpu_unknown"
    assert reason.gpu == "GPU-1"
    assert reason.message == (
        "GPU 1 (NVIDIA GeForce RTX 2060) does not answer: a call has not returned for 60 s"
    )


def test_a_gpu_without_a_temperature_is_unknown(host: Host) -> None:
    host.set_gpu(0, level="unknown", temperature=None)
    assert "without a temperature" in look(host).reasons[0].message
    host.set_gpu(0, level="unknown", temperature=50)
    assert "margin" in look(host).reasons[0].message


def test_a_lost_gpu_hides_that_it_is_unknown_or_in_quarantine(host: Host) -> None:
    host.set_gpu(0, status="lost", level="unknown", fitness="quarantined", temperature=None)
    assert codes(look(host)) == ["gpu_lost:0"]


@pytest.mark.parametrize(
    ("changes", "code", "verdict"),
    [
        ({"level": "warm"}, "gpu_warm:0", "healthy"),
        ({"level": "hot"}, "gpu_hot:0", "degraded"),
        ({"level": "critical"}, "gpu_critical:0", "degraded"),
        ({"fitness": "suspect"}, "gpu_suspect:0", "healthy"),
        ({"fitness": "probation"}, "gpu_probation:0", "healthy"),
        ({"fitness": "quarantined"}, "gpu_quarantined:0", "degraded"),
        ({"cordoned": True}, "gpu_cordoned:0", "healthy"),
        ({"cordoned": True, "cordon_reason": "fan"}, "gpu_cordoned:0", "healthy"),
    ],
)
def test_the_state_of_a_gpu_shows(
    host: Host, changes: dict[str, Any], code: str, verdict: Verdict
) -> None:
    host.set_gpu(0, **changes)
    health = look(host)
    assert (codes(health), health.verdict) == ([code], verdict)


def test_a_critical_gpu_is_degraded_in_its_grace_and_unhealthy_past_it(host: Host) -> None:
    host.overheat()
    health = host.health()
    assert health.evaluate().verdict == "degraded"
    host.clock.advance(29)
    assert health.evaluate().verdict == "degraded"
    host.clock.advance(1)
    (reason,) = health.evaluate().reasons
    assert health.verdict == "unhealthy"
    assert "CRITICAL at 95 C, margin -2 C" in reason.message


def test_a_gpu_that_is_cool_again_says_for_how_long_its_level_stands(host: Host) -> None:
    cooling = Cooling(peak_c=95, cool_s=40.0, left_s=80.0, closed_s=140.0)
    host.set_gpu(0, level="critical", temperature=32, cooling=cooling)
    (reason,) = look(host).reasons
    assert reason.message.endswith(
        "is CRITICAL at 32 C, margin 61 C: it was at 95 C, has been cool for 40 s, and is CRITICAL"
        " for 80 s more"
    )
    unseen = replace(cooling, peak_c=None, cool_s=0.0)
    host.set_gpu(0, level="hot", temperature=28, cooling=unseen)
    (reason,) = look(host).reasons
    assert reason.message.endswith("C: it has been cool for 0 s, and is HOT for 80 s more")


def test_a_gpu_that_nobody_watches_is_not_judged_by_its_last_temperature(host: Host) -> None:
    host.set(attached=False)
    host.set_gpu(0, status="detached", level="critical", temperature=95)
    health = look(host, after_s=100)
    assert (codes(health), health.verdict) == (["probe_detached"], "degraded")


def test_a_level_without_a_reading_still_shows(host: Host) -> None:
    host.set_gpu(0, level="hot", sample=None)
    assert look(host).reasons[0].message.endswith("is HOT")
    host.set_gpu(0, level="unknown", sample=None)
    assert codes(look(host)) == ["gpu_unknown:0"]


def test_a_margin_that_the_card_does_not_give_is_left_out(host: Host) -> None:
    host.set_gpu(0, level="hot", temperature=90)
    (gpu, other) = host.snapshot.gpus
    assert gpu.sample is not None
    sample = replace(gpu.sample, margin_c=None)
    host.set(gpus=(replace(gpu, sample=sample), other))
    assert look(host).reasons[0].message.endswith("is HOT at 90 C")


def test_a_host_that_is_starting_is_not_accused_of_having_no_gpus(host: Host) -> None:
    host.set(ready=False, driver=None, gpus=())
    assert codes(look(host, after_s=5)) == ["starting"]


def test_a_driver_that_knows_no_gpu_is_degraded(host: Host) -> None:
    host.set(gpus=())
    assert codes(look(host)) == []
    assert codes(look(host, after_s=3)) == ["no_gpus"]


@pytest.mark.parametrize(
    ("looks", "code", "verdict"),
    [
        ({"probe_faults": lambda: ["a probe cannot be ended"]}, "probe", "degraded"),
        ({"overcommitted": lambda: {"GPU-1": "pid 7 grew"}}, "gpu_overcommitted:1", "degraded"),
        ({"unreturned": lambda: {"GPU-0": "2 GiB"}}, "vram_unreturned:0", "degraded"),
        ({"state_faults": lambda: ["disk full"]}, "state_not_writable", "degraded"),
        ({"unkept": lambda: ["disk full"]}, "state_not_kept", "degraded"),
        ({"log_drops": lambda: "9 lines lost"}, "log_drops", "degraded"),
        ({"log_waits": lambda: (9, 2.5)}, "logging", "degraded"),
        ({"loop_lag_s": lambda: 1.1}, "loop_lag", "degraded"),
        ({"self_check": lambda: "refused"}, "self_check", "degraded"),
        ({"connections": lambda: "4096 of 4096"}, "connections", "degraded"),
        ({"configuration": lambda: "line 3"}, "configuration", "degraded"),
    ],
)
def test_what_a_restart_does_not_cure_is_degraded_however_long(
    host: Host, looks: dict[str, Any], code: str, verdict: Verdict
) -> None:
    health = look(host, after_s=100_000, **looks)
    assert (codes(health), health.verdict) == ([code], verdict)
    assert all(each.action for each in health.reasons)


def test_a_low_limit_of_open_files_is_told_and_degrades_nothing(host: Host) -> None:
    health = look(host, after_s=100_000, open_files=lambda: "the limit of open files is 1,024")
    assert (codes(health), health.verdict) == (["open_files"], "healthy")
    assert "LimitNOFILE" in (health.reasons[0].action or "")


def test_a_full_table_explains_a_self_check_that_is_refused(host: Host) -> None:
    health = look(host, self_check=lambda: "refused", connections=lambda: "4096 of 4096")
    assert codes(health) == ["connections"]


def test_a_loop_that_is_a_little_late_is_fine(host: Host) -> None:
    assert codes(look(host, loop_lag_s=lambda: 0.9)) == []


def test_only_a_critical_gpu_can_ever_be_unhealthy(host: Host) -> None:
    lethal = [each.code for each in declared_checks(host.observed()) if each.unhealthy_after_s]
    assert lethal == ["gpu_critical"]
    assert all(each.severity != "critical" for each in declared_checks(host.observed()))


# --- MIG ----------------------------------------------------------------------------------------


def cut(host: Host, **changes: Any) -> None:
    """Have MIG cut GPU 0 into two instances, the first of which is so."""
    whole, other = host.snapshot.gpus
    first, second = (mig_view(whole, 0, **changes), mig_view(whole, 1))
    host.set(gpus=(whole, first, second, other))


@pytest.mark.parametrize(("status", "code"), [("lost", "mig_lost"), ("unknown", "mig_unreadable")])
def test_an_instance_in_trouble_is_degraded_with_what_to_do(
    host: Host, status: str, code: str
) -> None:
    cut(host, status=status, status_reason="it is so")
    (reason,) = look(host, after_s=60).reasons
    assert (reason.check, reason.gpu) == (code, "MIG-0-0")
    assert reason.message.startswith("GPU 0:0 (NVIDIA GeForce RTX 3060)")
    assert reason.message.endswith("it is so")


def test_what_ails_a_gpu_is_told_once_and_not_of_each_instance(host: Host) -> None:
    host.set_gpu(0, status="lost", level="critical")
    cut(host, status="lost", level="critical")
    assert codes(look(host, after_s=60)) == ["gpu_lost:0"]


def test_a_cordoned_instance_is_named(host: Host) -> None:
    cut(host, cordoned=True, cordon_reason="for the class")
    (reason,) = look(host, after_s=60).reasons
    assert (reason.check, reason.gpu) == ("gpu_cordoned", "MIG-0-0")
