"""Every block of docs/services.md is a program that runs, with a daemon and a stand-in service."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from live_daemon import LiveDaemon
from markdown_blocks import blocks, commands
from page_shell import installed_in
from superezio.guarding.options import CachedOptions, GuardOptions, LimitOptions, PassOptions

pytestmark = pytest.mark.installed

PAGE = Path(__file__).parents[2] / "docs" / "services.md"
BLOCKS = list(blocks(PAGE, "python"))
#: By the role of who types them; pip would go to a registry.
FOR_ROOT = commands(PAGE, "# ")
TYPED = [line for line in commands(PAGE, "$ ") if not line.startswith("pip ")]
#: What each block prints that shows that it did what the page says.
SAID = [
    ["because I can", "'total_tokens': 412} from the cache"],
    ["False {'text': 'because'}", "True {'text': 'because'}"],
    ["Paris Paris"],
    ["0: called, and down", "1: called, and down", "2: not called, for another", "3: not called"],
    ["tokens user"],
    ["fetches hello\n[0.25, 5.0] [0.25, 5.0]"],
    ["guarded by local", "guarded by nobody"],
    ["200\n429\nRequest", "Error 2."],
    ["because I can", "RequestBlockedError 3"],
    ["for the service: 00-0af7651916cd43dd", "'limit.acquire', 'breaker.acquire'"],
]


class _StandIn(BaseHTTPRequestHandler):
    """Answers as the services of the page do."""

    def do_GET(self) -> None:
        if self.path.endswith("/busy"):
            # Commands take longer than calls of one program.
            retry_after = "60" if self.path.startswith("/shell/") else "2.5"
            self._answer(429, {"error": "busy"}, {"Retry-After": retry_after})
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


@pytest.fixture
def sharing(tmp_path: Path) -> Iterator[LiveDaemon]:
    """A daemon that was told afterwards to share what the page shares, with the group of ours."""
    daemon = LiveDaemon(tmp_path / "d").start()
    (text,) = blocks(PAGE, "toml")
    for group in ("superezio", "ai"):
        text = text.replace(f'"{group}"', f'"{os.getgid()}"')
    (tmp_path / "d" / "superezio.toml").write_text(text)
    try:
        yield daemon
    finally:
        daemon.close()


def type_all(
    lines: list[str], daemon: LiveDaemon, service_url: str, directory: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euc", "\n".join(lines)],
        cwd=directory,
        env={
            **installed_in(directory),
            "SUPEREZIO_SOCKET": str(daemon.socket_path),
            "SERVICE_URL": f"{service_url}/shell",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there: apt-get install curl")
def test_what_the_page_shares_is_there_and_its_commands_run(
    sharing: LiveDaemon, service_url: str, tmp_path: Path
) -> None:
    reloaded = type_all(FOR_ROOT, sharing, service_url, tmp_path)
    assert (reloaded.returncode, reloaded.stderr) == (0, "")
    assert "in force now: " in reloaded.stdout
    assert "after a restart" not in reloaded.stdout
    (script,) = blocks(PAGE, "sh")
    (tmp_path / "ask.sh").write_text(script)
    done = type_all(TYPED, sharing, service_url, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"object": "list"') == 4
    for said in ("ended with 1\n", "not called: 75\n", "openai", "answers", "limit.acquire"):
        assert said in done.stdout, done.stdout
    with sharing.client() as client:
        (breaker,) = client.breaker_list().breakers
        (limit,) = client.limit_list().limits
        (namespace,) = client.cache_stats().namespaces
    assert (breaker.name, breaker.failures, breaker.state) == ("openai", 0, "open")
    assert (limit.name, namespace.namespace, namespace.entries) == ("openai", "answers", 1)


def test_every_option_is_on_the_page() -> None:
    text = PAGE.read_text()
    options: frozenset[str] = frozenset()
    for kind in (LimitOptions, CachedOptions, PassOptions, GuardOptions):
        options |= kind.__optional_keys__
    assert {each for each in options if f"`{each}`" not in text and f"{each}=" not in text} == set()
