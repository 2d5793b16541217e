"""The table of what was tried, which is printed at the end."""

from __future__ import annotations

import pytest

from system.faults.fault import Outcome, table

_OUTCOMES = pytest.StashKey[list[Outcome]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_OUTCOMES] = []


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
        for line in table(outcomes):
            terminalreporter.write_line(line)
