"""A reader that stalls costs lines, never time, and the lost lines are counted and told."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from journal_receiver import JournalReceiver
from supereziod.observability.journald import Entry, JournaldSink
from supereziod.observability.log_writer import (
    CRITICAL,
    IMPORTANT,
    ORDINARY,
    LogWriter,
    StreamSink,
)

_CAPACITY = 100


def notice(dropped: int) -> bytes:
    return b"dropped %d\n" % dropped


class Pipe:
    """A pipe whose reader decides when to read."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)

    def read_until(self, ending: bytes) -> bytes:
        data = b""
        while not data.endswith(ending):
            data += os.read(self.reader, 65536)
        return data

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_lines_arrive_whole_and_in_order(pipe: Pipe) -> None:
    writer = LogWriter(StreamSink(pipe.writer), notice=notice)
    for number in range(1000):
        writer.put(b"line %d\n" % number)
    lines = pipe.read_until(b"line 999\n").splitlines()
    assert lines == [b"line %d" % number for number in range(1000)]
    assert writer.close()
    assert writer.dropped == 0


def test_a_pipe_that_nobody_reads_never_blocks_and_drops_are_counted(pipe: Pipe) -> None:
    writer = LogWriter(StreamSink(pipe.writer), notice=notice, capacity=_CAPACITY)
    started = time.monotonic()
    for number in range(5000):
        writer.put(b"%04d %s\n" % (number, b"x" * 200))
    assert time.monotonic() - started < 5
    assert writer.dropped >= 5000 - _CAPACITY - 50
    dropped = writer.dropped
    data = pipe.read_until(b"dropped %d\n" % dropped)
    assert data.count(b"\n") == 5000 - dropped + 1
    assert writer.close()


def test_a_pipe_made_non_blocking_by_another_holder_is_waited_for(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    full = b"y" * 4096
    os.write(pipe.writer, full)
    writer = LogWriter(StreamSink(pipe.writer), notice=notice)
    line = b"x" * 20_000 + b"end\n"
    writer.put(line)
    assert not writer.close(timeout_s=0.05), "it waits"
    assert pipe.read_until(b"end\n") == full + line
    assert writer.close()
    assert writer.dropped == 0


def test_closing_gives_up_on_a_reader_that_does_not_read(pipe: Pipe) -> None:
    writer = LogWriter(StreamSink(pipe.writer), notice=notice)
    writer.put(b"x" * 20_000 + b"end\n")
    assert not writer.close(timeout_s=0.05)
    pipe.read_until(b"end\n")


def test_a_reader_that_is_gone_is_counted_and_not_raised() -> None:
    reader, fd = os.pipe()
    os.close(reader)
    writer = LogWriter(StreamSink(fd), notice=notice)
    writer.put(b"lost\n")
    assert writer.close()
    assert writer.dropped == 1
    os.close(fd)


def test_a_journal_that_does_not_read_never_blocks_and_drops_are_counted(tmp_path: Path) -> None:
    def entry(dropped: int) -> Entry:
        return [("MESSAGE", f"dropped {dropped}")]

    with JournalReceiver(tmp_path / "journal") as journal:
        writer = LogWriter(JournaldSink(journal.path), notice=entry, capacity=_CAPACITY)
        sent = 20_000
        started = time.monotonic()
        for number in range(sent):
            writer.put([("MESSAGE", f"line {number}")])
        assert time.monotonic() - started < 5
        dropped = writer.dropped
        assert dropped > 0
        messages = [journal.entry()["MESSAGE"] for _ in range(sent - dropped + 1)]
        assert messages[-1] == f"dropped {dropped}"
        assert messages[0] == "line 0"
        writer.put([("MESSAGE", "after")])
        assert journal.entry()["MESSAGE"] == "after"
        assert writer.close()


def test_the_journal_is_reached_without_the_thread_while_it_reads(tmp_path: Path) -> None:
    with JournalReceiver(tmp_path / "journal") as journal:
        sink = JournaldSink(journal.path)
        assert sink.try_send([("MESSAGE", "at once")])
        assert journal.entry() == {"MESSAGE": "at once"}
        sink.close()


def test_a_journal_that_is_replaced_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    sink = JournaldSink(str(path))
    with JournalReceiver(path) as journal:
        sink.send([("MESSAGE", "first")])
        assert journal.entry()["MESSAGE"] == "first"
    assert not sink.try_send([("MESSAGE", "lost")])
    path.unlink()
    with JournalReceiver(path) as journal:
        assert sink.try_send([("MESSAGE", "second")])
        assert journal.entry()["MESSAGE"] == "second"
    sink.close()


def test_lines_from_many_threads_all_arrive(pipe: Pipe) -> None:
    writer = LogWriter(StreamSink(pipe.writer), notice=notice)

    def log(name: int) -> None:
        for number in range(200):
            writer.put(b"%d-%d\n" % (name, number))

    threads = [threading.Thread(target=log, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    data = b""
    while data.count(b"\n") < 800:
        data += os.read(pipe.reader, 65536)
    for thread in threads:
        thread.join()
    assert set(data.split()) == {b"%d-%d" % (n, m) for n in range(4) for m in range(200)}
    assert writer.close()


def test_what_matters_has_room_where_a_flood_has_left_none(tmp_path: Path) -> None:
    """No rank takes the room that is kept for those above it, and all keep their order."""
    path = tmp_path / "journal"

    def entry(text: str) -> Entry:
        return [("MESSAGE", text)]

    writer = LogWriter(
        JournaldSink(str(path)), notice=lambda dropped: entry(f"dropped {dropped}"), capacity=10
    )
    for _ in range(2):
        for number in range(20):
            writer.put(entry(f"talk {number}"), ORDINARY)
        for number in range(20):
            writer.put(entry(f"warning {number}"), IMPORTANT)
        for number in range(4):
            writer.put(entry(f"alarm {number}"), CRITICAL)
    kept = [*(f"talk {n}" for n in range(10)), *(f"warning {n}" for n in range(5))]
    kept += [f"alarm {n}" for n in (0, 1, 2, 3, 0)]
    assert writer.waiting()[0] == len(kept)
    assert writer.dropped == 2 * 44 - len(kept)
    with JournalReceiver(path) as journal:
        assert [journal.entry()["MESSAGE"] for _ in kept] == kept
        assert journal.entry()["MESSAGE"] == f"dropped {writer.dropped}"
    assert writer.close()


def test_how_long_lines_wait_is_told(tmp_path: Path) -> None:
    now = [0]
    sink = JournaldSink(str(tmp_path / "journal"))
    writer = LogWriter(sink, notice=lambda _: [("MESSAGE", "")], clock=lambda: now[0])
    assert writer.waiting() == (0, 0.0)
    writer.put([("MESSAGE", "first")])
    now[0] = 3_000_000_000
    writer.put([("MESSAGE", "second")])
    assert writer.waiting() == (2, 3.0)
    assert not writer.close(timeout_s=5), "they were not sent"


def test_a_journal_that_was_stopped_and_left_its_socket_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with JournalReceiver(path) as journal:
        writer = LogWriter(JournaldSink(journal.path), notice=lambda _: [("MESSAGE", "")])
    writer.put([("MESSAGE", "meanwhile")])
    path.unlink()
    with JournalReceiver(path) as journal:
        assert journal.entry()["MESSAGE"] == "meanwhile"
    assert writer.close()
