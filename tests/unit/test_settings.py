"""From the configuration to the values of the parts: who users and groups are."""

from __future__ import annotations

import grp
import os
import pwd

from structlog.testing import capture_logs

from supereziod import settings
from supereziod.config.leases import Quota, Quotas
from supereziod.leases import quotas


def test_quotas_name_users_and_groups_by_name_or_by_number() -> None:
    me, mine = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    rules = settings.quota_rules(
        Quotas(
            default=Quota(leases=1),
            user={me: Quota(leases=2), "4711": Quota(vram_bytes=3)},
            group={mine: Quota(leases=4), "4712": Quota(vram_bytes=5)},
        )
    )
    assert rules == quotas.QuotaRules(
        default=quotas.Quota(leases=1),
        by_uid={os.getuid(): quotas.Quota(leases=2), 4711: quotas.Quota(vram_bytes=3)},
        by_gid={
            os.getgid(): quotas.GroupQuota(name=mine, leases=4),
            4712: quotas.GroupQuota(name="4712", vram_bytes=5),
        },
    )


def test_a_name_that_the_host_does_not_know_is_said_and_limits_nobody() -> None:
    with capture_logs() as logs:
        rules = settings.quota_rules(
            Quotas(user={"nobody-here": Quota()}, group={"a\0b": Quota(leases=1)})
        )
    assert rules == quotas.QuotaRules()
    (log,) = logs
    assert log["names"] == ["user nobody-here", "group a\0b"]
