"""A reload while the files are being written: what is half there is not put in force."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from supereziod.config import ConfigError, Loaded, Source
from supereziod.config.stillness import load_when_still

SECOND_NS = 1_000_000_000
OLD = '[limits]\nconnections = 500\nframe_size = "2MiB"\n'
NEW = '[limits]\nconnections = 600\nframe_size = "3MiB"\n'


class Writer:
    """Somebody who writes the file in place, a step with each pause of the one who reads."""

    def __init__(self, directory: Path, *steps: str) -> None:
        self.file = directory / "superezio.toml"
        self.now_ns = 2_000_000_000 * SECOND_NS
        self.steps = list(steps)
        self.pauses = 0
        self.write(OLD)
        self.now_ns += 3600 * SECOND_NS

    def write(self, text: str) -> None:
        self.file.write_text(text)
        os.utime(self.file, ns=(self.now_ns, self.now_ns))

    def pause(self, seconds: float) -> None:
        self.pauses += 1
        self.now_ns += round(seconds * SECOND_NS)
        if self.steps:
            self.write(self.steps.pop(0))

    def load(self) -> Loaded:
        return load_when_still(Source(file=self.file), now=lambda: self.now_ns, pause=self.pause)


def read(loaded: Loaded) -> tuple[int, int]:
    limits = loaded.config.limits
    return limits.connections, limits.max_frame_bytes


def test_files_that_are_still_are_read_at_once(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    assert read(writer.load()) == (500, 2 << 20)
    assert writer.pauses == 0


@pytest.mark.parametrize("half", ["", NEW[:27], NEW[:14], "not toml ="])
def test_what_is_half_written_is_not_put_in_force(tmp_path: Path, half: str) -> None:
    writer = Writer(tmp_path, NEW[:20], NEW)
    writer.write(half)
    assert read(writer.load()) == (600, 3 << 20)
    assert writer.pauses == 3, "two steps of the writer, and a moment of stillness"


def test_what_is_written_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(tmp_path)
    between: list[Callable[[], None]] = [lambda: writer.write(""), lambda: writer.write(NEW)]
    load = Source.load

    def load_and_meanwhile(source: Source) -> Loaded:
        loaded = load(source)
        if between:
            between.pop(0)()
        return loaded

    monkeypatch.setattr(Source, "load", load_and_meanwhile)
    assert read(writer.load()) == (600, 3 << 20)


def test_a_mistake_that_stays_is_told_and_one_of_a_moment_is_not(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write("nonsense")
    writer.now_ns += SECOND_NS
    with pytest.raises(ConfigError, match="not TOML"):
        writer.load()
    assert writer.pauses == 0


def test_a_file_that_is_never_still_is_refused_within_a_second(tmp_path: Path) -> None:
    writer = Writer(tmp_path, *(f"# {number}\n" for number in range(100)))
    writer.write("")
    began_ns = writer.now_ns
    with pytest.raises(ConfigError, match="somebody is writing it all the time"):
        writer.load()
    assert writer.now_ns - began_ns == SECOND_NS


def test_a_file_of_a_time_to_come_is_read(tmp_path: Path) -> None:
    """The clock was set back since."""
    writer = Writer(tmp_path)
    writer.now_ns -= 7200 * SECOND_NS
    assert read(writer.load()) == (500, 2 << 20)
