"""What the service leaves on its host when it is aborted: the stacks, and nothing of its users."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

from system.machine import Machine
from system.service import UNIT, Service

_PLACES = ("/var/lib", "/var/log", "/run", "/tmp", "/var/tmp")


def _files(machine: Machine) -> list[Path]:
    roots = [machine.root / place.lstrip("/") for place in _PLACES]
    found = [path for root in roots for path in root.rglob("*")]
    return [path for path in (*found, *machine.root.glob("core*")) if path.is_file()]


def test_an_aborted_service_leaves_no_core_and_no_value_in_the_journal(machine: Machine) -> None:
    """Also where a drop-in lets it have cores, and all that is logged is kept."""
    service = Service(machine, config='[logging]\nlevel = "debug"\n')
    service.drop_in("[Unit]\nStartLimitBurst=9\n[Service]\nRestartSec=0\nLimitCORE=infinity\n")
    service.start()
    text, name = f"hush {secrets.token_hex(24)}", f"named-{secrets.token_hex(8)}"
    service.call("cache.set", {"namespace": "prices", "key": name, "text": text})
    assert service.call("cache.get", {"namespace": "prices", "key": name})["text"] == text
    service.call("trace.annotate", {"correlation_id": name, "name": "seen", "duration_ms": 1})
    pid = service.main_pid
    limits = machine.output("cat", f"/proc/{pid}/limits")
    assert [line.split()[4] for line in limits.splitlines() if "core file" in line] == ["0"]
    assert int(machine.output("cat", f"/proc/{pid}/coredump_filter"), 16) == 0
    machine.run("kill", "-ABRT", str(pid))
    machine.wait_until("another process", lambda: service.main_pid not in (0, pid))
    assert service.call("system.ping", timeout_s=30)["pid"] != pid
    machine.run("journalctl", "--sync")
    journal = machine.output("journalctl", "--output=export", f"--unit={UNIT}")
    assert "Current thread" in journal
    assert text not in journal
    sought = (text.encode(), base64.b64encode(text.encode())[:-4])
    files = [(path, path.read_bytes()) for path in _files(machine)]
    assert any(name.encode() in content for _, content in files)
    assert [path for path, content in files if any(each in content for each in sought)] == []
    assert [path for path, content in files if content[:4] == b"\x7fELF"] == []
