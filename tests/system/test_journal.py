"""The journal as an administrator uses it: docs/journal.md, `-x`, and who did what."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from markdown_blocks import commands
from system.machine import Machine
from system.service import GIB, UNIT, RefusedError, Service

PAGE = Path(__file__).parents[2] / "docs" / "journal.md"
TYPED = commands(PAGE, "# ")
ALICE, BOB, CAROL = "alice", "bob", "carol"
#: The machine shares its files with one that may have users of its own.
_UIDS = {ALICE: 21000, BOB: 21001, CAROL: 21002}
#: Soon too hot, and never restarted for it within the test: systemd's own patience is longer.
_HOT = """
[[gpu]]
profile = "RTX 3060"
[[gpu]]
profile = "RTX 2060"
[[event]]
at = "2s"
gpu = 0
kind = "temperature"
celsius = 95
"""
_IMPATIENT = """
[watchdog]
grace = "200ms"
[gpu]
sample_period = "200ms"
[gpu.thermal]
critical_throttle_dwell = "200ms"
"""
#: What an example of the page prints, by a part of the example: a piece of it each.
_SAID = {
    "_SYSTEMD_INVOCATION_ID": "is ready",
    "-b -p warning": "CRITICAL",
    "-n 20 -o short-precise": "supereziod",
    "CORRELATION_ID=job-17": "was granted",
    "--correlation-id job-17": "was granted",
    " LEASE=": "was granted",
    "--lease llama": "was granted",
    " GPU=": "was granted",
    "--gpu 0": "was granted",
    "EVENT=gpu.level": "to critical",
    "--output-fields=GPU,GPU_LEVEL,PREVIOUS,TEMPERATURE_C": '"GPU_LEVEL":"critical"',
    "EVENT=watchdog.withheld -n 1": "watchdog pings are withheld",
    "EVENT=watchdog.restarted": "the watchdog ended an earlier run",
    "UNIT_RESULT=watchdog": "Failed with result 'watchdog'",
    "-x EVENT=watchdog.withheld": "After three such restarts in 15",
    "-x -b -p warning": "Subject: A GPU reached another thermal level",
    "--list-catalog": "superezio: VRAM was leased",
    "logs --audit": "alice .* gpu.cordon .*refused",
    "AUDIT=1": "gpu.cordon",
    "OUTCOME=refused": "alice .* gpu.cordon .*refused: .*Join the group superezio-admin",
    "-o verbose": "_SYSTEMD_UNIT=superezio.service",
    "REQUEST_UID=1000": "alice .*refused",
    "ACTOR_LOGIN_UID=1000": r"root \(uid=0\), logged in as alice, by pid .* gpu.cordon",
}


_LOG_IN = f"echo {_UIDS[ALICE]} >/proc/self/loginuid; exec"


@pytest.fixture
def service(machine: Machine) -> Iterator[Service]:
    for user, uid in _UIDS.items():
        groups = {ALICE: "superezio", BOB: "superezio", CAROL: "superezio-admin"}[user]
        machine.run("useradd", "--no-create-home", f"--uid={uid}", "--groups", groups, user)
    yield Service(machine)
    machine.run("systemctl", "stop", "superezio.service", "superezio.socket")


# --- the page -----------------------------------------------------------------------------------


def test_the_examples_of_the_page_find_what_they_say(service: Service) -> None:
    machine = service.machine
    machine.write("/etc/superezio/scenario.toml", _HOT)
    service.configure(_IMPATIENT)
    # Once the pings are withheld it takes so long, and then the aborted run is followed at once.
    service.drop_in("[Service]\nWatchdogSec=4\nRestartSec=100ms\n")
    service.start()
    lease = service.call(
        "lease.acquire",
        {"vram_bytes": 8 * GIB, "name": "llama", "mode": "ttl", "ttl_ms": 600_000},
        correlation_id="job-17",
    )
    # As by sudo: root, and alice had logged in.
    machine.run("sh", "-euc", f"{_LOG_IN} superezioctl gpu cordon 1 --reason fan")
    refused = machine.run("superezioctl", "gpu", "uncordon", "1", user=ALICE, check=False)
    assert refused.returncode == 4
    machine.run("superezioctl", "gpu", "cordon", "1", user=ALICE, check=False)
    service.await_message("watchdog pings are withheld")
    service.await_message("the watchdog ended an earlier run")
    machine.run("journalctl", "--sync")

    (gpu,) = [each["uuid"] for each in lease["gpus"]]
    unfound = []
    for line in TYPED:
        typed = re.sub(r" LEASE=\S+", f" LEASE={lease['id']}", line)
        typed = re.sub(r" GPU=GPU-\S+", f" GPU={gpu}", typed)
        typed = typed.replace("UID=1000", f"UID={_UIDS[ALICE]}")
        # As the program of an administrator sees it: no colours, no pager.
        said = machine.run("sh", "-euc", typed).stdout
        wanted = next(part for part in sorted(_SAID, key=len, reverse=True) if part in line)
        if not re.search(_SAID[wanted], said):
            unfound.append(f"{typed}\nhas no {_SAID[wanted]}\n{said[:2000]}")
    assert not unfound, "\n\n".join(unfound)
    assert {part for part in _SAID if not any(part in line for line in TYPED)} == set()


# --- who did what -------------------------------------------------------------------------------


class Audit:
    """The records, as the journal has them from the service and from nobody else."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._number = 0

    def call(self, method: str, params: dict[str, Any], *, user: str) -> str:
        """Make a call, which may be refused, and return the id that its records have."""
        self._number += 1
        name = f"audit-{self._number}"
        with suppress(RefusedError):
            self._service.call(method, params, user=user, correlation_id=name)
        return name

    def records(self) -> Callable[[str], list[dict[str, Any]]]:
        """Read the journal, and return what has the records of an id."""
        found = self._service.machine.journal(f"--unit={UNIT}", "AUDIT=1")
        return lambda name: [each for each in found if each.get("CORRELATION_ID") == name]


