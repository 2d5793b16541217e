"""Reading files that somebody may be writing: when they have been still for a moment, and whole.

A file that is written in place is empty first and then half of itself, and either may be a good
configuration: of defaults, or without what comes last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from supereziod.config.loader import FileStamp, Loaded, Source
from supereziod.config.setting import ConfigError, Origin, Problem, as_utf8

#: What was changed less long ago may not be done yet.
_STILL_NS: Final = 50_000_000
#: Looks, one after each pause of that length: a second in all.
_LOOKS: Final = 20


def load_when_still(
    source: Source,
    *,
    now: Callable[[], int] = time.time_ns,
    pause: Callable[[float], None] = time.sleep,
) -> Loaded:
    """Load as `source.load` does, when nobody has written for a moment, nor does meanwhile.

    Blocks for up to a second; then raises ConfigError, as for files that are wrong. `now` is the
    time of day in nanoseconds, which files have.
    """
    stamps = source.stamps()
    for _ in range(_LOOKS):
        if _changed_just_now(stamps, now()) is None:
            try:
                loaded = source.load()
            except ConfigError:
                if source.stamps() == stamps:
                    raise
            else:
                if source.stamps() == stamps:
                    return loaded
        pause(_STILL_NS / 1e9)
        stamps = source.stamps()
    busy = _changed_just_now(stamps, now())
    file = busy.file if busy is not None else source.file or source.default_file
    message = "somebody is writing it all the time: reload when that is done"
    raise ConfigError([Problem(origin=Origin(name=as_utf8(str(file))), key="", message=message)])


def _changed_just_now(stamps: tuple[FileStamp, ...], now_ns: int) -> FileStamp | None:
    # A time to come is of a clock that was set since.
    young = (each for each in stamps if 0 <= now_ns - each.changed_ns < _STILL_NS)
    return next(young, None)
