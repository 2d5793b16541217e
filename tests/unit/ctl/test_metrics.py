"""superezioctl metrics."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from ctl_runner import Ctl
from fake_daemon import FakeDaemon, Silence
from metrics_lint import problems, series
from superezio.errors import PermissionDeniedError
from superezioctl.commands.metrics import DOWN
from supereziod.observability.daemon_metrics import DaemonMetrics
from supereziod.observability.exposition import Exposition
from wire_samples import METRICS, METRICS_TYPE


def test_the_text_is_printed_as_it_came(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("metrics") == 0
    assert (ctl.out, ctl.err) == (METRICS, "")
    assert daemon.requests[-1]["method"] == "metrics.get"


def test_programs_get_the_document(ctl: Ctl, daemon: FakeDaemon) -> None:
    del daemon
    assert ctl.json("metrics") == {"content_type": METRICS_TYPE, "text": METRICS}


def test_a_textfile_is_for_all_to_read(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path) -> None:
    del daemon
    before = os.umask(0o077)
    try:
        assert ctl("metrics", "--textfile", str(tmp_path / "superezio.prom")) == 0
    finally:
        os.umask(before)
    assert (ctl.out, ctl.err) == ("", "")
    file = tmp_path / "superezio.prom"
    assert file.read_text() == METRICS
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [file]


def test_a_textfile_may_be_named_without_its_folder(
    ctl: Ctl, daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del daemon
    monkeypatch.chdir(tmp_path)
    document = ctl.json("metrics", "--textfile", "superezio.prom")
    assert document["text"] == METRICS == (tmp_path / "superezio.prom").read_text()


def test_a_reader_finds_all_of_the_old_text_or_all_of_the_new(
    ctl: Ctl, daemon: FakeDaemon, tmp_path: Path
) -> None:
    file = tmp_path / "superezio.prom"
    texts = [letter * 200_000 + "\n" for letter in "ab"]
    daemon.answers["metrics.get"] = lambda _: {
        "content_type": METRICS_TYPE,
        "text": texts[len(daemon.requests) % 2],
    }
    assert ctl("metrics", "--textfile", str(file)) == 0
    found: set[str] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            found.add(file.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(50):
            assert ctl("metrics", "--textfile", str(file)) == 0
    finally:
        done.set()
        reader.join()
    assert found == set(texts)


def test_a_file_that_cannot_be_written_stays_as_it_was(
    ctl: Ctl, daemon: FakeDaemon, tmp_path: Path
) -> None:
    del daemon
    folder = tmp_path / "folder.prom"
    folder.mkdir()
    assert ctl("metrics", "--textfile", str(folder)) == 1
    assert f"cannot write {folder}: Is a directory" in ctl.err
    assert ctl("metrics", "--textfile", str(tmp_path / "none" / "x.prom")) == 1
    assert "No such file or directory" in ctl.err
    assert ctl("--json", "metrics", "--textfile", str(folder)) == 1
    failed = json.loads(ctl.out)["error"]
    assert (failed["kind"], "Is a directory" in failed["message"]) == ("file_not_written", True)
    assert list(tmp_path.iterdir()) == [folder]


def test_where_no_daemon_answers_the_file_says_so(
    ctl: Ctl, daemon: FakeDaemon, tmp_path: Path, no_journal: Path
) -> None:
    del no_journal
    file = tmp_path / "superezio.prom"
    daemon.answers["metrics.get"] = Silence
    assert ctl("metrics", "--timeout", "100ms", "--textfile", str(file)) == 124
    assert file.read_text() == DOWN
    file.write_text(METRICS)
    daemon.stop()
    assert ctl("metrics", "--textfile", str(file)) == 5
    assert file.read_text() == DOWN
    assert "is not running" in ctl.err
    assert ctl("--json", "metrics", "--textfile", str(file)) == 5
    assert '"kind": "daemon_not_running"' in ctl.out


def test_a_daemon_that_refuses_is_not_down(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.answers["metrics.get"] = PermissionDeniedError("not for you")
    file = tmp_path / "superezio.prom"
    file.write_text(METRICS)
    assert ctl("metrics", "--textfile", str(file)) == 4
    assert file.read_text() == METRICS


def test_that_no_daemon_answers_is_said_in_the_words_of_the_daemon() -> None:
    assert problems(DOWN) == []
    assert series(DOWN) == {("superezio_up", ()): 0}
    source = DaemonMetrics(version="1", started_s=0, log_lines_dropped=lambda: 0)
    assert DOWN.replace("superezio_up 0.0", "superezio_up 1.0") in Exposition([source]).text()
