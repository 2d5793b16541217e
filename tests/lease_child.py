"""The lease part in a process of its own, which kills itself at a chosen write.

`lease_child.py DIRECTORY before|after|never NUMBER`: SIGKILL right before or after the NUMBER-th
write to the database. One JSON command a line in, one JSON answer a line out.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from lease_host import BOOT, LeaseHost, Silent, ask, caller_of
from superezio.errors import SuperezioError
from superezio.wire import Lease
from supereziod.leases.store import LeaseStore
from supereziod.observability.events import EventLog


class Dying:
    """Passes statements on, up to the one it dies at."""

    def __init__(self, store: LeaseStore, *, point: str, number: int) -> None:
        self._execute = store._database.execute
        self._point = point
        self._left = number
        store._database.execute = self.execute  # type: ignore[method-assign]

    def execute(self, statement: str, parameters: tuple[object, ...] = ()) -> None:
        self._left -= 1
        if self._point == "before" and self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._execute(statement, parameters)
        if self._point == "after" and self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


async def answer(host: LeaseHost, command: dict[str, Any]) -> Any:
    caller = caller_of(role="admin")
    if command["do"] == "list":
        return {lease.id: lease.holder[0].pid for lease in host.leases.list(caller).leases}
    if command["do"] == "release":
        released = host.leases.release(caller, command["lease"]).released
        host.monitor.read()
        return released
    try:
        params = ask(1, holder_pid=command["pid"])
        lease = host.leases.acquire(caller, params, idempotency_key=command["key"])
        return (lease if isinstance(lease, Lease) else await lease).id
    except SuperezioError as error:
        return error.kind


async def main(directory: Path, point: str, number: int) -> None:
    store = LeaseStore.open(directory / "leases.db", boot_id=BOOT)
    host = LeaseHost(
        directory, store=store, clock=time.monotonic_ns, events=EventLog(logger=Silent())
    )
    await host.leases.start()
    host.leases.ready()
    host.monitor.read()
    Dying(store, point=point, number=number)
    for line in iter(sys.stdin.readline, ""):
        host.monitor.read()
        print(json.dumps(await answer(host, json.loads(line))), flush=True)
    await host.leases.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
