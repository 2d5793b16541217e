"""superezioctl trace and session list."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import wire_samples
from ctl_runner import Ctl
from fake_daemon import FakeDaemon
from superezio import wire
from superezio.flight import layout
from superezio.flight.records import RequestNote, SpanNote, encode_note
from supereziod.observability.ring import Ring

NOISE = ["system.ping", "trace.find"]


def test_a_timeline_has_offsets_bars_gpus_and_spans(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("trace", "job-17") == 0
    assert daemon.params_of("trace.get") == {"id": "job-17"}
    assert all(len(line) <= 80 for line in ctl.out.splitlines())
    lines = ctl.out.splitlines()
    assert lines[0].startswith("job-17: 2 requests and 1 span, from ")
    drawn = lines[3:8]
    assert [line.split()[0] for line in drawn] == [
        "0.000", "0.300", "1,234.100", "1,300.000", "3,000.000",
    ]  # fmt: skip
    assert "lease.acquire ok" in drawn[0]
    assert "1,234.500" in drawn[0]
    assert drawn[1].endswith("    queued")
    assert drawn[2].endswith("    granted")
    assert drawn[3].endswith("  load the model")
    first, span, last = (drawn[number][22:50] for number in (0, 3, 4))
    assert first.index("█") < span.index("█") < last.index("█")
    assert span.count("█") > first.count("█") > last.count("█")
    assert "GPU  TEMP" in ctl.out
    assert "61 °C" in ctl.out
    assert "llama.gguf" in ctl.out
    assert "trace 0af7651916cd43dd8448eb211c80319c" in ctl.out


def test_a_failed_request_is_drawn_as_such(ctl: Ctl, daemon: FakeDaemon) -> None:
    record = wire_samples.trace_record(outcome="no_capacity", marks=[], duration_ms=0.0)
    daemon.answers["trace.get"] = wire.Trace(id="x", records=[record], spans=[], truncated=True)
    assert ctl("trace", "x") == 0
    assert "lease.acquire no_capacity" in ctl.out
    assert "there is more, and older, than is shown" in ctl.out


def test_the_breaker_limit_or_namespace_stands_behind_the_method(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    record = wire_samples.trace_record(method="limit.acquire", about="openai", gpus=[])
    daemon.answers["trace.get"] = wire.Trace(id="x", records=[record], spans=[], truncated=False)
    assert ctl("trace", "x") == 0
    assert ctl.out.count("limit.acquire openai ok") == 2, "on the timeline and below it"
    found = wire_samples.trace_summary(method="limit.acquire", about="openai")
    daemon.answers["trace.find"] = wire.TraceList(requests=[found])
    assert ctl("trace") == 0
    assert "limit.acquire openai" in ctl.out


def test_an_id_of_which_nothing_is_known_is_a_failure(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["trace.get"] = wire.Trace(id="x", records=[], spans=[], truncated=False)
    assert ctl("trace", "x") == 1
    assert ctl.out.startswith("nothing is known of x")
    assert ctl("--json", "trace", "x") == 1
    assert json.loads(ctl.out)["records"] == []


def test_ids_are_found_by_what_is_asked(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("trace", "--last", "3") == 0
    assert daemon.params_of("trace.find") == {"last": 3, "failed": False, "omit": NOISE}
    head, first, second = ctl.out.splitlines()
    assert head.split() == ["WHEN", "TOOK", "ms", "METHOD", "OUTCOME", "USER", "ID"]
    assert first.split()[2:] == ["2.500", "lease.acquire", "no_capacity", "root", "job-18"]
    assert second.split()[2:] == ["<1", "system.ping", "ok", "root", "00c0ffee00c0ffee.1"]
    assert ctl("trace", "--slow") == 0
    assert daemon.params_of("trace.find")["slow_ms"] == 100
    words = ("--slow", "--over", "2s", "--failed", "--method", "lease.", "--since", "1h")
    assert ctl("trace", *words) == 0
    assert daemon.params_of("trace.find") == {
        "last": 20, "failed": True, "slow_ms": 2000.0, "method": "lease.", "since_s": 3600.0,
    }  # fmt: skip
    assert len(ctl.json("trace", "--failed")["requests"]) == 2


@pytest.mark.parametrize(
    ("changes", "took"),
    [
        ({}, "<1"),
        ({"duration_ms": 0.25}, "0.250"),
        ({"outcome": "in_flight"}, "-"),
        ({"short": True, "outcome": "busy"}, "-"),
    ],
)
def test_how_long_it_took_is_told_where_it_is_known(
    ctl: Ctl, daemon: FakeDaemon, changes: dict[str, Any], took: str
) -> None:
    """What was answered in the same breath took less than a millisecond; it is not timed."""
    request = wire_samples.trace_summary(**changes)
    daemon.answers["trace.find"] = wire.TraceList(requests=[request])
    assert ctl("trace") == 0
    assert ctl.out.splitlines()[1].split()[2] == took
    record = wire_samples.trace_record(**{"duration_ms": None, **changes})
    daemon.answers["trace.get"] = wire.Trace(id="x", records=[record], spans=[], truncated=False)
    assert ctl("trace", "x") == 0
    assert ctl.out.splitlines()[3].split()[1] == took
    assert ("recorded in short" in ctl.out) == ("short" in changes)


def test_by_itself_it_lists_the_newest_20(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("trace") == 0
    assert daemon.params_of("trace.find") == {"last": 20, "failed": False, "omit": NOISE}
    assert len(ctl.out.splitlines()) == 3


def test_a_search_that_was_cut_says_so(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["trace.find"] = wire.TraceList(requests=[], truncated=True)
    assert ctl("trace", "--failed") == 0
    assert (ctl.out, "there may be more" in ctl.err) == ("", True)


def test_pings_and_searches_are_left_out_unless_asked_for(ctl: Ctl, daemon: FakeDaemon) -> None:
    """They would fill a list of the newest. Of what failed or took long they may be the point."""
    words: tuple[str, ...]
    for words in (("--all",), ("--failed",), ("--slow",), ("--method", "system.ping")):
        assert ctl("trace", *words) == 0
        assert "omit" not in daemon.params_of("trace.find")


def test_nothing_found_is_said(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["trace.find"] = wire.TraceList(requests=[])
    assert ctl("trace", "--failed") == 0
    assert ctl.out == "no such request is in the flight recorder\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x", "--failed"], "--failed finds ids"),
        (["--failed", "--over", "1s"], "--over says what --slow is"),
        (["--last", "0"], "a whole number from 1 up"),
    ],
)
@pytest.mark.usefixtures("daemon")
def test_what_makes_no_sense_is_told(ctl: Ctl, words: list[str], said: str) -> None:
    assert ctl("trace", *words) == 2
    assert said in ctl.err


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    """A ring that a daemon left, which is not there any more."""
    path = tmp_path / "flight.ring"
    with closing(Ring.open(path, size=256 * 1024, boot_id="b007")) as ring:
        who = layout.stamp(0, 4711, b"\x0a" * 8, b"\x0b" * 8)
        ring.plain.write(layout.plain_head(ring.marks_of("system.ping").number, 3), who, 1, 1000)
        for number, outcome, took_ns in (
            (4, "ok", 5_000_000_000),
            (5, "no_capacity", 1),
            (6, "in_flight", None),
        ):
            note = RequestNote(
                connection="0a" * 8, number=number, correlation_id=f"job-{number}",
                session="0b" * 8, uid=0, pid=4711, method="lease.acquire", outcome=outcome,
                received_ns=number * 1000, duration_ns=took_ns,
            )  # fmt: skip
            assert ring.write_full(encode_note(note))
        span = SpanNote(
            correlation_id="job-4", uid=0, pid=4711, name="load", started_ns=5000, duration_ns=None
        )
        assert ring.write_full(encode_note(span))
    return path


def test_a_ring_is_found_where_the_daemon_keeps_its_state(
    ctl: Ctl, ring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPEREZIO_SOCKET", "/nowhere/control.sock")
    monkeypatch.setenv("SUPEREZIO_STATE_DIR", str(ring.parent))
    found = ctl.json("trace", "--ring", "--failed")["requests"]
    assert [each["correlation_id"] for each in found] == ["job-6", "job-5"]
    assert ctl("trace", "job-4", "--ring") == 0
    assert "load" in ctl.out
    assert ctl("trace", "--ring") == 0
    assert "system.ping" not in ctl.out
    assert ctl("trace", "--all", "--ring") == 0
    assert "system.ping" in ctl.out
    monkeypatch.setenv("SUPEREZIO_STATE_DIR", str(tmp_path / "elsewhere"))
    assert ctl("trace", "--ring") == 1
    assert "elsewhere/flight.ring" in ctl.err
    assert "--ring FILE or $SUPEREZIO_STATE_DIR names" in ctl.err


def test_a_ring_is_read_without_a_daemon(
    ctl: Ctl, ring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPEREZIO_SOCKET", "/nowhere/control.sock")
    found = ctl.json("trace", "--ring", str(ring), "--all", "--last", "10")["requests"]
    assert [each["correlation_id"] for each in found] == [
        "job-6", "job-5", "job-4", *(f"{'0a' * 8}.{number}" for number in (3, 2, 1)),
    ]  # fmt: skip
    failed = ctl.json("trace", "--ring", str(ring), "--failed")["requests"]
    assert [each["outcome"] for each in failed] == ["in_flight", "no_capacity"]
    slow = ctl.json("trace", "--ring", str(ring), "--slow", "--over", "1s")["requests"]
    assert [each["correlation_id"] for each in slow] == ["job-6", "job-4"]
    assert ctl("trace", "--ring", str(ring), "job-4") == 0
    assert "load" in ctl.out
    trace = ctl.json("trace", "--ring", str(ring), f"{'0a' * 8}.2")
    assert [each["method"] for each in trace["records"]] == ["system.ping"]
    assert ctl("trace", "--ring", str(ring), "job-6") == 0
    assert "was not answered yet" in ctl.out


@pytest.mark.skipif(os.geteuid() != 0, reason="who is no root cannot be somebody else")
def test_who_may_not_read_the_ring_is_told_whose_it_is(ctl: Ctl, ring: Path) -> None:
    words = ("trace", "--ring", str(ring), "--failed")
    assert ctl(*words) == 0
    ring.chmod(0o600)
    os.seteuid(65534)
    try:
        assert ctl(*words) == 1
    finally:
        os.seteuid(0)
    assert "it is the daemon's own" in ctl.err
    assert "sudo" in ctl.err


@pytest.mark.parametrize("words", ["--ring job-4", "--ring=job-4 --failed"])
def test_an_id_in_the_place_of_the_file_is_told_where_it_goes(
    ctl: Ctl, ring: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.chdir(ring.parent)
    assert ctl("trace", *words.split()) == 1
    assert "superezioctl: there is no job-4: the daemon keeps flight.ring in its" in ctl.err
    assert "--ring is for a file to read instead of asking the daemon" in ctl.err
    told = "`superezioctl trace job-4 --ring`"
    assert f"for the id job-4 give it before --ring ({told}), or alone" in ctl.err
    monkeypatch.setenv("SUPEREZIO_STATE_DIR", str(ring.parent))
    assert ctl(*told.strip("`").split()[1:]) == 0
    for is_none in ("trace --ring ./job-4", "trace job-4 --ring none"):
        assert ctl(*is_none.split()) == 1
        assert "--ring is for" not in ctl.err, is_none


def test_a_directory_is_told_which_file_of_it_to_give(ctl: Ctl, ring: Path) -> None:
    assert ctl("trace", "--ring", str(ring.parent)) == 1
    assert f"{ring.parent} is a directory: give the file in it, flight.ring" in ctl.err


def test_a_file_that_is_no_ring_is_told_as_such(ctl: Ctl, tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"x" * 300_000)
    assert ctl("--json", "trace", "--ring", str(junk), "--last", "1") == 1
    assert json.loads(ctl.out)["error"]["kind"] == "ring_unreadable"
    assert "it is no flight ring" in ctl.err
    junk.write_bytes(b"")
    assert ctl("trace", "--ring", str(junk), "--last", "1") == 1
    assert ctl("trace", "--ring", str(tmp_path / "missing"), "--last", "1") == 1
    assert "there is no " in ctl.err


def test_sessions_are_listed_with_what_was_used_in_them(ctl: Ctl, daemon: FakeDaemon) -> None:
    def session(name: str | None, requests: int, **used: int) -> wire.Session:
        return wire.Session(
            session_id="5e55", name=name, uid=0, pid=4711, implied=name is None, connections=1,
            requests=requests, errors=2, opened_at=wire_samples.TIME, idle_s=0.0, used=used,
        )  # fmt: skip

    sessions = [session(None, 3), session("renderer", 40, permits=7, leases=1)]
    daemon.answers["session.list"] = wire.SessionList(sessions=sessions)
    assert ctl("session", "list") == 0
    head, busiest, idle = ctl.out.splitlines()
    assert head.split()[-1] == "USED"
    assert busiest.split()[1:] == [
        "renderer", "root", "4711", "1", "40", "2", "-", "1", "leases,", "7", "permits",
    ]  # fmt: skip
    assert idle.split()[-1] == "-"
    assert ctl.json("session", "list")["sessions"][1]["used"] == {"permits": 7, "leases": 1}
    daemon.answers["session.list"] = wire.SessionList(sessions=[])
    assert ctl("session", "list") == 0
    assert ctl.out == "there are no sessions\n"
