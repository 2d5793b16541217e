"""The table of what was tried, which is printed at the end."""

from __future__ import annotations

import pytest

from system.faults.fault import Outcome
from system.faults.table import report

_OUTCOMES = pytest.StashKey[list[Outcome]]()


@pytest.fixture(scope="session")
def outcomes(pytestconfig: pytest.Config) -> list[Outcome]:
    """What was tried so far."""
    return pytestconfig.stash.setdefault(_OUTCOMES, [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    outcomes = config.stash.get(_OUTCOMES, [])
    if outcomes:
        terminalreporter.section("faults")
        for line in report(outcomes):
            terminalreporter.write_line(line)
