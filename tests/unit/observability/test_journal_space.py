"""A journal that has no room is not given what it would lose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from journal_receiver import JournalReceiver
from supereziod.observability.journal_space import JournalSpace

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")


class Journal:
    """The directories of a journal, and a clock."""

    def __init__(self, root: Path) -> None:
        self.now_ns = 0
        self.machine_id = root / "machine-id"
        self.machine_id.write_text("m1\n")
        self.persistent, self.volatile = root / "var", root / "run"
        self.space = JournalSpace(
            roots=(self.persistent, self.volatile),
            machine_id=self.machine_id,
            clock=lambda: self.now_ns,
        )


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def test_where_nothing_can_be_told_there_is_room(journal: Journal) -> None:
    assert journal.space.look()
    journal.machine_id.unlink()
    assert journal.space.look()


def test_what_was_seen_is_believed_for_two_seconds(journal: Journal) -> None:
    assert not journal.space.is_known_roomy
    journal.space.look()
    journal.now_ns = 1_999_999_999
    assert journal.space.is_known_roomy
    journal.now_ns = 2_000_000_000
    assert not journal.space.is_known_roomy


_FULL = """\
import errno, os, sys
from pathlib import Path
from supereziod.observability.journal_space import JournalSpace
from supereziod.observability.journald import JournaldSink
var, run, machine_id, socket = map(Path, sys.argv[1:])
space = JournalSpace(roots=(var, run), machine_id=machine_id)
sink = JournaldSink(str(socket), space=space)
filler = var / "filler"
try:
    with filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65536))
except OSError as error:
    assert error.errno == errno.ENOSPC
assert not sink.try_send([("MESSAGE", "lost")])
try:
    sink.send([("MESSAGE", "lost")])
except OSError as error:
    assert sink.is_away(error), error
else:
    raise SystemExit("it was sent")
(run / "m1").mkdir(parents=True)
assert space.look(), "the journal may be in the other place, which has room"
(run / "m1").rmdir()
assert not space.look()
filler.unlink()
sink.send([("MESSAGE", "kept")])
assert sink.try_send([("MESSAGE", "at once")])
"""


@AS_ROOT
def test_nothing_is_sent_to_a_journal_whose_disk_is_full(journal: Journal, tmp_path: Path) -> None:
    journal.persistent.mkdir()
    mounted = (
        f"mount -t tmpfs -o size=2M none {journal.persistent} && mkdir {journal.persistent}/m1"
    )
    places = [journal.persistent, journal.volatile, journal.machine_id, tmp_path / "socket"]
    with JournalReceiver(tmp_path / "socket") as receiver:
        run = [sys.executable, "-c", _FULL, *map(str, places)]
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", f'{mounted} && exec "$@"', "sh", *run],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert [receiver.entry()["MESSAGE"] for _ in range(2)] == ["kept", "at once"]
