"""`supereziod --overheat` as it is started: what keeps it from acting, and what it says."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal

import pytest

from supereziod.__main__ import main
from supereziod.gpu.control import SimulatedControl
from supereziod.health.record import WatchdogRecord, Withholding
from supereziod.leases.processes import read_boot_id
from supereziod.overheat.record import Stopped, StoppedRecord, StoppedUnit
from supereziod.stopgap import Stopgap
from supereziod.storage import Database, Documents
from unit.overheat.conftest import Systemd

_CONFIG = """
[gpu]
driver = "simulated"
sample_period = "50ms"
[gpu.thermal]
critical_leave_dwell = "50ms"
hot_leave_dwell = "50ms"
"""


class Run:
    """One run in a directory of its own; what it logs is read from standard error."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[bytes]) -> None:
        self.folder = folder
        self.config = folder / "superezio.toml"
        self.config.write_text(_CONFIG)
        self.record = StoppedRecord(folder, boot_id=read_boot_id())
        self._capture = capture
        self.logged: list[dict[str, Any]] = []

    def __call__(self, **monitor: str) -> int:
        environ = {
            "RUNTIME_DIRECTORY": str(self.folder),
            **{f"MONITOR_{name}": value for name, value in monitor.items()},
        }
        options = ("--config", str(self.config), "--socket", str(self.folder / "control.sock"))
        code = main(["--overheat", *options, "--state-dir", str(self.folder)], environ)
        lines = self._capture.readouterr().err.splitlines()
        self.logged = [json.loads(line) for line in lines]
        return code

    def store(self, kind: str) -> None:
        """Have a daemon store why it withheld its pings, and end."""
        database = Database.open(self.folder / "state.db", schema=Documents.SCHEMA)
        reason = Withholding(kind=kind, message="m", time="t", boot_id=read_boot_id())  # type: ignore[arg-type]
        assert WatchdogRecord(Documents(database)).withhold(reason)
        database.close()


