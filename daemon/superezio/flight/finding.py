"""Which requests are looked for, how many are enough, and how far back they are looked for."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator

from superezio.flight.reading import Entry, RingReader, Sieve, identity
from superezio.flight.records import IN_FLIGHT, OK, RequestNote
from superezio.wire import TraceFindParams


class Finding:
    """Looks through a ring for what `params` say.

    `now_ns` is the time of day. `alive` is the life of the daemon that runs: what waited in another
    one was never answered. It ends, `cut`, after `most_slices` of a lane.
    """

    def __init__(
        self,
        reader: RingReader,
        params: TraceFindParams,
        *,
        now_ns: int,
        alive: int | None = None,
        visible: Callable[[int], bool] = lambda _uid: True,
        most_slices: int | None = None,
    ) -> None:
        self._reader = reader
        self._params = params
        self._now_ns = now_ns
        self._alive = alive
        self._most_slices = most_slices
        #: Whether it ended before it was through: there may be more, and older.
        self.cut = False
        self._sieve = Sieve(
            visible=visible,
            of_method=self._is_of_method,
            # What was answered at once neither failed nor took long.
            at_once=params.slow_ms is None and not params.failed,
            floor_ns=self._floor_ns,
            most=params.last,
        )
        self._oldest_ns = 0 if params.since_s is None else now_ns - round(params.since_s * 1e9)
        #: The newest so far, the oldest of them first: (time, number, that one's turn, entry).
        self._found: list[tuple[int, int, int, Entry]] = []
        self._turns = itertools.count()
        self._seen: set[tuple[str, str, int]] = set()

    def run(self) -> Iterator[None]:
        """Look; what takes long is done in slices, between which this yields."""
        yield from self._look_through(full=True)
        # Of what is recorded in short it is not known how long it took.
        if self._params.slow_ms is None:
            yield from self._look_through(full=False)

    @property
    def found(self) -> list[Entry]:
        """What was found: up to as many as were asked for."""
        return [entry for *_, entry in self._found]

    def _look_through(self, *, full: bool) -> Iterator[None]:
        slices = 0
        for entry in self._reader.newest_first(full=full, sieve=self._sieve):
            if entry is None:
                slices += 1
                if slices == self._most_slices:
                    self.cut = True
                    return
                yield None
            elif isinstance(entry.note, RequestNote):
                if self._is_enough(entry, entry.note):
                    return
                self._look_at(entry, entry.note)

    def _floor_ns(self) -> int:
        """Return the time before which nothing is wanted: enough was found that is newer."""
        if len(self._found) < self._params.last:
            return self._oldest_ns
        return max(self._oldest_ns, self._found[0][0])

    def _is_enough(self, entry: Entry, note: RequestNote) -> bool:
        """Tell whether those that were recorded before this one are all too old."""
        return entry.wall_ns + (note.duration_ns or 0) < self._floor_ns()

    def _look_at(self, entry: Entry, note: RequestNote) -> None:
        key = identity(entry)
        if key in self._seen:
            return  # its end is newer than its beginning, and was seen before it
        if entry.short or note.outcome != OK or note.duration_ns is not None:
            self._seen.add(key)
        if self._is_wanted(entry, note):
            turn = next(self._turns)
            heapq.heappush(self._found, (entry.wall_ns, note.number, turn, entry))
            if len(self._found) > self._params.last:
                heapq.heappop(self._found)

    def _is_wanted(self, entry: Entry, note: RequestNote) -> bool:
        params = self._params
        if entry.wall_ns < self._oldest_ns:
            return False
        if params.failed and not self._has_failed(entry, note):
            return False
        if note.method in params.omit:
            return False
        if not self._is_of_method(note.method):
            return False
        if params.slow_ms is None:
            return True
        took_ns = note.duration_ns
        if took_ns is None:
            took_ns = self._now_ns - entry.wall_ns if note.outcome == IN_FLIGHT else 0
        return took_ns >= params.slow_ms * 1e6

    def _has_failed(self, entry: Entry, note: RequestNote) -> bool:
        if note.outcome == IN_FLIGHT:
            return entry.era.life != self._alive
        return note.outcome != OK

    def _is_of_method(self, method: str | None) -> bool:
        wanted = self._params.method
        if wanted is None:
            return True
        if method is None:
            return False
        return method.startswith(wanted) if wanted.endswith(".") else method == wanted
