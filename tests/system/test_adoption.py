"""Leases for services that run, in a real systemd: by the name of the unit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from superezio.wire import Lease
from system.machine import Machine
from system.service import Service


@pytest.fixture
def service(machine: Machine) -> Iterator[Service]:
    service = Service(machine)
    service.start()
    yield service
    machine.run("systemctl", "stop", "superezio.service", "superezio.socket")


def run_as_a_unit(machine: Machine, *options: str) -> None:
    machine.run("systemd-run", "--quiet", *options, "sh", "-c", "sleep 1000 & sleep 1001")


def acquire(machine: Machine, *words: str) -> dict[str, Any]:
    """Lease a GiB, and see that the wire's type reads what is printed."""
    printed = machine.output("superezioctl", "--json", "lease", "acquire", "--vram=1GiB", *words)
    lease: dict[str, Any] = json.loads(printed)
    assert set(lease) == set(Lease.__struct_fields__)
    return lease


def test_the_main_process_of_a_service_holds_its_lease(service: Service) -> None:
    machine = service.machine
    run_as_a_unit(machine, "--unit=llama")
    main = machine.properties("llama.service", "MainPID")["MainPID"]
    lease = acquire(machine, "--unit=llama")
    assert (lease["name"], lease["holder_confirmed"]) == ("llama.service", True)
    assert [str(process["pid"]) for process in lease["holder"]] == [main]
    machine.run("systemctl", "stop", "llama.service")
    machine.wait_until("the lease ends with the service", lambda: service.leases() == [])


def test_a_scope_that_has_no_main_process_holds_it_with_all_of_them(service: Service) -> None:
    machine = service.machine
    words = ["systemd-run", "--quiet", "--scope", "--unit=batch", "sh", "-c"]
    with machine.start(*words, "sleep 1000 & sleep 1001; true") as process:
        cgroup = "/sys/fs/cgroup/system.slice/batch.scope/cgroup.procs"
        procs = machine.wait_until(
            "three processes in the scope",
            lambda: (
                found
                if len(found := machine.run("cat", cgroup, check=False).stdout.split()) == 3
                else None
            ),
        )
        lease = acquire(machine, "--unit=batch.scope")
        assert sorted(str(process["pid"]) for process in lease["holder"]) == sorted(procs)
        machine.run("systemctl", "stop", "batch.scope")
        machine.wait_until("the lease ends with the scope", lambda: service.leases() == [])
        process.communicate()


def test_what_does_not_run_or_belongs_to_others_is_told_with_what_to_do(service: Service) -> None:
    machine = service.machine
    words = ("superezioctl", "lease", "acquire", "--vram=1GiB", "--unit")
    done = machine.run(*words, "no-such", check=False)
    assert (done.returncode, "there is no unit no-such.service" in done.stderr) == (1, True)
    done = machine.run(*words, "systemd-halt.service", check=False)
    assert (done.returncode, "Start it first" in done.stderr) == (1, True)
    run_as_a_unit(machine, "--unit=llama")
    machine.run("useradd", "--groups=superezio", "carol")
    done = machine.run(*words, "llama", user="carol", check=False)
    assert (done.returncode, "Ask as that user. Admins may: join" in done.stderr) == (4, True)
    assert service.leases() == []
