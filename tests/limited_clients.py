"""Clients that race for one limit, in a process of their own; `test_shared_limits.py` starts some.

    python limited_clients.py SOCKET UID GID NAME CONNECTIONS CALLS SEED

It becomes the user UID in the group GID before it connects. Each call asks for tokens, some with a
wait, and settles some with less or more than was reserved. Prints one JSON object: `calls`, each
with what was asked, what became of it, and when it was sent, answered and settled, by this host's
monotonic clock in nanoseconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

from plain_client import Json, PlainClient, RefusedError, plain_client


async def one_client(
    client: PlainClient, name: str, calls: int, chance: random.Random
) -> list[Json]:
    log: list[Json] = []
    for _ in range(calls):
        tokens = chance.choice((1, 3, 10, 25))
        wait_ms = chance.choice((0, 0, 0, 20))
        call: Json = {"tokens": tokens, "granted": False, "used": tokens, "settled_ns": None}
        call["sent_ns"] = time.monotonic_ns()
        try:
            got = await client.call("limit.acquire", name=name, tokens=tokens, wait_ms=wait_ms)
        except RefusedError as error:
            call["kind"] = error.kind
            if error.kind != "rate_limited":
                raise
        else:
            call["granted"] = True
        call["answered_ns"] = time.monotonic_ns()
        log.append(call)
        if call["granted"] and chance.random() < 0.3:
            call["used"] = chance.choice((tokens, tokens + 5, max(tokens - 5, 0)))
            await client.call("limit.settle", reservation=got["reservation"], tokens=call["used"])
            call["settled_ns"] = time.monotonic_ns()
    return log


async def main() -> None:
    socket, uid, gid, name, connections, calls, seed = sys.argv[1:]
    os.setgroups([int(gid)])
    os.setresgid(int(gid), int(gid), int(gid))
    os.setresuid(int(uid), int(uid), int(uid))
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(plain_client(Path(socket)))
            for _ in range(int(connections))
        ]
        sys.stdout.write("connected\n")
        sys.stdout.flush()
        # Blocks, as nothing else is to be done; a thread would import what this user cannot read.
        sys.stdin.readline()
        logs = await asyncio.gather(
            *(
                one_client(client, name, int(calls) // len(clients), random.Random(f"{seed}-{i}"))
                for i, client in enumerate(clients)
            )
        )
    json.dump({"calls": [call for log in logs for call in log]}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
