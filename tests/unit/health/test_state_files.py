"""Files of the daemon's that are taken away under it are seen by itself, mended, and told."""

from __future__ import annotations

import asyncio

from supereziod.health.state_files import StateFiles
from supereziod.observability.events import EventLog


class File:
    def __init__(self) -> None:
        self.mended: str | None = None
        self.looks = 0
        self.seen = asyncio.Event()

    def look(self) -> str | None:
        self.looks += 1
        self.seen.set()
        told, self.mended = self.mended, None
        return told


async def test_what_was_mended_is_told_once_and_all_files_are_looked_at() -> None:
    events, one, other = EventLog(), File(), File()
    told: list[tuple[str, str, str]] = []
    events.listen(lambda event: told.append((event.type, event.severity, event.message)))
    files = StateFiles((one, other), events=events)
    one.mended = "state.db was removed, and is written anew"
    files.look()
    files.look()
    assert told == [("state.mended", "warning", "state.db was removed, and is written anew")]
    assert (one.looks, other.looks) == (2, 2)


async def test_it_looks_by_itself_until_it_is_closed() -> None:
    file = File()
    files = StateFiles((file,), events=EventLog(), interval_s=0)
    await files.start()
    for _ in range(3):
        file.seen.clear()
        await file.seen.wait()
    await files.aclose()
    looks = file.looks
    for _ in range(3):
        await asyncio.sleep(0)
    assert file.looks == looks
