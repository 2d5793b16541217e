"""Every block of docs/services.md is a program that runs, with a daemon and a stand-in service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from live_daemon import LiveDaemon
from markdown_blocks import blocks
from superezio.guarding.options import CachedOptions, GuardOptions, LimitOptions, PassOptions

PAGE = Path(__file__).parents[2] / "docs" / "services.md"
BLOCKS = list(blocks(PAGE, "python"))
#: What each block prints that shows that it did what the page says.
SAID = [
    ["because I can", "'total_tokens': 412} from the cache"],
    ["False {'text': 'because'}", "True {'text': 'because'}"],
    ["0: called, and down", "1: called, and down", "2: not called, for another", "3: not called"],
    ["tokens user"],
    ["fetches hello\n[0.25, 5.0] [0.25, 5.0]"],
    ["guarded by local", "guarded by nobody"],
    ["200\n429\nRequest", "Error 2."],
    ["because I can", "RequestBlockedError 3"],
]


class _StandIn(BaseHTTPRequestHandler):
    """Answers as the services of the page do."""

    def do_GET(self) -> None:
        if self.path == "/busy":
            self._answer(429, {"error": "busy"}, {"Retry-After": "2.5"})
        else:
            self._answer(200, {"object": "list", "data": []}, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "because I can"}
        answer = {
            "id": "a",
            "object": "chat.completion",
            "created": 1,
            "model": "small",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 12, "completion_tokens": 400, "total_tokens": 412},
        }
        self._answer(200, answer, {"x-ratelimit-remaining-requests": "59"})

    def _answer(self, status: int, body: Any, headers: dict[str, str]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(text))}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


@pytest.fixture(scope="module")
def service_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _StandIn)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDaemon]:
    daemon = LiveDaemon(tmp_path_factory.mktemp("daemon")).start()
    yield daemon
    daemon.close()


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_runs_by_itself(
    daemon: LiveDaemon, service_url: str, tmp_path: Path, number: int
) -> None:
    program = tmp_path / "program.py"
    program.write_text(BLOCKS[number])
    done = subprocess.run(
        [sys.executable, str(program)],
        env={
            **os.environ,
            "SUPEREZIO_SOCKET": str(daemon.socket_path),
            "SERVICE_URL": service_url,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [said for said in SAID[number] if said not in done.stdout] == [], done.stdout


def test_every_option_is_on_the_page() -> None:
    text = PAGE.read_text()
    options: frozenset[str] = frozenset()
    for kind in (LimitOptions, CachedOptions, PassOptions, GuardOptions):
        options |= kind.__optional_keys__
    assert {each for each in options if f"`{each}`" not in text and f"{each}=" not in text} == set()
