"""Which inputs are worth keeping: the short ones first, each that reaches a new line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from fuzz.faults import SOURCES

#: A longer input is of no use to whoever has to read it.
MOST_BYTES: Final = 4096

_Line = tuple[str, int]


def worth_keeping(files: Iterable[Path], target: Callable[[bytes], None]) -> list[Path]:
    """Return those that reach a line of the daemon which those before them do not."""
    reached: set[_Line] = set()
    kept = []
    for file in sorted(files, key=lambda file: (file.stat().st_size, file.name)):
        if file.stat().st_size > MOST_BYTES:
            break
        before = len(reached)
        with _noting(reached):
            target(file.read_bytes())
        if len(reached) > before:
            kept.append(file)
    return kept


@contextmanager
def _noting(reached: set[_Line]) -> Any:
    ours = f"{SOURCES}/"

    def enter(frame: FrameType, _event: str, _arg: object) -> Any:
        return note if frame.f_code.co_filename.startswith(ours) else None

    def note(frame: FrameType, _event: str, _arg: object) -> Any:
        reached.add((frame.f_code.co_filename, frame.f_lineno))
        return note

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)
