"""A few hours of the soak, hard ones; `make soak` runs a month. The judge is the simulated host."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from soak.mishaps import MISHAPS
from soak.soak import Soak

pytestmark = pytest.mark.slow

SEEDS = (1, 2, 3, 4)
DAYS = 0.15
HARDSHIP = 10
#: What has to have happened, or the soak shows nothing.
HAPPENED = (
    *(mishap.name for mishap in MISHAPS),
    *("granted process", "granted connection", "granted ttl", "lease.queued"),
    *("ended holder_ended", "ended released", "ended ttl_expired", "ended connection_lost"),
    *("lease.attached", "lease.unreturned", "gpu.overcommitted", "lease.draining"),
    *("lease.grown", "lease.orphaned", "lease.overrun", "raised", "lease.idle"),
    *("ended revoked", "lease.acknowledged", "lease.refused", "lease.kept", "let past"),
    *("refused no_capacity", "refused wait_timeout", "refused never_fits"),
    *("refused holder_not_visible", "refused state_not_writable"),
    *("answers lost", "gave up", "orphans"),
    *("granted in parts", "granted on several", "granted on an instance"),
    *("granted where one is let in", "cut anew", "cut anew with leases"),
    *("granted for a server",),
    *("refused by user quota of vram", "refused by user quota of leases"),
    *("refused by group quota of vram", "refused by group quota of leases"),
    *("let past one over its quota", "taken over", "kept from others"),
)


@pytest.fixture(scope="module")
def happened() -> Counter[str]:
    return Counter()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_ledger_is_the_truth_at_every_step(
    seed: int, tmp_path: Path, happened: Counter[str]
) -> None:
    soak = Soak(MISHAPS, directory=tmp_path, seed=seed, days=DAYS, hardship=HARDSHIP)
    soak.simulate()
    happened += soak.host.counts + soak.judge.counts
    assert soak.judge.counts["exact"] > soak.judge.counts["steps"], "too little could be compared"


def test_everything_has_happened(happened: Counter[str]) -> None:
    assert [what for what in HAPPENED if not happened[what]] == []
