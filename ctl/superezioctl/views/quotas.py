"""Quotas as text."""

from __future__ import annotations

import msgspec

from superezio.wire import QuotaList, QuotaUse
from superezioctl.output import Output
from superezioctl.views.text import size, user

_UNLIMITED = "no limit"


def show(out: Output, raw: bytes) -> None:
    """Print a line for each quota that applies, or that none does."""
    found = msgspec.json.decode(raw, type=QuotaList)
    limits = [
        quota
        for quota in found.quotas
        if quota.vram_limit_bytes is not None or quota.leases_limit is not None
    ]
    if found.exempt:
        out.line("you are an admin, whom no quota holds back")
    elif not limits:
        out.line("no quota limits what you may lease")
    if not limits:
        limits = found.quotas[:1]
    out.table(["QUOTA OF", "VRAM LEASED", "OF", "LEASES", "OF"], list(map(_row, limits)))


def _row(quota: QuotaUse) -> list[str]:
    own = quota.scope == "user"
    whose = user(int(quota.name)) if own else f"group {quota.name}"
    return [
        whose,
        size(quota.vram_used_bytes),
        _UNLIMITED if quota.vram_limit_bytes is None else size(quota.vram_limit_bytes),
        str(quota.leases_used),
        _UNLIMITED if quota.leases_limit is None else str(quota.leases_limit),
    ]
