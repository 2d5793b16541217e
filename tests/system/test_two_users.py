"""Two users who do not know each other share a GPU: queue, release and revoke, in own cgroups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from system.installation import PREFIX
from system.machine import Machine
from system.service import RefusedError, Service

ALICE, BOB = "alice", "bob"
#: On the larger GPU alone, and only once.
VRAM = "10GiB"
#: A program that does as it is told: it ends when its lease is to.
_POLITE = """\
import os
from superezio import Client

with Client() as client:
    events = client.events(["lease."])
    print("works", flush=True)
    for notification in events:
        event = notification.event
        if event.lease == os.environ["SUPEREZIO_LEASE"] and event.type == "lease.draining":
            break
    client.lease_acknowledge(event.lease, message="saving")
print("told to end: " + event.message, flush=True)
"""


class Programs:
    """What both users run, each a transient unit with a cgroup of its own."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._machine = service.machine
        for user in (ALICE, BOB):
            self._machine.run("useradd", "--no-create-home", "--groups", "superezio", user)
        self.uids = {user: int(self._machine.output("id", "-u", user)) for user in (ALICE, BOB)}

    def start(self, unit: str, user: str, *command: str) -> None:
        """Start a program of the user on a leased GPU; it waits in the queue, if it must."""
        self._machine.run(
            *("systemd-run", "--quiet", f"--unit={unit}", f"--uid={user}"),
            *("superezioctl", "run", "--vram", VRAM, "--name", unit, "--wait", "120s"),
            # They hear of a revocation by themselves.
            *("--on-revoke", "ignore", "--", *command),
        )

    def await_line(self, unit: str, part: str) -> str:
        """Wait until the program has written a line with that in it."""

        def found() -> str | None:
            lines = (str(each["MESSAGE"]) for each in self._machine.journal(f"--unit={unit}"))
            return next((line for line in lines if part in line), None)

        line: str = self._machine.wait_until(f"{unit} to say {part}", found)
        return line

    def await_lease(self, unit: str) -> dict[str, Any]:
        """Wait until the program has a lease, and return it."""

        def found() -> dict[str, Any] | None:
            leases = self._service.call("lease.list")["leases"]
            return next((lease for lease in leases if lease["name"] == unit), None)

        lease: dict[str, Any] = self._machine.wait_until(f"the lease of {unit}", found)
        return lease

    def cgroup_of(self, lease: dict[str, Any]) -> str:
        """Return the cgroup of the lease's holder."""
        (holder,) = lease["holder"]
        return self._machine.output("cat", f"/proc/{holder['pid']}/cgroup").strip()


@pytest.fixture
def service(machine: Machine) -> Iterator[Service]:
    service = Service(machine)
    service.start()
    yield service
    machine.run("systemctl", "stop", "superezio.service", "superezio.socket")


def test_two_users_queue_release_and_revoke(service: Service) -> None:
    machine, programs = service.machine, Programs(service)

    # Alice has the GPU, and Bob waits for it: he sees his place, and why.
    programs.start("alice-trains", ALICE, "sleep", "1000")
    of_alice = programs.await_lease("alice-trains")
    programs.start("bob-serves", BOB, f"{PREFIX}/bin/python", "-u", "-c", _POLITE)
    assert "waiting, place 1 of 1 in the queue" in programs.await_line("bob-serves", "waiting")
    (waiter,) = service.call("lease.list", user=BOB)["queue"]
    assert waiter["uid"] == programs.uids[BOB]
    assert waiter["name"] == "bob-serves"
    assert waiter["position"] == 1
    assert "needs 10.0 GiB" in waiter["reason"]

    # Neither sees what is personal of the other's, nor can end it.
    (seen,) = service.call("lease.list", user=ALICE)["queue"]
    assert (seen["uid"], seen["name"], seen["correlation_id"]) == (programs.uids[BOB], None, None)
    seen = service.call("lease.get", {"lease": of_alice["id"]}, user=BOB)
    assert seen["uid"] == programs.uids[ALICE]
    assert (seen["name"], seen["holder"], seen["environment"]) == (None, [], {})
    assert seen["correlation_id"] is None
    for command in ("release", "revoke"):
        done = machine.run("superezioctl", "lease", command, of_alice["id"], user=BOB, check=False)
        assert done.returncode == 4, done.stderr
        assert f"it is of user {ALICE}" in done.stderr
    with pytest.raises(RefusedError) as refused:
        service.call("lease.attach", {"lease": of_alice["id"], "pid": 1}, user=BOB)
    assert refused.value.kind == "permission_denied"
    assert programs.await_lease("alice-trains")["revocation"] is None

    # Alice gives it back, and Bob has it.
    machine.run("superezioctl", "lease", "release", of_alice["id"], user=ALICE)
    of_bob = programs.await_lease("bob-serves")
    assert of_bob["uid"] == programs.uids[BOB]
    assert _gpus(of_bob) == _gpus(of_alice)
    programs.await_line("bob-serves", "works")
    assert service.leases() == [of_bob["id"]]

    # They are in cgroups of their own.
    programs.start("alice-again", ALICE, "sleep", "1000")
    programs.await_line("alice-again", "place 1 of 1")
    assert programs.cgroup_of(of_bob).endswith("/bob-serves.service")

    # An admin asks Bob's lease back: his program is told, says so, and ends; Alice has the GPU.
    machine.run(
        "superezioctl",
        "lease",
        "revoke",
        of_bob["id"],
        "--deadline",
        "60s",
        "--reason",
        "for alice",
    )
    assert "for alice" in programs.await_line("bob-serves", "told to end")
    again = programs.await_lease("alice-again")
    assert _gpus(again) == _gpus(of_bob)
    assert programs.cgroup_of(again).endswith("/alice-again.service")
    assert service.leases() == [again["id"]]
    answered = service.await_message(f"lease {of_bob['id']} will end in time")
    assert "saving" in answered
    ended = machine.journal("--unit=superezio", f"LEASE={of_bob['id']}", "EVENT=lease.released")
    assert len(ended) == 1
    machine.run("systemctl", "stop", "alice-again", "alice-trains")
    machine.wait_until("all leases to end", lambda: service.leases() == [])


def _gpus(lease: dict[str, Any]) -> list[str]:
    return [gpu["uuid"] for gpu in lease["gpus"]]
