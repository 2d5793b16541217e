"""What is logged while its reader is away is kept, in order, and told where it could not be."""

from __future__ import annotations

import errno
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog

from journal_receiver import JournalReceiver
from supereziod.observability import journal_space
from supereziod.observability.journal_space import JournalSpace
from supereziod.observability.journald import JournaldSink
from supereziod.observability.log_writer import IMPORTANT, ORDINARY, LogWriter
from supereziod.observability.logging_setup import Logging

_PATIENCE_S = 2


class Reader:
    """A sink whose reader is away, is back, or is gone for good."""

    def __init__(self) -> None:
        self.error: int | None = errno.ECONNREFUSED
        self.is_prompt = False
        self.got: queue.Queue[str] = queue.Queue()
        self.saved: list[str] = []
        self.tried = threading.Event()

    def try_send(self, payload: str) -> bool:
        if self.is_prompt:
            self.got.put(payload)
        return self.is_prompt

    def send(self, payload: str) -> None:
        if self.error is not None:
            self.tried.set()
            raise OSError(self.error, "away")
        self.got.put(payload)

    def is_away(self, error: OSError) -> bool:
        return error.errno == errno.ECONNREFUSED

    def save(self, payloads: Iterable[str]) -> int:
        self.saved += payloads
        return len(self.saved)

    def close(self) -> None:
        pass

    def read(self, count: int) -> list[str]:
        return [self.got.get(timeout=_PATIENCE_S) for _ in range(count)]


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def writer(reader: Reader) -> Iterator[LogWriter[str]]:
    made = LogWriter(reader, notice=lambda dropped: f"dropped {dropped}", capacity=2)
    yield made
    made.close(timeout_s=_PATIENCE_S)


def test_what_comes_later_does_not_overtake_what_waits(
    reader: Reader, writer: LogWriter[str]
) -> None:
    writer.put("first")
    reader.is_prompt = True
    writer.put("second")
    assert writer.waiting()[0] == 2
    reader.error = None
    assert reader.read(2) == ["first", "second"]


def test_what_was_dropped_is_told_once_when_nothing_waits_any_more(
    reader: Reader, writer: LogWriter[str]
) -> None:
    for dropped in (3, 2):
        for number in range(2 + dropped):
            writer.put(f"line {number}")
        reader.error = None
        assert reader.read(3) == ["line 0", "line 1", f"dropped {dropped}"]
        reader.error = errno.ECONNREFUSED
    assert writer.dropped == 5


def test_what_is_being_sent_waits_and_is_left_where_it_can_be_at_the_end(
    reader: Reader, writer: LogWriter[str]
) -> None:
    writer.put("alarm", IMPORTANT)
    assert reader.tried.wait(_PATIENCE_S)
    assert writer.waiting()[0] == 1
    writer.put("talk", ORDINARY)
    assert not writer.close(timeout_s=_PATIENCE_S)
    assert reader.saved == ["alarm"]


def test_how_long_the_first_of_them_waits_is_told(reader: Reader) -> None:
    now_ns = [0]
    writer = LogWriter(reader, notice=str, clock=lambda: now_ns[0])
    writer.put("first")
    now_ns[0] = 3_000_000_000
    writer.put("second")
    assert writer.waiting() == (2, 3.0)
    writer.close(timeout_s=_PATIENCE_S)


def test_a_reader_that_is_gone_for_good_is_not_waited_for(
    reader: Reader, writer: LogWriter[str]
) -> None:
    reader.error = errno.EBADF
    writer.put("lost")
    assert writer.close(timeout_s=1)
    assert (writer.dropped, reader.saved) == (1, [])


def test_the_log_knows_what_matters(tmp_path: Path) -> None:
    """Audit records have more room than talk, and errors more than these."""
    absent = str(tmp_path / "nobody")
    setup = Logging(log_format="journald", journal_socket=absent, environ={}, capacity=2)
    try:
        waiting = []
        record: Callable[[], None]
        for record in (
            lambda: structlog.get_logger().info("talk"),
            lambda: setup.notice("audit.done"),
            lambda: structlog.get_logger().error("alarm"),
        ):
            for _ in range(5):
                record()
            waiting.append(setup.waiting()[0])
        assert waiting == [2, 3, 4]
    finally:
        setup.close()


