"""What the daemon leaves on disk, however it ends: no value of anybody's cache, and no core.

Values are looked for in every file that it wrote (state, leases, the flight recorder's ring, the
log), as they are and as they go over the wire. Names are no secrets: keys, namespaces, correlation
ids and the names of limits and breakers are in the log and in records, and one of them is looked
for, too, to see that the search finds what is there.
"""

from __future__ import annotations

import base64
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from live_daemon import LiveDaemon
from superezio.errors import FillFailedError

TEXT = f"hush {secrets.token_hex(24)} hush"
DATA = secrets.token_bytes(48)
REASON = f"no answer {secrets.token_hex(24)}"
NAME = f"named-{secrets.token_hex(8)}"
CONFIG = '[logging]\nlevel = "debug"\n'
_SET = '{"jsonrpc":"2.0","id":1,"method":"cache.set","params":{"namespace":"n","key":"k",'
#: Calls that are wrong, with a value in them: by another name, for another parameter, cut off.
UNREADABLE = (
    f'{_SET}"value":"{TEXT}"}}}}',
    f'{_SET}"text":"{TEXT}","data":"{TEXT}"}}}}',
    f'{_SET}"data":"{TEXT}"}}}}',
    f'{_SET}"ttl_ms":"{TEXT}"}}}}',
    f'{_SET}"text":"{TEXT}"',
    f'{_SET}"text":["{TEXT}"]}}}}',
)
#: Holds the marker as the daemon does, and dies as the daemon does.
BYSTANDER = "import os, sys; held = sys.stdin.readline(); os.abort()"


def forms(secret: bytes) -> list[bytes]:
    """Return it as it is, as hexadecimal, and as base64 wherever in a longer text it may begin."""
    found = [secret, secret.hex().encode()]
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret)
        found.append(encoded[4 if before else 0 : -4])
    return found


def files_with(directory: Path, *secrets_: bytes) -> list[str]:
    """Return the files below a directory that have any of them in any form."""
    sought = [form for secret in secrets_ for form in forms(secret)]
    files = [path for path in directory.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(form in path.read_bytes() for form in sought)]


def use(daemon: LiveDaemon) -> None:
    """Have values in the cache, one that is waited for, and something in every store and record."""
    with daemon.client() as client:
        client.cache_set("prices", NAME, TEXT, ttl=3600)
        client.cache_set("prices", "packed", DATA, ttl=3600)
        assert client.cache_get("prices", NAME).text == TEXT
        lead = client.cache_get("prices", "wanted", fill=True)
        with ThreadPoolExecutor(1) as waiting, daemon.client() as other:
            waiter = waiting.submit(other.cache_get, "prices", "wanted", fill=True)
            while not client.cache_stats().namespaces[0].waiting:
                assert not waiter.done()
            client.cache_fail("prices", "wanted", token=lead.token or "", error=REASON)
            with pytest.raises(FillFailedError, match=REASON):
                waiter.result()
        permit = client.breaker_acquire("weather")
        client.breaker_settle("weather", permit.permit, outcome="failure")
        for line in UNREADABLE:
            with socket.socket(socket.AF_UNIX) as wire:
                wire.connect(str(daemon.socket_path))
                wire.sendall(line.encode() + b"\n")
                assert b'"error"' in wire.recv(65536)
        client.lease_acquire("1GiB", mode="ttl", ttl=600.0, name=NAME)


@pytest.fixture
def cores_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let cores be written where the test runs, as a developer's shell may."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    directory = tmp_path / "cwd"
    directory.mkdir()
    monkeypatch.chdir(directory)
    yield directory
    resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.fixture
def daemon(cores_allowed: Path, tmp_path: Path) -> Iterator[LiveDaemon]:
    assert cores_allowed.is_dir()
    daemon = LiveDaemon(tmp_path / "d", config=CONFIG)
    yield daemon
    daemon.close()


def abort(daemon: LiveDaemon) -> None:
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGABRT)
    assert daemon.process.wait(timeout=20) == -signal.SIGABRT


def test_no_file_has_a_value_of_the_cache_whichever_way_the_daemon_ends(
    daemon: LiveDaemon, tmp_path: Path
) -> None:
    for end in (abort, LiveDaemon.kill, LiveDaemon.stop):
        daemon.start()
        use(daemon)
        end(daemon)
    assert "Current thread" in daemon.log()  # the stacks are in the journal, and no values are
    assert files_with(tmp_path, NAME.encode())
    assert files_with(tmp_path, TEXT.encode(), DATA, REASON.encode()) == []


def cores_in(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.read_bytes()[:4] == b"\x7fELF"]


def control(directory: Path) -> None:
    """Skip where this host would leave no core of anything here: nothing could be seen."""
    subprocess.run([sys.executable, "-c", BYSTANDER], input=TEXT.encode(), check=False)
    cores = cores_in(directory)
    if not cores:
        pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
        pytest.skip(f"no core is left here of any program (core_pattern is {pattern})")
    assert files_with(directory, TEXT.encode())
    for core in cores:
        core.unlink()


def test_an_abort_leaves_no_core_where_every_other_program_leaves_one(
    daemon: LiveDaemon, cores_allowed: Path
) -> None:
    control(cores_allowed)
    daemon.start()
    use(daemon)
    abort(daemon)
    assert cores_in(cores_allowed) == []


def test_a_core_that_is_asked_for_in_spite_of_it_has_no_memory(
    daemon: LiveDaemon, cores_allowed: Path
) -> None:
    """As a program gets it that core_pattern hands cores to, which the limit does not bind."""
    control(cores_allowed)
    daemon.start()
    use(daemon)
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.prlimit(daemon.pid, resource.RLIMIT_CORE, (most, most))
    abort(daemon)
    assert cores_in(cores_allowed)
    assert files_with(cores_allowed, TEXT.encode(), DATA, REASON.encode()) == []


def test_what_the_daemon_starts_leaves_no_core_either(daemon: LiveDaemon) -> None:
    daemon.start()
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    assert children
    for pid in (daemon.pid, *map(int, children)):
        assert resource.prlimit(pid, resource.RLIMIT_CORE)[0] == 0
        assert int(Path(f"/proc/{pid}/coredump_filter").read_text(), 16) == 0


def test_whoever_runs_the_daemon_may_look_at_its_process(daemon: LiveDaemon) -> None:
    """What PR_SET_DUMPABLE would take away, for more than is needed: see core_dumps.py."""
    daemon.start()
    assert list(Path(f"/proc/{daemon.pid}/fd").iterdir())
    assert Path(f"/proc/{daemon.pid}/smaps_rollup").read_text()
    assert Path(f"/proc/{daemon.pid}/environ").stat().st_uid == os.geteuid()