_SHARED = """
[breaker.shared.api]
groups = ["superezio"]
[limit.shared.api]
groups = ["superezio"]
host.requests = "60/1m"
[cache.shared.common]
groups = ["superezio"]
"""


def test_every_act_on_what_is_anothers_or_everybodys_leaves_one_record(service: Service) -> None:
    machine, audit = service.machine, Audit(service)
    service.configure(_SHARED)
    service.start()
    service.call("cache.set", {"namespace": "own", "key": "k", "text": "v"}, user=BOB)
    session = service.call("session.open", {}, user=BOB)["session_id"]
    for name in ("own", "api"):
        service.call("breaker.acquire", {"name": name}, user=BOB)

    service.call("limit.acquire", {"name": "api"}, user=BOB)

    def lease(gib: int = 1) -> str:
        params = {"vram_bytes": gib * GIB, "mode": "ttl", "ttl_ms": 600_000}
        return str(service.call("lease.acquire", params, user=BOB)["id"])

    kept, given = lease(8), lease()
    more = {"vram_bytes": 8 * GIB, "mode": "connection", "wait_ms": 60_000}
    waiting = machine.start(*service.caller("lease.acquire", more, timeout_s=60), user=BOB)
    queue = machine.wait_until("bob to wait", lambda: service.call("lease.list")["queue"])
    waiter = queue[0]["id"]
    bobs = {"uid": _UIDS[BOB]}
    acts: list[tuple[str, dict[str, Any], str]] = [
        ("lease.renew", {"lease": kept}, f"lease {kept}"),
        ("lease.ready", {"lease": kept}, f"lease {kept}"),
        ("lease.revoke", {"lease": kept, "reason": "noon"}, f"lease {kept}"),
        ("lease.acknowledge", {"lease": kept}, f"lease {kept}"),
        ("lease.cancel", {"waiter": waiter}, f"waiter {waiter}"),
        ("lease.release", {"lease": given}, f"lease {given}"),
        ("breaker.force_open", {"name": "own", **bobs}, "breaker own"),
        ("breaker.disable", {"name": "own", **bobs}, "breaker own"),
        ("breaker.reset", {"name": "own", **bobs}, "breaker own"),
        ("cache.clear", {"namespace": "own", **bobs}, "namespace own"),
        ("session.close", {"session_id": session}, f"session {session}"),
    ]
    shared: list[tuple[str, dict[str, Any], str]] = [
        ("breaker.force_open", {"name": "api"}, "breaker api"),
        ("breaker.reset", {"name": "api"}, "breaker api"),
        ("limit.reset", {"name": "api"}, "limit api"),
        ("cache.clear", {"namespace": "common"}, "namespace common"),
    ]
    # What a user tries of the kind is refused, and on record; what admins do is, too.
    tried = [*acts[2:7], acts[9], *shared]
    refused = [audit.call(method, params, user=ALICE) for method, params, _ in tried]
    done = [audit.call(method, params, user=CAROL) for method, params, _ in acts + shared]
    assert "lease.cancel" in waiting.communicate(timeout=10)[0]
    # With one's own things everybody does as they like.
    own = [
        audit.call("lease.release", {"lease": lease()}, user=BOB),
        audit.call("breaker.force_open", {"name": "own"}, user=BOB),
        audit.call("breaker.reset", {"name": "own"}, user=BOB),
        audit.call("cache.clear", {"namespace": "own"}, user=BOB),
    ]
    # A log that is all but switched off is no way round.
    silent = audit.call("system.log_level", {"level": "critical"}, user=CAROL)
    looks = ("system.log_level", "config.get", "config.diff")
    seen = [audit.call(method, {}, user=CAROL) for method in looks]
    unseen = [audit.call(method, {}, user=ALICE) for method in looks]
    cordons = [
        audit.call("gpu.cordon", {"gpu": "0", "reason": "fan"}, user=CAROL) for _ in range(2)
    ]
    others = [
        audit.call(method, {}, user=CAROL)
        for method in ("gpu.detach", "gpu.attach", "system.reload")
    ]

    records = audit.records()
    for name in refused + unseen:
        (record,) = records(name)
        assert (record["OUTCOME"], record["REQUEST_UID"], record["ACTOR_USER"]) == (
            "refused", str(_UIDS[ALICE]), ALICE,
        ), record  # fmt: skip
    for name, (method, params, target) in zip(done, acts + shared, strict=True):
        (record,) = records(name)
        assert (record["ACTION"], record["OUTCOME"], record["TARGET"]) == (method, "done", target)
        whose = None if (method, params, target) in shared else str(_UIDS[BOB])
        assert record.get("TARGET_UID") == whose
        assert record["PRIORITY"] == "5"
        assert (record["ACTOR_USER"], record["ROLE"]) == (CAROL, "admin")
        assert (record["ACTOR_COMM"], record["_SYSTEMD_UNIT"]) == ("python3", UNIT)
        assert json.loads(record["PARAMETERS"]).items() >= params.items()
    assert [records(name) for name in own + seen] == [[]] * 7
    assert [records(name)[0]["OUTCOME"] for name in [silent, *cordons, *others]] == [
        "done", "done", "unchanged", "done", "done", "done",
    ]  # fmt: skip
    assert records(cordons[0])[0]["GPU"] == service.call("gpu.list")["gpus"][0]["uuid"]

    machine.run("systemctl", "reload", UNIT)
    service.await_message(f"in {UNIT}: system.reload: done")
    machine.run("kill", "-HUP", str(service.main_pid))
    service.await_message("by the signal SIGHUP: system.reload: done")
    service.configure("[limits]\nframe = 'much'\n")
    machine.run("kill", "-HUP", str(service.main_pid))
    service.await_message("by the signal SIGHUP: system.reload: failed")

    # Who runs it in a unit of their own is found by it.
    machine.run(
        *("systemd-run", "--quiet", "--wait", "--unit=nightly", f"--uid={CAROL}"),
        *("superezioctl", "gpu", "uncordon", "0"),
    )
    told = json.loads(machine.output("superezioctl", "--json", "logs", "--audit", "-n", "1"))
    (record,) = told["records"]
    assert told["source"] == "journal"
    assert record["fields"]["actor_unit"] == "nightly.service"
    assert f"carol (uid={_UIDS[CAROL]}) by pid" in record["message"]
