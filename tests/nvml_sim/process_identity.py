"""A process by pid and start time, as /proc has it."""

from __future__ import annotations

from pathlib import Path

_STATE, _START = 0, 19  # after the name: fields 3 and 22 of /proc/PID/stat


def start_ticks(pid: int) -> int | None:
    """Return when the process started, or None if it does not run (a zombie does not)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[_STATE] in "ZX" else int(fields[_START])
