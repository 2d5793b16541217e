"""superezioctl lease quota."""

from __future__ import annotations

import getpass
import os

from ctl_runner import Ctl
from fake_daemon import FakeDaemon
from superezio import wire

GIB = 1 << 30


def own(**changes: int | None) -> wire.QuotaUse:
    values: dict[str, int | None] = {"vram_limit_bytes": 6 * GIB, "leases_limit": None, **changes}
    return wire.QuotaUse(
        scope="user",
        name=str(os.geteuid()),
        vram_limit_bytes=values["vram_limit_bytes"],
        vram_used_bytes=5 * GIB,
        leases_limit=values["leases_limit"],
        leases_used=2,
    )


STUDENTS = wire.QuotaUse(
    scope="group",
    name="students",
    vram_limit_bytes=8 * GIB,
    vram_used_bytes=7 * GIB,
    leases_limit=4,
    leases_used=3,
)


def test_each_quota_that_applies_has_its_limit_and_what_is_used(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.answers["lease.quota"] = wire.QuotaList(exempt=False, quotas=[own(), STUDENTS])
    assert ctl("lease", "quota") == 0
    head, mine, shared = ctl.out.splitlines()
    assert head.split() == ["QUOTA", "OF", "VRAM", "LEASED", "OF", "LEASES", "OF"]
    mine_words = [getpass.getuser(), "5.0", "GiB", "6.0", "GiB", "2", "no", "limit"]
    assert mine.split() == mine_words
    assert shared.split() == ["group", "students", "7.0", "GiB", "8.0", "GiB", "3", "4"]
    assert ctl.json("lease", "quota")["quotas"][1]["name"] == "students"


def test_whom_nothing_limits_is_told_so_and_what_is_leased(ctl: Ctl, daemon: FakeDaemon) -> None:
    free = own(vram_limit_bytes=None)
    daemon.answers["lease.quota"] = wire.QuotaList(exempt=False, quotas=[free])
    assert ctl("lease", "quota") == 0
    assert ctl.out.startswith("no quota limits what you may lease\n")
    assert "5.0 GiB" in ctl.out
    daemon.answers["lease.quota"] = wire.QuotaList(exempt=True, quotas=[own()])
    assert ctl("lease", "quota") == 0
    assert ctl.out.startswith("you are an admin, whom no quota holds back\n")
