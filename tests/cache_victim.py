"""A program that leads and dies of it: `test_cache.py` kills it at the point that it names.

    python cache_victim.py SOCKET KEY POINT

It asks for the key, ready to fetch, and prints a line when it has come to the point. Standard
library alone: what is sent, and how much of it, has to be known to the byte.
"""

from __future__ import annotations

import json
import socket
import sys
import time

NAMESPACE = "crowd"
#: What it would give to all: long enough that half of it is a part of a frame.
VALUE = "from the one that died " + "x" * 1000


def line(number: int, method: str, **params: object) -> bytes:
    request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    return json.dumps(request).encode() + b"\n"


def main(path: str, key: str, point: str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        ask = line(1, "cache.get", namespace=NAMESPACE, key=key, fill=True, wait_ms=60_000)
        connection.sendall(ask)
        if point == "before it is told":
            stop("asked")
        print("asked", flush=True)
        answer = json.loads(connection.makefile("rb").readline())["result"]
        assert answer["status"] == "lead", answer
        if point == "after it is told":
            stop("told")
        frame = line(
            2, "cache.set", namespace=NAMESPACE, key=key, text=VALUE, token=answer["token"]
        )
        print("told", flush=True)
        sys.stdin.readline()
        if point == "in the middle of the frame":
            connection.sendall(frame[: len(frame) // 2])
            stop("sending")
        connection.sendall(frame)
        stop("sent")


def stop(where: str) -> None:
    """Say where, and go no further: whoever started this kills it."""
    print(where, flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])
