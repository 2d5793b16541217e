"""The clients of `outage.py`: so many processes, each with a client of its own, until SIGTERM.

They are forked from one that has imported everything, for 50 starts of Python would take longer
than the outage. Each writes a line of JSON for each call into a file of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from superezio import Client
from superezio.adapters.httpx_transport import GuardedTransport, RequestBlockedError
from superezio.errors import SuperezioError


def call_on(task: dict[str, Any], number: int, ready: int) -> None:
    """Call again and again, and write down what came of it."""
    log = (Path(task["directory"]) / f"client-{number:03}.jsonl").open("w")
    client = Client(task["socket"])
    transport = GuardedTransport(client, "service", rules=task["rules"], rates="100000/1s")
    with log, client, httpx.Client(transport=transport) as http:
        next_s = time.monotonic()
        while True:
            log.write(json.dumps({"client": number, **call(client, http, task["url"])}) + "\n")
            log.flush()
            if ready:
                os.close(ready)
                ready = 0
            now_s = time.monotonic()
            next_s = max(next_s + task["period_s"], now_s)
            time.sleep(next_s - now_s)


def call(client: Client, http: httpx.Client, url: str) -> dict[str, Any]:
    """Ask the daemon for nothing, make one call, and return how it went."""
    asked_s = time.monotonic()
    client.system_ping()
    began_s = time.monotonic()
    retry_after_s, text = None, ""
    try:
        kind = "ok" if http.get(url).is_success else "failed"
    except RequestBlockedError as error:
        kind, retry_after_s, text = "blocked", error.retry_after, str(error)
    except (httpx.HTTPError, SuperezioError) as error:
        kind, text = type(error).__name__, str(error)
    took_s = time.monotonic() - began_s
    return {
        "began_s": began_s,
        "took_s": took_s,
        "ping_s": began_s - asked_s,
        "kind": kind,
        "retry_after_s": retry_after_s,
        "text": text,
    }


def main() -> None:
    """Fork the clients; say when each has called once; end them at SIGTERM."""
    task = json.loads(sys.argv[1])
    called, ready = os.pipe()
    children = []
    for number in range(task["clients"]):
        pid = os.fork()
        if not pid:
            try:
                call_on(task, number, ready)
            finally:
                os._exit(1)
        children.append(pid)
    os.close(ready)
    os.read(called, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    print("all have called", flush=True)
    signal.sigwait([signal.SIGTERM])
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
