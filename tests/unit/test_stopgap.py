"""What the state directory does not take is kept over a restart, and then given to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supereziod.stopgap import DIRECTORY, Stopgap, left_in
from supereziod.storage import Database, Documents, StorageError


class Host:
    """Two directories: the one for state is there only once it was made."""

    def __init__(self, directory: Path) -> None:
        self.runtime_dir = directory / "run"
        self.runtime_dir.mkdir()
        self.state = directory / "state"

    def life(self) -> Documents:
        """Return the documents of a daemon that has just started."""
        database = Database.open(self.state / "state.db", schema=Documents.SCHEMA)
        return Documents(database, stopgap=Stopgap(self.runtime_dir))

    def files(self) -> list[str]:
        return [each.name for each in self.runtime_dir.rglob("*") if each.is_file()]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_nothing_is_kept_here_that_the_state_directory_took(host: Host) -> None:
    host.state.mkdir()
    documents = host.life()
    documents.put("cordons", b"{}")
    assert not documents.is_owed("cordons")
    assert list(host.runtime_dir.iterdir()) == []


def test_what_it_did_not_take_is_there_for_the_next_life_and_no_longer_once_it_has(
    host: Host,
) -> None:
    with pytest.raises(StorageError):
        host.life().put("cordons", b"old")
    with pytest.raises(StorageError):
        host.life().put("cordons", b"new")
    assert left_in(host.runtime_dir, "cordons") == b"new"
    assert left_in(host.runtime_dir, "fitness") is None
    later = host.life()
    assert (later.get("cordons"), later.is_owed("cordons")) == (b"new", True)
    host.state.mkdir()
    later.put("cordons", b"newest")
    assert (later.get("cordons"), later.is_owed("cordons")) == (b"newest", False)
    assert host.files() == []
    last = host.life()
    assert (last.get("cordons"), last.is_owed("cordons")) == (b"newest", False)


def test_what_is_here_is_newer_than_what_the_state_directory_has(host: Host) -> None:
    host.state.mkdir()
    host.life().put("cordons", b"old")
    host.state.rename(host.state.with_name("unmounted"))
    with pytest.raises(StorageError):
        host.life().put("cordons", b"new")
    host.state.with_name("unmounted").rename(host.state)
    assert host.life().get("cordons") == b"new"


def test_it_is_the_daemons_alone_and_whole_or_not_at_all(host: Host) -> None:
    stopgap = Stopgap(host.runtime_dir)
    stopgap.put("cordons", b"whole")
    directory = host.runtime_dir / DIRECTORY
    assert (directory.stat().st_mode & 0o777, (directory / "cordons").stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )
    (directory / ".cordons").write_bytes(b"ha")  # as a life that was killed in the middle
    assert Stopgap(host.runtime_dir).get("cordons") == b"whole"
    assert Stopgap(host.runtime_dir).get(".cordons") is None
    (directory / ".fitness").symlink_to(host.runtime_dir / "elsewhere")
    stopgap.put("fitness", b"x")
    assert not (host.runtime_dir / "elsewhere").exists(), "no link is followed"


def test_what_cannot_be_read_there_loses_nothing_else(host: Host) -> None:
    Stopgap(host.runtime_dir).put("cordons", b"whole")
    for name in ("a", "d", "z"):
        (host.runtime_dir / DIRECTORY / name).mkdir()
    assert Stopgap(host.runtime_dir).get("cordons") == b"whole"
    assert left_in(host.runtime_dir, "a") is None


def test_what_is_kept_already_is_not_written_every_second(host: Host) -> None:
    stopgap = Stopgap(host.runtime_dir)
    stopgap.put("cordons", b"{}")
    file = host.runtime_dir / DIRECTORY / "cordons"
    os.utime(file, ns=(0, 0))
    stopgap.put("cordons", b"{}")
    assert file.stat().st_mtime_ns == 0


def test_where_neither_directory_takes_it_that_is_no_worse_than_without(host: Host) -> None:
    (host.runtime_dir / DIRECTORY).write_text("a file where the directory should be")
    documents = host.life()
    with pytest.raises(StorageError, match=r"state\.db"):
        documents.put("cordons", b"{}")
    assert documents.get("cordons") is None
    assert not documents.is_owed("cordons")