def test_a_text_of_megabytes_does_not_wait_whole(tmp_path: Path) -> None:
    """What a caller sent may stand in it; thousands of lines may wait, and a text keeps its end."""
    with JournalReceiver(tmp_path / "journal") as journal:
        setup = Logging(log_format="journald", journal_socket=journal.path, environ={})
        structlog.get_logger().warning(
            "odd", message="a" * 2_000_000 + "the end", what="b" * 20_000
        )
        entry = journal.entry()
        setup.close()
    assert len(entry["MESSAGE"]) < 17_000
    assert entry["MESSAGE"].startswith("aaa")
    assert entry["MESSAGE"].endswith("athe end")
    assert "... (3616 characters) ..." in entry["WHAT"]


# --- the journal --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["ECONNREFUSED", "ENOENT", "ENOSPC", "ENOBUFS", "EAGAIN", "ENOMEM", "EMFILE"]
)
def test_a_journal_that_is_stopped_replaced_behind_or_full_takes_lines_later(
    tmp_path: Path, name: str
) -> None:
    sink = JournaldSink(str(tmp_path / "socket"))
    assert sink.is_away(OSError(getattr(errno, name), ""))
    assert not sink.is_away(OSError(errno.EMSGSIZE, ""))
    sink.close()


def test_asking_whether_the_journal_takes_a_line_never_waits(tmp_path: Path) -> None:
    sink = JournaldSink(str(tmp_path / "socket"))
    assert not sink._prompt.socket.getblocking()
    sink.close()


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The free bytes of the places where a journal is, by their roots."""
    free: dict[str, int] = {}

    def statvfs(path: Path) -> SimpleNamespace:
        try:
            return SimpleNamespace(f_bfree=free[path.parent.name], f_frsize=1)
        except KeyError:
            raise FileNotFoundError(path) from None

    (tmp_path / "machine-id").write_text("m1\n")
    monkeypatch.setattr(journal_space, "os", SimpleNamespace(statvfs=statvfs))
    return free


def looking(tmp_path: Path) -> JournalSpace:
    roots = (tmp_path / "var", tmp_path / "run")
    return JournalSpace(roots=roots, machine_id=tmp_path / "machine-id", clock=lambda: 0)


@pytest.mark.parametrize(
    ("places", "roomy"),
    [
        ({}, True),
        ({"var": 0}, False),
        ({"var": 512 * 1024 - 1}, False),
        ({"var": 512 * 1024}, True),
        ({"var": 0, "run": 1 << 20}, True),
        ({"var": 1 << 20, "run": 0}, True),
        ({"var": 0, "run": 0}, False),
    ],
)
def test_a_journal_has_room_where_a_new_file_fits_in_one_of_its_places(
    tmp_path: Path, space: dict[str, int], places: dict[str, int], *, roomy: bool
) -> None:
    space.update(places)
    looked = looking(tmp_path)
    assert (looked.look(), looked.is_known_roomy) == (roomy, roomy)


def test_a_journal_without_room_is_sent_nothing(tmp_path: Path, space: dict[str, int]) -> None:
    space["var"] = 0
    with JournalReceiver(tmp_path / "socket") as journal:
        sink = JournaldSink(journal.path, space=looking(tmp_path))
        assert not sink.try_send([("MESSAGE", "lost")])
        with pytest.raises(OSError, match="no room") as refused:
            sink.send([("MESSAGE", "lost")])
        assert sink.is_away(refused.value)
        space["var"] = 1 << 20
        sink.send([("MESSAGE", "kept")])
        assert sink.try_send([("MESSAGE", "at once")])
        assert [journal.entry()["MESSAGE"] for _ in range(2)] == ["kept", "at once"]
        sink.close()