@pytest.fixture
def run(
    tmp_path: Path,
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> Run:
    monkeypatch.setenv("PATH", f"{systemd.folder}:/usr/bin:/bin")
    return Run(tmp_path, capfdbinary)


def test_started_by_hand_it_looks_at_the_unit_and_does_nothing_where_that_runs(
    run: Run, systemd: Systemd
) -> None:
    systemd.answer({"show": "echo ActiveState=active; echo Result=success"})
    assert run() == 0
    (line,) = run.logged
    assert line["event"] == "overheat.ignored"
    assert line["message"] == "stops no model: superezio.service has not failed"
    assert systemd.calls == []


def test_started_by_hand_after_a_failure_it_decides_by_what_the_unit_says(
    run: Run, systemd: Systemd
) -> None:
    systemd.answer({"show": "echo ActiveState=failed; echo Result=exit-code"})
    assert run() == 0
    assert "result exit-code" in run.logged[0]["message"]
    systemd.answer({"show": "exit 1"})
    assert run() == 0
    assert [line["event"] for line in run.logged] == [
        *("overheat.systemd_unknown", "overheat.ignored"),
    ]


def test_heat_that_is_over_by_now_stops_no_model(run: Run, systemd: Systemd) -> None:
    run.store("overheat")
    assert run(SERVICE_RESULT="watchdog", UNIT="superezio.service") == 0
    assert run.logged[-1]["message"].startswith("stops no model: no GPU reads CRITICAL now")
    assert "GPU 0 (NVIDIA GeForce RTX 3060) reads NORMAL" in run.logged[-1]["message"]
    assert systemd.calls == []


def test_a_reason_that_the_state_directory_did_not_take_counts(run: Run, systemd: Systemd) -> None:
    blocked = run.folder / "no" / "such" / "directory" / "state.db"
    database = Database.open(blocked, schema=Documents.SCHEMA)
    record = WatchdogRecord(Documents(database, stopgap=Stopgap(run.folder)))
    assert not record.withhold(
        Withholding(kind="overheat", message="m", time="t", boot_id=read_boot_id())
    )
    database.close()
    assert run(SERVICE_RESULT="watchdog", UNIT="superezio.service") == 0
    assert run.logged[-1]["message"].startswith("stops no model: no GPU reads CRITICAL now")
    assert systemd.calls == []


def test_where_heat_is_only_to_be_reported_an_earlier_reason_stops_no_model(
    run: Run, systemd: Systemd
) -> None:
    """Stored by a run that was told to restart for heat, and followed by restarts by hand."""
    run.store("overheat")
    run.config.write_text(f'[watchdog]\non_overheat = "report"\n{_CONFIG}')
    assert run(SERVICE_RESULT="start-limit-hit") == 0
    assert [line["message"] for line in run.logged] == [
        'stops no model: watchdog.on_overheat is "report"'
    ]
    assert systemd.calls == []


def test_a_state_that_cannot_be_read_stops_no_model(run: Run, systemd: Systemd) -> None:
    (run.folder / "state.db").write_bytes(b"nonsense" * 1000)
    assert run(SERVICE_RESULT="watchdog") == 0
    events = [line["event"] for line in run.logged]
    assert events == ["overheat.reason_unreadable", "overheat.ignored"]
    assert systemd.calls == []


def test_a_bad_configuration_is_told_where_it_matters_and_stops_no_model(
    run: Run, systemd: Systemd
) -> None:
    run.store("overheat")
    run.config.write_text("nonsense = 1\n")
    assert run(SERVICE_RESULT="exit-code", EXIT_STATUS="78") == 0
    assert run.logged[0]["event"] == "overheat.ignored"
    assert run(SERVICE_RESULT="watchdog") == 78
    assert run.logged[0]["event"] == "overheat.bad_configuration"
    assert systemd.calls == []


@pytest.mark.parametrize(("stage", "later_s"), [("stopped", 1), ("starting", 3600)])
def test_where_somebody_else_has_started_the_daemon_the_models_are_theirs(
    run: Run, systemd: Systemd, stage: Literal["stopped", "starting"], later_s: int
) -> None:
    units = (StoppedUnit(name="a.service"),)
    since_ns = time.monotonic_ns()
    stopped = Stopped(boot_id=read_boot_id(), since_ns=since_ns, gpus=(), units=units, stage=stage)
    run.record.save(stopped)
    started_us = since_ns // 1000 + later_s * 1_000_000
    show = f"echo ActiveState=active; echo ActiveEnterTimestampMonotonic={started_us}"
    systemd.answer({"show": show})
    assert run() == 0
    assert [line["event"] for line in run.logged] == ["overheat.handed_over", "overheat.ignored"]
    assert "a.service" in run.logged[0]["message"]
    assert run.record.load() is None
    assert systemd.calls == []


def test_what_an_earlier_run_had_not_started_yet_is_started(run: Run, systemd: Systemd) -> None:
    units = (StoppedUnit(name="a.service"),)
    stopped = Stopped(boot_id=read_boot_id(), since_ns=1, gpus=(), units=units, stage="starting")
    run.record.save(stopped)
    # The service runs since that run had started it.
    models = "echo Id=b.service; echo Slice=superezio-models.slice; echo ActiveState=active"
    started = "echo ActiveState=active; echo ActiveEnterTimestampMonotonic=9000"
    systemd.answer({"show --no-pager --property=Id": models, "show": started})
    assert run() == 0
    assert run.logged[0]["event"] == "overheat.resumed"
    assert run.logged[-1]["event"] == "overheat.over"
    assert systemd.calls[-1] == "start a.service"
    assert not any(call.startswith("stop") for call in systemd.calls)
    assert run.record.load() is None


@pytest.mark.parametrize("body", [b"{", b'{"boot_id": "\xff"}'])
def test_a_record_that_is_damaged_is_told_and_the_failure_decided_anew(
    run: Run, systemd: Systemd, body: bytes
) -> None:
    (run.folder / "stopped.json").write_bytes(body)
    assert run(SERVICE_RESULT="oom-kill") == 0
    assert [line["event"] for line in run.logged] == [
        *("overheat.record_unreadable", "overheat.ignored"),
    ]
    assert systemd.calls == []


def _failed_once(mark: Path, result: str) -> str:
    failed = f"echo ActiveState=failed; echo Result={result}"
    return f"if [ -e {mark} ]; then {failed}; else echo ActiveState=active; fi"


def test_a_failure_while_all_was_started_again_is_decided_too(run: Run, systemd: Systemd) -> None:
    """OnFailure= starts nothing that runs already."""
    run.store("overheat")
    gpus = SimulatedControl(run.folder / "simulated")
    gpus.temperature(0, 95)
    models = "echo Id=a.service; echo Slice=superezio-models.slice; echo ActiveState=active"
    mark = run.folder / "failed"
    systemd.answer(
        {
            "show --no-pager --property=Id": models,
            "show --no-pager --property=ActiveState": _failed_once(mark, "signal"),
            "stop": f"rm -f {gpus.directory}/control.json",
            "start -- a.service": f"touch {mark}",
        }
    )
    assert run(SERVICE_RESULT="watchdog", UNIT="superezio.service") == 0
    events = [line["event"] for line in run.logged]
    assert events[0] == "overheat.confirmed"
    assert events[-2:] == ["overheat.over", "overheat.ignored"]
    assert "result signal" in run.logged[-1]["message"]
    assert systemd.calls[-1] == "start a.service"


class Heats:
    """A host with models a, b and c, on which the daemon fails anew when a is started again."""

    def __init__(self, run: Run, systemd: Systemd, *, result: str) -> None:
        run.store("overheat")
        gpus = SimulatedControl(run.folder / "simulated")
        gpus.temperature(0, 95)
        hot, saved = gpus.directory / "control.json", run.folder / "saved"
        saved.write_bytes(hot.read_bytes())
        again, failed, runs = run.folder / "again", run.folder / "failed", run.folder / "runs"
        runs.mkdir()
        for name in "abc":
            (runs / f"{name}.service").touch()
        state = "echo Slice=superezio-models.slice; echo ActiveState=active; echo"
        show = f"for each in {runs}/*; do [ -e $each ] && echo Id=${{each##*/}} && {state}; done"
        fail = f"[ -e {again} ] || {{ touch {again} {failed}; cp {saved} {hot}; }}"
        systemd.answer(
            {
                "show --no-pager --property=Id": show,
                "show --no-pager --property=ActiveState": _failed_once(failed, result),
                "stop": f"rm -f {runs}/* {hot}",
                "start -- superezio.service": f"rm -f {failed}",
                "start -- a.service": f"touch {runs}/a.service; {fail}",
                "start -- b.service": f"touch {runs}/b.service",
                "start -- c.service": f"touch {runs}/c.service",
            }
        )


def test_a_second_heat_before_all_was_started_again_stops_all_and_brings_all_back(
    run: Run, systemd: Systemd
) -> None:
    Heats(run, systemd, result="watchdog")
    assert run(SERVICE_RESULT="watchdog", UNIT="superezio.service") == 0
    acts = [call for call in systemd.calls if not call.startswith("reset-failed")]
    daemon = ["start superezio.socket", "start superezio.service"]
    assert acts == [
        *("stop a.service b.service c.service", *daemon, "start a.service"),
        *("stop a.service", *daemon, "start a.service", "start b.service", "start c.service"),
    ]
    assert [line["event"] for line in run.logged].count("overheat.failed_anew") == 1
    assert run.record.load() is None


def test_a_failure_of_another_kind_before_all_was_started_again_leaves_no_model_down(
    run: Run, systemd: Systemd
) -> None:
    Heats(run, systemd, result="signal")
    assert run(SERVICE_RESULT="watchdog", UNIT="superezio.service") == 0
    starts = [call for call in systemd.calls if call.startswith("start")]
    assert starts[2:] == ["start a.service", "start b.service", "start c.service"]
    events = [line["event"] for line in run.logged]
    order = ("failed_anew", "ignored", "over")
    assert [event for event in events if event.removeprefix("overheat.") in order] == [
        f"overheat.{event}" for event in order
    ]
    assert run.record.load() is None
