"""The tests of the ring and the recorder see each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

UNIT = Path(__file__).parents[1]
LAYOUT_TESTS = UNIT / "superezio" / "flight" / "test_layout.py"
RING_TESTS = UNIT / "observability" / "test_ring.py"
RECORDING_TESTS = UNIT / "rpc" / "test_recording.py"
SERIES_TESTS = UNIT / "rpc" / "test_series.py"
TRACE_TESTS = UNIT / "rpc" / "commands" / "test_trace.py"
CTL_TESTS = UNIT / "ctl" / "test_trace.py"
FINDING_TESTS = UNIT / "observability" / "test_finding.py"
SHARES_TESTS = UNIT / "observability" / "test_lane_shares.py"

LAYOUT = "superezio.flight.layout"
HEAD = "superezio.flight.head"
READING = "superezio.flight.reading"
FINDING = "superezio.flight.finding"
RING = "supereziod.observability.ring"
RECORDER = "supereziod.observability.flight_recorder"
LANE = "supereziod.observability.plain_lane"
SHARES = "supereziod.observability.lane_shares"
SHORT = "supereziod.observability.short_records"
HOT_CALLS = "supereziod.rpc.hot_calls"
ANSWERING = "supereziod.rpc.answering"
RECORDING = "supereziod.rpc.recording"
INTAKE = "supereziod.rpc.intake"
TRACE = "supereziod.rpc.commands.trace"

READERS = [FINDING_TESTS, TRACE_TESTS, CTL_TESTS, RING_TESTS, RECORDING_TESTS, SHARES_TESTS]
RECORDERS = [SHARES_TESTS, RECORDING_TESTS]
JUDGES = {
    LAYOUT: [LAYOUT_TESTS],
    HEAD: [RING_TESTS],
    READING: READERS,
    FINDING: READERS,
    RING: [RING_TESTS],
    RECORDER: [*RECORDERS, SERIES_TESTS],
    LANE: [SERIES_TESTS, RING_TESTS],
    SHARES: RECORDERS,
    SHORT: RECORDERS,
    HOT_CALLS: [RECORDING_TESTS, SERIES_TESTS],
    ANSWERING: [RECORDING_TESTS, SERIES_TESTS],
    RECORDING: [RECORDING_TESTS, SERIES_TESTS],
    INTAKE: [RECORDING_TESTS, SERIES_TESTS],
    TRACE: READERS,
}

MUTANTS = (
    Mutant(
        "takes a torn plain record for whole",
        LAYOUT,
        "if place != again or place % len(lane) != at or not requests:",
        "if place % len(lane) != at or not requests:",
    ),
    Mutant(
        "takes a torn full record for whole",
        LAYOUT,
        "    if crc32(body) != checksum:\n        return None\n",
        "",
    ),
    Mutant(
        "takes a copy at another place for a record",
        LAYOUT,
        "if place != again or place % len(lane) != at or not requests:",
        "if place != again or not requests:",
    ),
    Mutant(
        "marks records with letters",
        LAYOUT,
        "FULL: Final = 0xFFF7",
        "FULL: Final = 0x3030",
    ),
    Mutant(
        "goes on behind the newest even if that is torn",
        LAYOUT,
        "        if record is not None and record.place == place:\n"
        "            return place, place + record.size\n",
        "        return place, place + UNIT_BYTES\n",
    ),
    Mutant(
        "writes the head over the one that counts",
        HEAD,
        "    start = generation % 2 * SLOT_BYTES\n",
        "    start = 0\n",
    ),
    Mutant(
        "takes a damaged head for whole",
        HEAD,
        "if crc32(body) == checksum and (head",
        "if (head",
    ),
    Mutant(
        "takes the older head",
        HEAD,
        "generation, head = max(found",
        "generation, head = min(found",
    ),
    Mutant(
        "begins anew in each life",
        LANE,
        "self.place = newest(buffer)[1] or self.size",
        "self.place = self.size",
    ),
    Mutant(
        "writes across the end of the lane",
        RING,
        "        if at + size > self._full_bytes:\n",
        "        if at > self._full_bytes:\n",
    ),
    Mutant(
        "gives the file to everybody",
        RING,
        "_MODE: Final = 0o600",
        "_MODE: Final = 0o644",
    ),
    Mutant(
        "leaves holes in the file",
        RING,
        "            os.posix_fallocate(descriptor, 0, size)\n",
        "            os.ftruncate(descriptor, size)\n",
    ),
    Mutant(
        "follows a link",
        RING,
        "os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK",
        "os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK",
    ),
    Mutant(
        "numbers the methods anew in each life",
        RING,
        "        if name not in methods:\n",
        "        if name not in methods or True:\n            methods = []\n",
    ),
    Mutant(
        "does not see that the clock was set",
        RING,
        "if abs(wall_ns - self._wall_ns) > _ERA_NS:",
        "if False:",
    ),
    Mutant(
        "keeps eras without bound",
        RING,
        "eras = [*self._head.eras, era][-MAX_ERAS:]",
        "eras = [*self._head.eras, era]",
    ),
    Mutant(
        "lets a flood take the whole lane",
        SHARES,
        "- now_ns < _BURST_NS or",
        "- now_ns < 100 * _BURST_NS or",
    ),
    Mutant(
        "never lets one write again",
        SHARES,
        "                self._forget(now_ns)\n            paid_ns = now_ns\n",
        "                self._forget(now_ns)\n            paid_ns = now_ns + _BURST_NS\n",
    ),
    Mutant(
        "holds whoever is alone to a share",
        SHARES,
        " or self._is_alone(uid, end)",
        "",
    ),
    Mutant(
        "takes a record of one's own for another's",
        SHARES,
        "self._other_end if uid == self._last_uid else self._last_end",
        "self._last_end",
    ),
    Mutant(
        "has who was alone pay for it for long",
        SHARES,
        "            paid_ns = now_ns + _BURST_NS\n",
        "            pass\n",
    ),
    Mutant(
        "forgets the debt of all at once",
        SHARES,
        "self._paid_ns[uid] = paid_ns + ",
        "self._paid_ns[uid] = now_ns + ",
    ),
    Mutant(
        "takes a lane that was written for an empty one",
        SHARES,
        "end if end > lane_bytes else 0",
        "0",
    ),
    Mutant(
        "keeps each user for ever",
        SHARES,
        "if ns > now_ns}",
        "}",
    ),
    Mutant(
        "names short records without bound",
        SHORT,
        "            name = short_text(None, outcome)\n",
        "            pass\n",
    ),
    Mutant(
        "cuts the end of what is begun",
        RECORDER,
        "if not begun and not self.has_room",
        "if not self.has_room",
    ),
    Mutant(
        "does not charge what is named",
        RECORDER,
        "            self._shares.wrote(uid, begin, begin + NAMED_BYTES, received_ns)\n",
        "",
    ),
    Mutant(
        "does not charge full records",
        RECORDER,
        "        self._shares.wrote(note.uid, begin, self._ring.full_end, self._clock())\n",
        "",
    ),
    Mutant(
        "takes a short beginning for an end",
        FINDING,
        "if entry.short or note.outcome",
        "if note.outcome",
    ),
    Mutant(
        "does not find failures that were cut",
        FINDING,
        "if self._params.slow_ms is None:\n            yield from",
        "if not self._params.failed and self._params.slow_ms is None:\n            yield from",
    ),
    Mutant(
        "looks at all requests of a record without a pause",
        READING,
        "                if looked_at % LOOKED_AT_A_SLICE == 0:\n                    yield None\n",
        "",
    ),
    Mutant(
        "looks at many records without a pause",
        READING,
        "_SLICE_BYTES: Final = LOOKED_AT_A_SLICE * UNIT_BYTES",
        "_SLICE_BYTES: Final = 256 * LOOKED_AT_A_SLICE * UNIT_BYTES",
    ),
    Mutant(
        "looks into records of other methods",
        READING,
        "return False, sieve.at_once and sieve.of_method(read_method(name)[0] or None)",
        "return False, sieve.at_once",
    ),
    Mutant(
        "looks into records that are too old",
        READING,
        "            return () if short else None\n",
        "            pass\n",
    ),
    Mutant(
        "ends a search at one that was recorded in short long after it was received",
        READING,
        "            return () if short else None\n",
        "            return None\n",
    ),
    Mutant(
        "looks into what was answered at once for what failed",
        FINDING,
        "at_once=params.slow_ms is None and not params.failed,",
        "at_once=True,",
    ),
    Mutant(
        "looks at more requests of a record than are asked for",
        FINDING,
        "most=params.last,",
        "",
    ),
    Mutant(
        "searches without end",
        FINDING,
        "                if slices == self._most_slices:\n",
        "                if False:\n",
    ),
    Mutant(
        "does not say that it was cut",
        FINDING,
        "                    self.cut = True\n",
        "",
    ),
    Mutant(
        "shows plain records of others in a list",
        READING,
        "if not wanted or not sieve.visible(plain.uid):",
        "if not wanted:",
    ),
    Mutant(
        "shows others' plain records",
        READING,
        "                and visible(plain.uid)\n",
        "",
    ),
    Mutant(
        "keeps the beginning of a request for its end",
        READING,
        "if known is None or _waits(known.note):",
        "if known is None:",
    ),
    Mutant(
        "loses what stands across two slices",
        READING,
        "text = bytes(lane[start : min(size, stop + len(needle))])",
        "text = bytes(lane[start:stop])[:-64]",
    ),
    Mutant(
        "finds all for failed",
        FINDING,
        "        return note.outcome != OK\n",
        "        return True\n",
    ),
    Mutant(
        "finds the oldest",
        FINDING,
        "heapq.heappush(self._found, (entry.wall_ns,",
        "heapq.heappush(self._found, (-entry.wall_ns,",
    ),
    Mutant(
        "does not record a request that waits",
        RECORDING,
        "        self.recorder.begun(request)\n",
        "",
    ),
    Mutant(
        "counts one that failed to those before it",
        HOT_CALLS,
        "        self._recording.end_run(line, request.number)\n",
        "        self._recording.end_run(line, request.number + 1)\n",
    ),
    Mutant(
        "goes on with a run over a request of another kind",
        ANSWERING,
        "        self.recording.end_run(line, line.requests)\n        timeline",
        "        timeline",
    ),
    Mutant(
        "records all of a read as of its first method",
        RECORDING,
        "        elif run.marks is not marks:\n",
        "        elif run.marks is None:\n",
    ),
    Mutant(
        "counts requests of another method into a series",
        HOT_CALLS,
        "series.marks is route.marks and now_ns",
        "now_ns",
    ),
    Mutant(
        "goes on with a series for ever",
        HOT_CALLS,
        "series.marks is route.marks and now_ns < series.until_ns",
        "series.marks is route.marks and series.until_ns",
    ),
    Mutant(
        "tells of requests of a series when it is over",
        HOT_CALLS,
        "                self._counts[series.at] = number - series.before\n",
        "                pass\n",
    ),
    Mutant(
        "tells of one too few of a series",
        LANE,
        "        series.before = number - 1\n",
        "        series.before = number\n",
    ),
    Mutant(
        "records one that failed among many as done",
        HOT_CALLS,
        "            odd, error = call, why\n",
        "            odd, error, number = call, why, number + 1\n",
    ),
    Mutant(
        "goes on with a series over one that failed",
        RECORDING,
        "        line.series.end()\n        run = line.run\n",
        "        run = line.run\n",
    ),
    Mutant(
        "goes on with a series over a read of many",
        RECORDING,
        "        line.series.end()\n        if numbers:\n",
        "        if numbers:\n",
    ),
    Mutant(
        "keeps a series of each connection there was",
        RECORDING,
        "        self._plain.forget(line.series)\n",
        "        line.series.end()\n",
    ),
    Mutant(
        "counts into a record that another has taken the place of",
        LANE,
        "        for series in self._series:\n            series.end()\n",
        "        for series in self._series:\n",
    ),
    Mutant(
        "lets a lap end without a word where a series begins it",
        LANE,
        "            self._end_series()\n        write_plain(self._buffer, at, marks",
        "            pass\n        write_plain(self._buffer, at, marks",
    ),
    Mutant(
        "knows a series for its first lap alone",
        LANE,
        "            series.is_listed = False\n",
        "",
    ),
    Mutant(
        "joins requests that are further apart than it says",
        LANE,
        "received_ns + SERIES_NS",
        "received_ns + SERIES_NS + 1",
    ),
    Mutant(
        "loses the last requests of a read",
        INTAKE,
        "            self._host.dispatcher.recording.end_run(line, line.requests + 1)\n",
        "",
    ),
    Mutant(
        "loses the trace of what is answered at once",
        RECORDING,
        "        if meta.traceparent is not None:\n",
        "        if False:\n",
    ),
    Mutant(
        "loses what a request came to",
        RECORDING,
        "        if request.came_to is not None:\n",
        "        if False:\n",
    ),
    Mutant(
        "loses what a traced request came to",
        RECORDING,
        'marks_of(request.came_to or "")',
        'marks_of("")',
    ),
    Mutant(
        "takes what the last request came to for what this one did",
        HOT_CALLS,
        "        request.accepted_id = None\n        request.came_to = None\n",
        "        request.accepted_id = None\n",
    ),
    Mutant(
        "leaves a refused request's timeline to the next one",
        RECORDING,
        "            request.timeline = kept\n",
        "            pass\n",
    ),
    Mutant(
        "does not say what held a refused request back",
        RECORDING,
        "            timeline.mark(*said)\n",
        "",
    ),
    Mutant(
        "takes the connection's session for the one named",
        RECORDING,
        "who = in_session(line.stamp, request.session.key)",
        "who = line.stamp",
    ),
    Mutant(
        "leaves the GPUs out where a lease fails",
        RECORDER,
        "            return self._samples(None)\n",
        "            return []\n",
    ),
    Mutant(
        "holds the loop for a whole search",
        TRACE,
        "            for _ in finding.run():\n                await asyncio.sleep(0)\n",
        "            for _ in finding.run():\n                pass\n",
    ),
    Mutant(
        "bounds the spans of no id",
        TRACE,
        "if taken >= _SPANS_PER_ID:",
        "if False:",
    ),
)

mutants, test_passes, test_the_suite_kills_recorders_that = kept_list(
    MUTANTS, tests=lambda mutant: JUDGES[mutant.module]
)
