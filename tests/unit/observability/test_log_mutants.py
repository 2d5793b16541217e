"""The tests of how lines leave, and wait for a journal that is away, see each of these faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
KEEPING_TESTS = HERE / "test_log_keeping.py"
LOGGING_TESTS = HERE / "test_logging_setup.py"
SPACE_TESTS = HERE / "test_journal_space.py"
JUDGES = {
    "log_writer": [KEEPING_TESTS],
    "journald": [KEEPING_TESTS, LOGGING_TESTS],
    "journal_space": [SPACE_TESTS, KEEPING_TESTS],
    "logging_setup": [KEEPING_TESTS],
    "log_formats": [LOGGING_TESTS],
    "log_fields": [LOGGING_TESTS],
}


def _mutant(name: str, module: str, old: str, new: str) -> Mutant:
    return Mutant(name, f"supereziod.observability.{module}", old, new)


MUTANTS = (
    _mutant(
        "overtakes what waits",
        "log_writer",
        "if not self._lines and self._sink.try_send(payload):",
        "if self._sink.try_send(payload):",
    ),
    _mutant(
        "keeps lines without bound",
        "log_writer",
        "            self._count_drop()\n            return\n        self._lines",
        "            pass\n        self._lines",
    ),
    _mutant(
        "has a flood take the room of what matters",
        "log_writer",
        "self._capacity + rank * self._capacity // 2",
        "self._capacity",
    ),
    _mutant(
        "has what is ordinary take all room",
        "log_writer",
        "self._capacity + rank * self._capacity // 2",
        "2 * self._capacity",
    ),
    _mutant(
        "gives up on a journal that is away",
        "log_writer",
        "if not self._sink.is_away(error):",
        "if True:",
    ),
    _mutant(
        "waits for ever for a reader that is gone",
        "log_writer",
        "if not self._sink.is_away(error):",
        "if False:",
    ),
    _mutant(
        "takes the one that is being sent off at once",
        "log_writer",
        "                if not self._send(self._lines[0].payload):\n"
        "                    return\n                self._lines.popleft()\n",
        "                if not self._send(self._lines.popleft().payload):\n"
        "                    return\n",
    ),
    _mutant("counts no drops", "log_writer", "self.dropped = next(self._drops)", "pass"),
    _mutant("does not tell drops", "log_writer", "                self._tell_drops()\n", ""),
    _mutant(
        "tells all drops each time",
        "log_writer",
        "self._notice(dropped - self._told)",
        "self._notice(dropped)",
    ),
    _mutant(
        "tells drops while more wait",
        "log_writer",
        "dropped == self._told or self._lines",
        "dropped == self._told",
    ),
    _mutant(
        "saves nothing at the end",
        "log_writer",
        "            self._sink.save(left)\n",
        "            pass\n",
    ),
    _mutant("saves what does not matter", "log_writer", "if line.rank > ORDINARY]", "]"),
    _mutant("says that it has sent all", "log_writer", "return not self._lines", "return True"),
    _mutant(
        "counts the wait from the newest",
        "log_writer",
        "self._lines[0].put_ns",
        "self._lines[-1].put_ns",
    ),
    _mutant(
        "lets JSON drive a terminal",
        "log_formats",
        "return shown_json_bytes(line)",
        "return line",
    ),
    _mutant(
        "spoils the JSON in a field of the journal",
        "log_fields",
        "shown_json(to_json(value).decode())",
        "printable(to_json(value).decode())",
    ),
    _mutant(
        "takes a replaced journal for gone",
        "journald",
        "        errno.ENOENT,\n",
        "",
    ),
    _mutant(
        "takes a stopped journal for gone",
        "journald",
        "        errno.ECONNREFUSED,\n",
        "",
    ),
    _mutant("takes a full journal for gone", "journald", "        errno.ENOSPC,\n", ""),
    _mutant(
        "sends at once to a journal that may be full",
        "journald",
        "if self._space is not None and not self._space.is_known_roomy:\n"
        "            return False\n",
        "if False:\n            return False\n",
    ),
    _mutant(
        "sends to a journal that is full",
        "journald",
        "not self._space.is_known_roomy and not self._space.look():",
        "not self._space.is_known_roomy and self._space.look() is None:",
    ),
    _mutant(
        "waits for the journal on the loop",
        "journald",
        "        self._prompt.socket.setblocking(False)  # noqa: FBT003 - positional-only\n",
        "",
    ),
    _mutant(
        "breaks a saved line in two",
        "journald",
        'in_one_line(fields["MESSAGE"])',
        'fields["MESSAGE"]',
    ),
    _mutant(
        "saves lines without their priority",
        "journald",
        "f\"<{fields['PRIORITY']}>{message}",
        'f"{message}',
    ),
    _mutant(
        "has a field of a line stand for one of the journal's",
        "journald",
        "if _RESERVED.fullmatch(field) or field[0].isdigit():",
        "if field[0].isdigit():",
    ),
    _mutant(
        "believes for ever what it saw",
        "journal_space",
        "self._clock() + _FRESH_NS if",
        "1 << 63 if",
    ),
    _mutant(
        "believes the last look longer",
        "journal_space",
        "self._clock() < self._roomy_until_ns",
        "self._clock() <= self._roomy_until_ns",
    ),
    _mutant(
        "takes a disk without any room for enough",
        "journal_space",
        "max(places) >= _LEAST_BYTES",
        "max(places) >= 0",
    ),
    _mutant("wants room in both places", "journal_space", "max(places)", "min(places)"),
    _mutant(
        "takes what cannot be told for full",
        "journal_space",
        "not places or max",
        "bool(places) and max",
    ),
    _mutant(
        "keeps texts without bound",
        "logging_setup",
        "            cut_long,\n        ]",
        "        ]",
    ),
    _mutant(
        "gives audit records no room of their own",
        "logging_setup",
        '{"event": event, **fields}), IMPORTANT)',
        '{"event": event, **fields}), ORDINARY)',
    ),
    _mutant(
        "takes an alarm for talk",
        "logging_setup",
        "self.error = self.critical = self.exception = partial(put, rank=CRITICAL)",
        "self.error = self.critical = self.exception = partial(put, rank=ORDINARY)",
    ),
)


def _tests_of(mutant: Mutant) -> list[Path]:
    return JUDGES[mutant.module.rpartition(".")[2]]


mutants, test_passes, test_the_suite_kills_one_that = kept_list(MUTANTS, tests=_tests_of)
