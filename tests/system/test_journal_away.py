"""journald stopped, gone, restarted and full: nothing is lost, and nobody waits for it.

What the daemon did is judged by what its clients were told, and what it wrote by the journal.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

from system.machine import Machine
from system.service import SOCKET, UNIT, Service, seconds_since

#: Cordons and uncordons the first GPU so many times, each a line of the journal and a record of
#: the audit, and prints how long the slowest took.
_ACTOR = """\
import json, socket, sys, time
path, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
pause_s = float(sys.argv[4])
slowest = 0.0
with socket.socket(socket.AF_UNIX) as sock:
    sock.settimeout(20)
    sock.connect(path)
    lines = sock.makefile("r")
    for number in range(first, first + count):
        method = ("gpu.cordon", "gpu.uncordon")[number % 2]
        call = {"jsonrpc": "2.0", "id": number, "method": method, "params": {"gpu": "0"},
                "meta": {"correlation_id": f"act-{number}"}}
        began = time.monotonic()
        sock.sendall(json.dumps(call).encode() + b"\\n")
        assert json.loads(lines.readline())["result"]["done"]
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(pause_s)
print(slowest)
"""
#: More than the socket of journald and its buffers take of a sender.
_MANY = 800
#: What a busy machine may take for an answer; journald is away for longer.
_PATIENCE_S = 3.0


def _actor(first: int, count: int, *, pause_s: float = 0.0) -> list[str]:
    return ["/usr/bin/python3", "-c", _ACTOR, SOCKET, str(first), str(count), str(pause_s)]


def _act(service: Service, first: int, count: int) -> None:
    """Act, and see that nobody waited for a journal."""
    slowest_s = float(service.machine.output(*_actor(first, count)))
    assert slowest_s < _PATIENCE_S, "the daemon waits for journald"


def _records(machine: Machine) -> list[dict[str, Any]]:
    """Return the audit records, in the order in which they came to the journal."""
    return machine.journal(f"--unit={UNIT}", "AUDIT=1")


def _numbers(records: list[dict[str, Any]]) -> list[int]:
    return [int(each["CORRELATION_ID"].removeprefix("act-")) for each in records]


def _late_s(entry: dict[str, Any]) -> float:
    logged = datetime.fromisoformat(entry["LOGGED_AT"]).timestamp()
    return int(entry["__REALTIME_TIMESTAMP"]) / 1e6 - logged


def test_a_journald_that_stands_still_costs_nothing_but_time(machine: Machine) -> None:
    service = Service(machine)
    service.start()
    journald = machine.properties("systemd-journald", "MainPID")["MainPID"]
    machine.run("kill", "-STOP", journald)
    _act(service, 0, _MANY)
    machine.wait_until("health to say so", lambda: "logging" in service.conditions())
    assert service.call("health.get")["verdict"] == "degraded"
    machine.run("kill", "-CONT", journald)
    machine.wait_until("health to be well", lambda: "logging" not in service.conditions())
    records = _records(machine)
    assert _numbers(records) == list(range(_MANY))
    times = [each["LOGGED_AT"] for each in records]
    assert times == sorted(times)
    assert max(map(_late_s, records)) > 1, "it did not stand still"
    told = json.loads(machine.output("superezioctl", "--json", "logs", "--audit", "-n", "1"))
    assert told["records"][0]["time"] == times[-1]
    assert service.messages("EVENT=logging.dropped") == []

    # The daemon ends while journald stands still: what matters is in its stream.
    machine.run("kill", "-STOP", journald)
    _act(service, _MANY, _MANY)
    began = time.monotonic()
    machine.run("systemctl", "stop", UNIT)
    assert seconds_since(began) < 20
    machine.run("kill", "-CONT", journald)

    def written() -> tuple[int, int]:
        last = "(audit.done, logged at "
        return len(_records(machine)), sum(last in line for line in service.messages())

    machine.wait_until("all that was done", lambda: sum(written()) >= 2 * _MANY)
    natively, in_stream = written()
    assert natively + in_stream == 2 * _MANY
    assert in_stream > 0, "journald did not stand still"


_SOCKETS = ("systemd-journald.socket", "systemd-journald-dev-log.socket")


def test_a_journald_that_is_gone_or_restarted_loses_no_act(machine: Machine) -> None:
    service = Service(machine)
    service.start()
    # Gone, with its sockets, and nobody may start it.
    gone = (*_SOCKETS, "systemd-journald-audit.socket", "systemd-journald.service")
    machine.run("systemctl", "mask", "--runtime", *gone)
    machine.run("systemctl", "stop", *gone)
    _act(service, 0, 300)
    machine.wait_until("health to say so", lambda: "logging" in service.conditions())
    machine.run("systemctl", "unmask", "--runtime", *gone)
    machine.run("systemctl", "start", *_SOCKETS, "systemd-journald.service")
    machine.wait_until("health to be well", lambda: "logging" not in service.conditions())
    assert _numbers(_records(machine)) == list(range(300))

    # Restarted again and again in the middle of it.
    acting = machine.start(*_actor(300, 300, pause_s=0.01))
    for _ in range(4):
        machine.run("systemctl", "restart", "systemd-journald.service")
    said, _ = acting.communicate(timeout=60)
    assert float(said) < _PATIENCE_S
    machine.wait_until("all of it", lambda: len(_records(machine)) == 600)
    assert _numbers(_records(machine)) == list(range(600))


_PLACE = "/run/log/journal"


def test_a_journald_whose_disk_is_full_gets_what_it_can_keep_later(machine: Machine) -> None:
    service = Service(machine)
    volatile = "[Journal]\nStorage=volatile\nRuntimeKeepFree=0\n"
    machine.write("/run/systemd/journald.conf.d/volatile.conf", volatile)
    machine.run("mkdir", "-p", _PLACE)
    machine.run("mount", "-t", "tmpfs", "-o", "size=64M,mode=755", "tmpfs", _PLACE)
    machine.run("systemctl", "restart", "systemd-journald.service")
    service.start()
    filler = f"{_PLACE}/filler"
    machine.run("dd", "if=/dev/zero", f"of={filler}", "bs=64k", check=False)
    done = 0

    def is_told() -> bool:
        nonlocal done
        _act(service, done, 2)
        done += 2
        return "logging" in service.conditions()

    machine.wait_until("health to say so", is_told)
    _act(service, done, 500)
    assert service.call("health.get")["verdict"] == "degraded"
    machine.run("rm", filler)
    machine.wait_until("health to be well", lambda: "logging" not in service.conditions())
    machine.wait_until(
        "what was done since it was known",
        lambda: _numbers(_records(machine))[-500:] == list(range(done, done + 500)),
    )
    assert _late_s(_records(machine)[-500]) > 0.1, "it was not full"
    assert service.messages("EVENT=logging.dropped") == []
