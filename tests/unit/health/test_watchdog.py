"""The watchdog, seen from systemd's end of a real notify socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from supereziod.health.notifier import Notifier
from supereziod.health.record import WatchdogRecord
from supereziod.storage import Database, Documents
from unit.health.host import NO_DRIVER, Host, Systemd

GRACE_S = 30


@pytest.fixture
def notifier(systemd: Systemd) -> Iterator[Notifier]:
    assert systemd.messages() == []
    notifier = Notifier(environ=systemd.environ)
    yield notifier
    notifier.close()


async def test_a_healthy_daemon_pings(host: Host, notifier: Notifier, systemd: Systemd) -> None:
    watchdog = host.watchdog(notifier)
    for _ in range(3):
        await watchdog.beat()
        assert systemd.pings() == 1


async def test_pings_go_out_at_a_third_of_the_time_systemd_allows(
    host: Host, notifier: Notifier, systemd: Systemd
) -> None:
    watchdog = host.watchdog(notifier, timeout_s=30.0)
    await watchdog.start()
    assert await host.metronome.resting() == 10.0
    assert systemd.pings() == 1
    await host.metronome.turn()
    assert systemd.pings() == 1
    await watchdog.aclose()
    await watchdog.aclose()


async def test_a_late_beat_does_not_push_the_next_ones_back(
    host: Host, notifier: Notifier, systemd: Systemd
) -> None:
    watchdog = host.watchdog(notifier)
    await watchdog.start()
    assert await host.metronome.turn(late_s=4.0) == 6.0
    assert await host.metronome.turn() == 10.0
    assert await host.metronome.turn(late_s=25.0) == 0.0
    assert systemd.pings() == 4
    await watchdog.aclose()


async def test_a_critical_gpu_is_pinged_for_in_its_grace_and_not_past_it(
    host: Host, notifier: Notifier, systemd: Systemd
) -> None:
    watchdog = host.watchdog(notifier)
    host.overheat()
    await watchdog.beat()
    host.clock.advance(GRACE_S - 1)
    await watchdog.beat()
    assert systemd.pings() == 2
    assert watchdog.withheld is None
    host.clock.advance(1)
    await watchdog.beat()
    await watchdog.beat()
    assert systemd.pings() == 0


async def test_withholding_is_never_silent(
    host: Host, notifier: Notifier, systemd: Systemd
) -> None:
    """The reason is stored before it is told, then STATUS= and a critical event say it."""
    health = host.health()
    watchdog = host.watchdog(notifier, health=health)
    stored: list[bytes | None] = []
    host.events.listen(lambda _: stored.append(host.documents.get("watchdog")))
    await overheat_past_grace(host, watchdog.beat)
    event = host.told[-1]
    assert (event.type, event.severity, event.gpu) == ("watchdog.withheld", "critical", "GPU-0")
    assert event.data == {"kind": "overheat", "temperature_c": 95, "stored": True}
    assert stored[-1] is not None
    assert b'"kind":"overheat"' in stored[-1]
    status = systemd.messages()[-1]
    assert status.startswith("STATUS=watchdog pings withheld (overheat) | unhealthy: GPU 0")
    assert health.evaluate().watchdog_withheld
    reason = watchdog.withheld
    assert reason is not None
    assert (reason.boot_id, reason.gpu, reason.temperature_c) == ("boot-1", "GPU-0", 95)
    assert reason.time == "2026-11-22T12:00:00.000+00:00"


async def test_withholding_is_told_once_while_it_lasts(host: Host, notifier: Notifier) -> None:
    watchdog = host.watchdog(notifier)
    await overheat_past_grace(host, watchdog.beat)
    for _ in range(5):
        await watchdog.beat()
    assert host.types().count("watchdog.withheld") == 1


async def test_pings_resume_when_the_verdict_is_back(
    host: Host, notifier: Notifier, systemd: Systemd
) -> None:
    health = host.health()
    watchdog = host.watchdog(notifier, health=health)
    await overheat_past_grace(host, watchdog.beat)
    systemd.messages()
    host.set_gpu(0, level="hot", temperature=84)
    await watchdog.beat()
    messages = systemd.messages()
    assert "WATCHDOG=1" in messages
    assert messages[-1].startswith("STATUS=degraded: GPU 0")
    assert host.told[-1].type == "watchdog.resumed"
    assert not health.evaluate().watchdog_withheld
    assert host.record.current is None
    assert WatchdogRecord(host.documents).last is None


async def test_a_second_gpu_that_overheats_is_told_too(host: Host, notifier: Notifier) -> None:
    watchdog = host.watchdog(notifier)
    await overheat_past_grace(host, watchdog.beat)
    host.set_gpu(0)
    host.overheat(1)
    await watchdog.beat()
    host.clock.advance(GRACE_S)
    await watchdog.beat()
    told = [(event.type, event.gpu) for event in host.told if event.type.startswith("watchdog.")]
    assert told == [
        ("watchdog.withheld", "GPU-0"),
        ("watchdog.resumed", "GPU-0"),
        ("watchdog.withheld", "GPU-1"),
    ]


async def test_report_never_withholds_for_temperature(
    host: Host, notifier: Notifier, systemd: Systemd
) -> None:
    health = host.health()
    watchdog = host.watchdog(notifier, health=health, on_overheat="report")
    await overheat_past_grace(host, watchdog.beat)
    assert health.verdict == "unhealthy"
    assert systemd.pings() == 2
    assert "watchdog.withheld" not in host.types()


@pytest.mark.parametrize("fault", ["hang", "no_driver", "lost", "quarantined", "disk"])
async def test_what_a_restart_does_not_cure_never_withholds_a_ping(
    host: Host, notifier: Notifier, systemd: Systemd, fault: str
) -> None:
    health = host.health(state_faults=lambda: ["disk full"] if fault == "disk" else [])
    watchdog = host.watchdog(notifier, health=health)
    match fault:
        case "hang":
            host.set_gpu(0, status="unknown", level="unknown", temperature=None)
        case "no_driver":
            host.set(driver=None, driver_fault=NO_DRIVER)
        case "lost":
            host.set_gpu(0, status="lost", level="unknown", temperature=None)
        case "quarantined":
            host.set_gpu(0, fitness="quarantined")
    for _ in range(100):
        await watchdog.beat()
        assert systemd.pings() == 1
        host.clock.advance(60)
    assert health.verdict == "degraded"


async def test_a_daemon_that_does_not_answer_itself_is_stuck(
    host: Host, notifier: Notifier, systemd: Systemd
) -> None:
    silent = True

    async def call() -> None:
        if silent:
            raise TimeoutError

    watchdog = host.watchdog(notifier, call=call)
    await watchdog.beat()
    await watchdog.beat()
    assert systemd.pings() == 2
    await watchdog.beat()
    assert systemd.pings() == 0
    assert watchdog.withheld is not None
    assert (watchdog.withheld.kind, watchdog.withheld.gpu) == ("stuck", None)
    silent = False
    await watchdog.beat()
    assert systemd.pings() == 1
    assert host.types() == ["watchdog.withheld", "watchdog.resumed"]


async def test_a_full_connection_table_causes_no_restart(
    host: Host, notifier: Notifier, systemd: Systemd
) -> None:
    async def call() -> None:
        raise ConnectionRefusedError("too many connections")

    watchdog = host.watchdog(notifier, call=call)
    for _ in range(50):
        await watchdog.beat()
        assert systemd.pings() == 1


async def test_a_reason_that_cannot_be_stored_still_withholds_and_says_so(
    tmp_path: Path, notifier: Notifier, systemd: Systemd
) -> None:
    host = Host(tmp_path)
    host.close()
    blocked = tmp_path / "blocked"
    blocked.touch()
    host.database = Database.open(blocked / "state.db", schema=Documents.SCHEMA)
    host.record = WatchdogRecord(Documents(host.database))
    watchdog = host.watchdog(notifier)
    with capture_logs() as logs:
        await overheat_past_grace(host, watchdog.beat)
        await watchdog.beat()
    assert systemd.pings() == 1
    assert host.told[-1].data["stored"] is False
    assert [each["event"] for each in logs].count("watchdog.record_not_stored") == 1
    host.close()


async def test_the_next_start_knows_and_tells_why_the_last_run_ended(
    host: Host, notifier: Notifier
) -> None:
    await overheat_past_grace(host, host.watchdog(notifier).beat)
    host.record = WatchdogRecord(host.documents)  # a new process reads the file again
    host.set_gpu(0)
    health = host.health()
    watchdog = host.watchdog(notifier, health=health)
    host.told.clear()
    await watchdog.start()
    await host.metronome.resting()
    assert host.told[0].type == "watchdog.restarted"
    assert host.told[0].gpu == "GPU-0"
    assert watchdog.last_reason is not None
    assert watchdog.last_reason.kind == "overheat"
    (reason,) = health.evaluate().reasons
    assert (reason.check, reason.severity) == ("watchdog_restarted", "info")
    then = watchdog.last_reason
    said = f"the watchdog ended an earlier run, which had said at {then.time}: GPU 0 "
    assert reason.message.startswith(said), "not as if it were so now"
    assert reason.message.endswith(then.message)
    assert health.verdict == "healthy"
    await watchdog.aclose()


async def test_that_the_watchdog_acted_is_told_at_the_first_start_and_shown_at_each(
    host: Host, notifier: Notifier
) -> None:
    await overheat_past_grace(host, host.watchdog(notifier).beat)
    host.set_gpu(0)
    told = []
    for _ in range(3):
        host.record = WatchdogRecord(host.documents)
        watchdog = host.watchdog(notifier)
        host.told.clear()
        await watchdog.start()
        await host.metronome.resting()
        await watchdog.aclose()
        told.append(host.types().count("watchdog.restarted"))
        (reason,) = host.health().evaluate().reasons
        assert reason.check == "watchdog_restarted"
    assert told == [1, 0, 0]


async def test_why_the_last_run_ended_is_forgotten_after_a_good_quarter_of_an_hour(
    host: Host, notifier: Notifier
) -> None:
    await overheat_past_grace(host, host.watchdog(notifier).beat)
    host.record = WatchdogRecord(host.documents)
    watchdog = host.watchdog(notifier)
    await overheat_past_grace(host, watchdog.beat)
    host.set_gpu(0)
    await watchdog.beat()
    host.clock.advance(899)
    await watchdog.beat()
    assert watchdog.last_reason is not None
    host.clock.advance(1)
    await watchdog.beat()
    assert watchdog.last_reason is None
    assert WatchdogRecord(host.documents).last is None


async def test_without_a_watchdog_nothing_is_pinged_and_nothing_is_withheld(
    host: Host, notifier: Notifier, systemd: Systemd
) -> None:
    watchdog = host.watchdog(notifier, timeout_s=None)
    assert not watchdog.enabled
    await overheat_past_grace(host, watchdog.beat)
    messages = systemd.messages()
    assert "WATCHDOG=1" not in messages
    assert messages[-1].startswith("STATUS=unhealthy")
    assert "watchdog.withheld" not in host.types()


async def test_without_systemd_nothing_is_sent(host: Host) -> None:
    watchdog = host.watchdog(Notifier(environ={}))
    assert not watchdog.enabled
    watchdog.ready()
    await watchdog.beat()


async def test_the_status_is_sent_when_it_reads_differently(
    host: Host, notifier: Notifier, systemd: Systemd
) -> None:
    watchdog = host.watchdog(notifier)
    watchdog.ready()
    assert systemd.messages() == [
        "READY=1",
        "STATUS=healthy | 2 of 2 GPUs open to leases | 0 leases",
    ]
    watchdog.refresh_status()
    assert systemd.messages() == []
    host.leases = (1, 2)
    watchdog.refresh_status()
    assert systemd.messages() == [
        "STATUS=healthy | 2 of 2 GPUs open to leases | 1 lease, 2 waiting"
    ]


async def test_a_change_of_health_reaches_the_status_at_once(
    host: Host, notifier: Notifier, systemd: Systemd
) -> None:
    health = host.health()
    watchdog = host.watchdog(notifier, health=health)
    await watchdog.start()
    await host.metronome.resting()
    systemd.messages()
    host.set_gpu(1, status="lost")
    health.evaluate()
    assert systemd.messages()[0].startswith("STATUS=degraded: GPU 1")
    await watchdog.aclose()
    host.set_gpu(1)
    health.evaluate()
    assert systemd.messages() == []


async def test_a_status_that_could_not_be_sent_is_sent_later(
    host: Host, notifier: Notifier, systemd: Systemd
) -> None:
    watchdog = host.watchdog(notifier)
    systemd.close()
    with capture_logs():
        watchdog.refresh_status()
    systemd.reexecute()
    watchdog.refresh_status()
    assert len(systemd.messages()) == 1


async def test_reloading_and_stopping_are_told(
    host: Host, notifier: Notifier, systemd: Systemd
) -> None:
    watchdog = host.watchdog(notifier)
    watchdog.reloading()
    watchdog.stopping()
    assert systemd.messages() == [
        f"RELOADING=1\nMONOTONIC_USEC={host.clock.now_ns // 1000}",
        "STOPPING=1\nSTATUS=stopping",
    ]


async def test_a_beat_that_fails_is_logged_and_the_next_one_pings(
    host: Host, notifier: Notifier, systemd: Systemd
) -> None:
    watchdog = host.watchdog(notifier)
    await watchdog.start()
    await host.metronome.resting()
    good, host.snapshot = host.snapshot, None  # type: ignore[assignment]
    with capture_logs() as logs:
        await host.metronome.turn()
    assert "watchdog.beat_failed" in [each["event"] for each in logs]
    host.snapshot = good
    systemd.messages()
    await host.metronome.turn()
    assert systemd.pings() == 1
    await watchdog.aclose()


async def test_a_loop_that_does_not_turn_sends_no_ping(
    host: Host, notifier: Notifier, systemd: Systemd
) -> None:
    """The beat is a task of the loop and of nothing else: no thread pings on."""
    watchdog = host.watchdog(notifier)
    await watchdog.start()
    assert systemd.messages() == []  # the loop has not turned since
    await host.metronome.resting()
    assert systemd.pings() == 1
    owner = asyncio.get_running_loop()
    assert any(task.get_name() == "watchdog" for task in asyncio.all_tasks(owner))
    await watchdog.aclose()


async def overheat_past_grace(host: Host, beat: object) -> None:
    """One beat as the GPU becomes CRITICAL, and one when its grace is over."""
    assert callable(beat)
    host.overheat()
    await beat()
    host.clock.advance(GRACE_S)
    await beat()
