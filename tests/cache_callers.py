"""Programs that ask the cache for one key, in a process of their own; `test_cache.py` starts some.

    python cache_callers.py SOCKET CONNECTIONS REQUESTS

For each line on standard input, {"key": ..., "hold": ...}, all connections ask for the key that
many times at once, each request ready to fetch. Who is told to fetch does; with `hold` not before
the next line comes. Prints a line for each round: what each request was told, and what was fetched.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from plain_client import Json, PlainClient, RefusedError, plain_client

NAMESPACE = "crowd"


class Round:
    """One round of requests of this process."""

    def __init__(self, key: str, may_fetch: asyncio.Event) -> None:
        self.key = key
        self.may_fetch = may_fetch
        self.told: list[list[str | None]] = []
        self.fetched: list[str] = []

    async def ask(self, client: PlainClient) -> None:
        """Ask once, and fetch if told to. What was told is noted before anything else."""
        try:
            answer = await client.call(
                "cache.get", namespace=NAMESPACE, key=self.key, fill=True, wait_ms=60_000
            )
        except RefusedError as refused:
            self.told.append([refused.kind, None])
            return
        self.told.append([answer["status"], answer["text"]])
        if answer["token"] is not None:
            await self._fetch(client, answer["token"])

    async def _fetch(self, client: PlainClient, token: str) -> None:
        await self.may_fetch.wait()
        value = f"fetched by {os.getpid()}"
        self.fetched.append(value)
        stored = await client.call(
            "cache.set", namespace=NAMESPACE, key=self.key, text=value, token=token
        )
        assert (stored["accepted"], stored["stored"]) == (True, True), stored


async def main(socket_path: Path, connections: int, requests: int) -> None:
    """Do as each line says, until there is none."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(plain_client(socket_path)) for _ in range(connections)
        ]
        while line := await lines.readline():
            asked: Json = json.loads(line)
            may_fetch = asyncio.Event()
            this = Round(asked["key"], may_fetch)
            asking = asyncio.gather(*(this.ask(each) for each in clients * requests))
            if asked["hold"]:
                await lines.readline()
            may_fetch.set()
            await asking
            print(json.dumps({"told": this.told, "fetched": this.fetched}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
