"""The users of a host, their groups, and the quotas that are configured for them in turn."""

from __future__ import annotations

from typing import Final

from soak.cards import GIB
from supereziod.leases.quotas import GroupQuota, Quota, QuotaRules

UIDS: Final = (1000, 1001, 1002, 1003)
GROUPS: Final = {
    1000: frozenset({100}),
    1001: frozenset({100, 101}),
    1002: frozenset({101, 102}),
    1003: frozenset[int](),
}


def limits_vram(rules: QuotaRules, uid: int) -> bool:
    """Tell whether there is a limit to the VRAM that a user may have."""
    quotas = [rules.by_uid.get(uid, rules.default)]
    quotas += [rules.by_gid[gid] for gid in GROUPS[uid] & rules.by_gid.keys()]
    return any(quota.vram_bytes is not None for quota in quotas)


QUOTAS: Final = (
    QuotaRules(
        default=Quota(leases=9),
        by_uid={1001: Quota(vram_bytes=14 * GIB)},
        by_gid={100: GroupQuota(name="ml", vram_bytes=26 * GIB)},
    ),
    QuotaRules(),
    QuotaRules(
        default=Quota(vram_bytes=20 * GIB),
        by_uid={1000: Quota(leases=3), 1003: Quota(leases=0)},
        by_gid={
            100: GroupQuota(name="ml", leases=5),
            101: GroupQuota(name="art", vram_bytes=12 * GIB),
        },
    ),
    QuotaRules(by_gid={101: GroupQuota(name="art", vram_bytes=20 * GIB, leases=4)}),
)
