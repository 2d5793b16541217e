"""The limit of open files, against what the daemon may come to need."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from supereziod import settings
from supereziod.config import Config
from supereziod.open_files import allow_many_files, connections_that_fit, shortage_of_files


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


def test_connections_and_leases_share_the_files_that_there_are(limit: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1064, limit[1]))
    assert connections_that_fit(connections=900, leases=100) == 900
    assert connections_that_fit(connections=901, leases=100) == 900
    assert connections_that_fit(connections=9000, leases=1000) == 900
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limit[1]))
    assert connections_that_fit(connections=9000, leases=1000) == 1


def test_a_table_of_connections_that_is_cut_has_room_for_more_than_admins(
    limit: tuple[int, int],
) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, limit[1]))
    cut = settings.rpc_limits(Config())
    assert 0 < cut.connections < 64
    assert cut.connections_reserved == cut.connections // 4
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    asked = Config().limits
    whole = settings.rpc_limits(Config())
    if limit[1] > asked.connections + Config().leases.max_leases + 64:
        assert whole.connections == asked.connections
        assert whole.connections_reserved == asked.connections_reserved
