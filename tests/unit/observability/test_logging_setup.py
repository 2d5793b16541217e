"""Log lines as they leave the process: their fields in each format, on every line of a request."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import pty
import socket
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from journal_receiver import JournalReceiver
from supereziod.observability.correlation import RequestScope, current_scope
from supereziod.observability.events import EventLog
from supereziod.observability.journald import is_journal, message_id
from supereziod.observability.log_fields import in_one_line
from supereziod.observability.logging_setup import Logging, choose_format, level_name

_SCOPE = RequestScope(
    correlation_id="c-1", session_id="s-1", uid=1000, pid=4711, method="lease.acquire"
)


@pytest.fixture
def request_scope() -> Iterator[None]:
    token = current_scope.set(_SCOPE)
    yield
    current_scope.reset(token)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def lines(fd: int) -> list[str]:
    return os.pread(fd, 1 << 20, 0).decode().splitlines()


def objects(fd: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(fd)]


# --- fields -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("request_scope")
def test_every_line_of_a_request_has_all_its_fields(file: int) -> None:
    with Logging(log_format="json", fd=file):
        structlog.get_logger().info("lease.placed", gpu="GPU-1")
        logging.getLogger("library").warning("from a %s", "library")
        try:
            raise ValueError("broken")
        except ValueError:
            structlog.get_logger().exception("request.failed")
    for line in objects(file):
        assert line["correlation_id"] == "c-1"
        assert line["session_id"] == "s-1"
        assert (line["uid"], line["pid"], line["method"]) == (1000, 4711, "lease.acquire")
        assert {"time", "level", "event", "gpu", "lease"} <= set(line)
    placed, library, failed = objects(file)
    assert (placed["gpu"], placed["lease"]) == ("GPU-1", None)
    assert (library["message"], library["logger"]) == ("from a library", "library")
    assert "ValueError: broken" in failed["exception"]
    assert failed["level"] == "error"


def test_a_line_of_no_request_has_none_of_them(file: int) -> None:
    with Logging(log_format="json", fd=file):
        structlog.get_logger().info("daemon.started", message="Started.")
    (line,) = objects(file)
    assert list(line) == ["time", "level", "event", "message"]
    assert line["time"].endswith("+00:00")


def test_a_value_without_a_json_form_spoils_only_itself(file: int) -> None:
    with Logging(log_format="json", fd=file):
        structlog.get_logger().info(
            "odd", what=object, text="\udcff", items=[1, {2: "x"}], fine=1.5
        )
    (line,) = objects(file)
    assert line["what"] == "<class 'object'>"
    assert line["text"] == "'\\udcff'"
    assert line["items"] == [1, {"2": "x"}]
    assert line["fine"] == 1.5


def test_an_event_is_a_line_with_its_sentence(file: int) -> None:
    with Logging(log_format="json", fd=file):
        EventLog().emit(
            "gpu.level", "GPU 0 is HOT", severity="critical", gpu="GPU-1", temperature_c=85
        )
        EventLog().emit("gpu.level", "GPU 0 is NORMAL", gpu="GPU-1", level="normal", pid=7)
    line, other = objects(file)
    assert (other["level"], other["gpu_level"], other["gpu_pid"]) == ("info", "normal", 7)
    assert "pid" not in other
    assert (line["event"], line["level"]) == ("gpu.level", "critical")
    assert (line["message"], line["gpu"]) == ("GPU 0 is HOT", "GPU-1")
    assert line["temperature_c"] == 85


# --- level --------------------------------------------------------------------------------------


def test_the_level_changes_live_also_for_loggers_that_are_held(file: int) -> None:
    with Logging(log_format="json", fd=file, level="warning") as setup:
        held = structlog.get_logger()
        held.info("too low")
        logging.getLogger("library").info("too low")
        assert setup.set_level("debug") == "warning"
        assert setup.level == "debug"
        held.debug("seen")
        logging.getLogger("library").debug("seen")
        setup.set_level("critical")
        held.error("too low")
    assert [line.get("message", line["event"]) for line in objects(file)] == ["seen", "seen"]


@pytest.mark.parametrize(
    ("number", "name"),
    [(0, "debug"), (10, "debug"), (25, "info"), (30, "warning"), (45, "error"), (99, "critical")],
)
def test_levels_of_the_standard_library_have_ours(number: int, name: str) -> None:
    assert level_name(number) == name


def test_what_is_for_the_record_is_written_at_any_level(tmp_path: Path, file: int) -> None:
    with Logging(log_format="json", fd=file, level="critical") as setup:
        setup.notice("audit.done", message="alice did it", target="GPU 0")
    (line,) = objects(file)
    assert (line["level"], line["event"], line["target"]) == ("notice", "audit.done", "GPU 0")
    with (
        JournalReceiver(tmp_path / "journal") as journal,
        Logging(log_format="journald", journal_socket=journal.path, level="critical") as setup,
    ):
        setup.notice("audit.done", message="alice did it")
        assert journal.entry()["PRIORITY"] == "5"


# --- what else logs -----------------------------------------------------------------------------


def test_warnings_and_lost_tasks_go_the_same_way(file: int) -> None:
    async def fail() -> None:
        raise RuntimeError("nobody awaits me")

    async def main() -> None:
        task = asyncio.ensure_future(fail())
        await asyncio.wait([task])
        del task
        gc.collect()

    with Logging(log_format="json", fd=file), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old habits", stacklevel=1)
        asyncio.run(main())
    # What earlier tests left behind may be found now, too, and is told the same way.
    (habits,) = (line for line in objects(file) if "old habits" in line["message"])
    (lost,) = (line for line in objects(file) if "nobody awaits me" in line.get("exception", ""))
    assert (habits["logger"], lost["logger"]) == ("py.warnings", "asyncio")


def test_a_library_that_formats_wrongly_is_still_heard(file: int) -> None:
    library = logging.Logger("library")  # noqa: LOG001 - pytest's own handlers raise here
    with Logging(log_format="json", fd=file) as setup:
        library.addHandler(setup._bridge)
        library.error("%d apples", "many")
    assert objects(file)[0]["message"] == "%d apples ('many',)"


def test_closing_leaves_the_standard_library_as_it_was(file: int) -> None:
    before = list(logging.getLogger().handlers)
    with Logging(log_format="json", fd=file) as setup:
        assert len(logging.getLogger().handlers) == len(before) + 1
    assert logging.getLogger().handlers == before
    assert setup.dropped == 0


# --- console ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("request_scope")
def test_text_is_for_people(file: int) -> None:
    with Logging(log_format="console", fd=file):
        EventLog().emit("lease.granted", "Granted 8.0 GiB on GPU 0", lease="L1", count=1)
        structlog.get_logger().warning("socket.closed", reason="timeout")
    granted, closed = lines(file)
    assert granted[13:] == (
        "info     Granted 8.0 GiB on GPU 0  event=lease.granted count=1 method=lease.acquire"
        " uid=1000 pid=4711 lease=L1 session_id=s-1 correlation_id=c-1"
    )
    assert "warning  socket.closed: reason=timeout  method=" in closed
    assert "\x1b" not in granted


def test_text_cannot_drive_the_terminal_or_fake_a_line(file: int) -> None:
    nasty = "\x1b[2J\x07\u202e\x9b31m\udcff fine é\n21:00:00.000 critical FAKE"
    with Logging(log_format="console", fd=file):
        structlog.get_logger().info("shown", message=nasty, command=nasty)
    first, second = lines(file)
    assert "\\x1b[2J\\x07\\u202e\\x9b31m\\udcff fine é" in first
    assert second.startswith("    21:00:00.000 critical FAKE")
    assert "\x1b" not in first + second


def test_json_has_nothing_raw_that_a_terminal_might_obey_and_says_the_same(file: int) -> None:
    nasty = "\x1b[2J\x7f\u0085\x9b31m\u2028\u2029\u202e\u2066\U000e0041 fine é 漢 😀"
    with Logging(log_format="json", fd=file):
        structlog.get_logger().info("shown", message=nasty, command=[{nasty: nasty}])
        structlog.get_logger().info("without a form", command=nasty, lone="\udcff\x9b")
    raw = os.pread(file, 1 << 20, 0).decode()
    assert raw.replace("\n", "").isprintable()
    assert raw.count("\n") == 2
    assert "fine é 漢 😀" in raw
    first, second = (json.loads(line) for line in raw.split("\n") if line)
    assert (first["message"], first["command"]) == (nasty, [{nasty: nasty}])
    assert second["command"] == nasty


def test_a_sentence_with_a_list_under_it_is_one_line_where_one_is_due() -> None:
    assert in_one_line("it stays:\na.toml:1: bad\nb.toml:2: bad") == (
        "it stays: a.toml:1: bad | b.toml:2: bad"
    )


def test_a_traceback_is_indented_under_its_line(file: int) -> None:
    with Logging(log_format="console", fd=file):
        try:
            raise ValueError("broken")
        except ValueError:
            structlog.get_logger().exception("request.failed", message="It failed.")
    shown = lines(file)
    assert "error    It failed.  event=request.failed" in shown[0]
    assert shown[1] == "    Traceback (most recent call last):"
    assert shown[-1] == "    ValueError: broken"


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_they_are_not_wanted(
    environ: dict[str, str], *, coloured: bool
) -> None:
    reader, terminal = pty.openpty()
    try:
        with Logging(fd=terminal, environ=environ) as setup:
            assert setup.log_format == "console"
            structlog.get_logger().error("trouble")
        assert (b"\x1b[31m" in os.read(reader, 4096)) is coloured
    finally:
        os.close(reader)
        os.close(terminal)


# --- journald -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("request_scope")
def test_the_journal_gets_real_fields(tmp_path: Path) -> None:
    with (
        JournalReceiver(tmp_path / "journal") as journal,
        Logging(log_format="journald", journal_socket=journal.path),
    ):
        EventLog().emit(
            "lease.granted", "Granted on GPU 0", gpu="GPU-1", lease="L1", uid=7, sizes=[1, 2]
        )
        entry = journal.entry()
    assert datetime.fromisoformat(entry.pop("LOGGED_AT")).utcoffset() == timedelta(0)
    assert entry == {
        "MESSAGE": "Granted on GPU 0",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "supereziod",
        "MESSAGE_ID": message_id("lease.granted"),
        "EVENT": "lease.granted",
        "CORRELATION_ID": "c-1",
        "SESSION_ID": "s-1",
        "REQUEST_UID": "1000",
        "REQUEST_PID": "4711",
        "METHOD": "lease.acquire",
        "GPU": "GPU-1",
        "LEASE": "L1",
        "OWNER_UID": "7",
        "SIZES": "[1,2]",
    }


def test_the_id_of_an_event_never_changes() -> None:
    assert message_id("lease.granted") == "f88a43dd251a526daaa8eb81691dac34"
    assert message_id("lease.granted") != message_id("lease.released")


def test_fields_cannot_forge_what_the_journal_or_we_rely_on(tmp_path: Path) -> None:
    with (
        JournalReceiver(tmp_path / "journal") as journal,
        Logging(log_format="journald", journal_socket=journal.path),
    ):
        structlog.get_logger().warning(
            "odd",
            **{
                "message": "two\nlines\nPRIORITY=0",
                "priority": 1,
                "_uid": 0,
                "code_line": 3,
                "with space-and=sign": "x\nPRIORITY=0\ny",
                "9lives": 9,
                "nothing": None,
                "x" * 80: "long",
            },
        )
        entry = journal.entry()
    assert entry["MESSAGE"] == "two\nlines\nPRIORITY=0"
    assert entry["PRIORITY"] == "4"
    assert entry["SUPEREZIO_PRIORITY"] == "1"
    assert entry["UID"] == "0"
    assert entry["SUPEREZIO_CODE_LINE"] == "3"
    assert entry["WITH_SPACE_AND_SIGN"] == "x\\nPRIORITY=0\\ny"
    assert entry["SUPEREZIO_9LIVES"] == "9"
    assert entry["X" * 64] == "long"
    assert "NOTHING" not in entry


def test_no_field_of_the_journal_has_what_a_terminal_might_obey(tmp_path: Path) -> None:
    nasty = "\x1b[2J\x9b31m\u2028\u202e\x85 fine"
    with (
        JournalReceiver(tmp_path / "journal") as journal,
        Logging(log_format="journald", journal_socket=journal.path),
    ):
        structlog.get_logger().info("shown", message=nasty, comm=nasty, comms=[nasty])
        entry = journal.entry()
    assert all(value.isprintable() for value in entry.values())
    assert entry["COMM"] == entry["MESSAGE"] == r"\x1b[2J\x9b31m\u2028\u202e\x85 fine"
    assert json.loads(entry["COMMS"]) == [nasty], "still JSON"


def test_a_traceback_is_part_of_the_message(tmp_path: Path) -> None:
    with (
        JournalReceiver(tmp_path / "journal") as journal,
        Logging(log_format="journald", journal_socket=journal.path),
    ):
        try:
            raise ValueError("broken")
        except ValueError:
            structlog.get_logger().exception("request.failed", message="It failed.")
        entry = journal.entry()
    assert entry["MESSAGE"].startswith("It failed.\nTraceback (most recent call last):\n")
    assert entry["MESSAGE"].endswith("ValueError: broken")
    assert entry["PRIORITY"] == "3"


def test_an_entry_too_large_for_a_datagram_arrives_in_a_memory_file(tmp_path: Path) -> None:
    large = ["x"] * (1 << 20)
    with (
        JournalReceiver(tmp_path / "journal") as journal,
        Logging(log_format="journald", journal_socket=journal.path),
    ):
        structlog.get_logger().info("large", message="many", gpus=large)
        assert json.loads(journal.entry()["GPUS"]) == large


def test_lost_lines_are_told_in_the_format_of_the_rest(tmp_path: Path) -> None:
    with (
        JournalReceiver(tmp_path / "journal") as journal,
        Logging(log_format="journald", journal_socket=journal.path, capacity=5) as setup,
    ):
        log = structlog.get_logger()
        while not setup.dropped:
            log.info("more")
        while (entry := journal.entry())["EVENT"] == "more":
            pass
        assert entry["EVENT"] == "logging.dropped"
        assert entry["PRIORITY"] == "4"
        assert int(entry["DROPPED"]) >= 1


# --- choice of the format -----------------------------------------------------------------------


def test_the_format_that_is_asked_for_is_used(file: int) -> None:
    assert choose_format("json", fd=file, environ={}) == "json"
    assert choose_format("journald", fd=file, environ={}) == "journald"


def test_a_stream_to_the_journal_is_recognised(file: int) -> None:
    status = os.fstat(file)
    environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    assert choose_format("auto", fd=file, environ=environ) == "journald"


@pytest.mark.parametrize("stream", ["", "1", "1:2", "a:b", ":", "1:2:3", "٣:٤"])
def test_an_inherited_variable_alone_is_not_the_journal(file: int, stream: str) -> None:
    assert choose_format("auto", fd=file, environ={"JOURNAL_STREAM": stream}) == "json"


def test_a_closed_descriptor_is_not_the_journal() -> None:
    assert not is_journal(987, {"JOURNAL_STREAM": "1:2"})


def test_a_journal_that_comes_late_gets_all_in_order_with_when_it_was(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Logging(log_format="journald", journal_socket=str(path)) as setup:
        began = datetime.now(UTC)
        for number in range(50):
            structlog.get_logger().info("counted", number=number)
        assert setup.waiting()[0] == 50
        ended = datetime.now(UTC)
        with JournalReceiver(path) as journal:
            entries = [journal.entry() for _ in range(50)]
    assert [int(entry["NUMBER"]) for entry in entries] == list(range(50))
    early = timedelta(milliseconds=1)  # LOGGED_AT is cut to milliseconds
    assert all(
        began - early <= datetime.fromisoformat(entry["LOGGED_AT"]) <= ended for entry in entries
    )
    assert setup.waiting() == (0, 0.0)
    assert setup.dropped == 0


def test_what_no_journal_took_by_the_end_is_left_in_the_units_stream(tmp_path: Path) -> None:
    ours, systemds = socket.socketpair()
    with ours, systemds:
        fd = ours.fileno()
        status = os.fstat(fd)
        stream = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        nowhere = str(tmp_path / "journal")
        setup = Logging(fd=fd, journal_socket=nowhere, environ=stream)
        assert setup.log_format == "journald"
        structlog.get_logger().info("small.talk")
        structlog.get_logger().critical("gpu.level", message="GPU 0 is\nCRITICAL")
        assert not setup.close(timeout_s=5)
        left = systemds.recv(65536).decode().splitlines()
    assert len(left) == 1
    assert left[0].startswith("<2>GPU 0 is | CRITICAL (gpu.level, logged at 20")
