"""Starting one model again: until it is up, or its place in the queue for a lease is taken.

A model that waits for a lease has asked for it before the next one does, and waits for others to
end: there is no more to wait for here.
"""

from __future__ import annotations

import asyncio
from typing import Final

from supereziod.overheat.systemctl import Systemctl, SystemctlError

#: How the status of a unit begins that runs `superezioctl model run`, as long as it has no lease.
WAITS_FOR_LEASE: Final = "waiting for a lease"
#: It says so before it asks, too: only who still says so at the next look has to wait.
_LOOKS: Final = 2


async def start_model(systemctl: Systemctl, unit: str, *, within_s: float, look_s: float) -> bool:
    """Start a unit and tell whether it is up; False where it waits for a lease.

    It is looked at every `look_s`. Raises SystemctlError, StillRunningError after `within_s`.
    """
    starting = asyncio.ensure_future(systemctl.start(unit, within_s=within_s))
    waits = 0
    try:
        while waits < _LOOKS:
            await asyncio.wait({starting}, timeout=look_s)
            if starting.done():
                break
            waits = waits + 1 if await _waits_for_lease(systemctl, unit) else 0
    finally:
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
    if starting.cancelled():
        return False
    starting.result()
    return True


async def _waits_for_lease(systemctl: Systemctl, unit: str) -> bool:
    try:
        shown = await systemctl.show(unit, "SubState", "StatusText")
    except SystemctlError:
        return False
    # Not by the state alone: while it is about to be started anew, what it has said still stands.
    said = shown.get("StatusText", "")
    return shown.get("SubState") == "start" and said.startswith(WAITS_FOR_LEASE)
