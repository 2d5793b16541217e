"""A program whose calls are guarded, for the tests: it does one thing and prints what came of it.

python guarding_client.py SOCKET lead|fetch|hold
"""

from __future__ import annotations

import os
import sys
import time

from superezio import Client

HOLD_S = 60.0


def fetch(key: str) -> str:
    """Fetch the value of `key`, which takes a moment."""
    time.sleep(0.2)
    return f"{key} by {os.getpid()}"


def main() -> None:
    """Lead a fill and never deliver; fetch a value as many do; or hold a slot for a minute."""
    socket, what = sys.argv[1:]
    client = Client(socket)

    def key(_text: str) -> str:
        return "k"

    if what == "fetch":
        print(client.cached("answers", key=key)(fetch)("v"))
        return

    @client.cached("answers", key=key)
    def lead(_text: str) -> str:
        print("leads", flush=True)
        time.sleep(HOLD_S)
        return "too late"

    if what == "lead":
        lead("v")
    with client.guard("gpu", requests=0, concurrency=1, rates={"concurrency": 1}):
        print("holds", flush=True)
        time.sleep(HOLD_S)


if __name__ == "__main__":
    main()
