"""The limit of open files, against what the daemon may come to need."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from supereziod.open_files import allow_many_files, shortage_of_files


@pytest.fixture(autouse=True)
def limit() -> Iterator[tuple[int, int]]:
    """The limit as it was before, and is again."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_too_few_files_for_the_connections_and_leases_is_said(limit: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, limit[1]))
    message = shortage_of_files(connections=900, leases=100)
    assert message is not None
    assert "is 1,000, and 900 connections with 100 leases may need 1,064" in message
    assert shortage_of_files(connections=836, leases=100) is None


def test_the_soft_limit_is_raised_to_the_hard_one(limit: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, limit[1]))
    allow_many_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limit[1], limit[1])
