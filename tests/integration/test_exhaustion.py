"""One user takes all it can of each kind, and another is served: `make exhaustion` takes longer.

SEMANTICS, case 21: a user who fills every limit leaves the others served.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exhaustion import FIRST_HOSTILE, KINDS, Kind, Row, exhaustible, observe, table, why_not
from live_daemon import LiveDaemon

_WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(_WHY_NOT is not None, reason=str(_WHY_NOT))

#: Of each kind, once it is exhausted.
SECONDS = 0.3
#: To open 6,000 takes seconds.
CONFIG = "[limits]\nconnections_per_uid = 2000\n"
_rows: list[Row] = []


@pytest.fixture(scope="module")
def daemon() -> Iterator[LiveDaemon]:
    with exhaustible(CONFIG) as daemon:
        yield daemon
    print(f"\n{table(_rows)}")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_user_who_exhausts_one_kind_is_refused_and_another_is_served(
    daemon: LiveDaemon, kind: Kind
) -> None:
    row = observe(daemon, kind, uid=FIRST_HOSTILE + KINDS.index(kind), seconds=SECONDS)
    _rows.append(row)
    assert not row.faults(), table([row])
    assert "Traceback" not in daemon.log()
