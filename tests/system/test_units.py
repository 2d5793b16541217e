"""The shipped units, as systemd reads them."""

from __future__ import annotations

from system.machine import Machine


def test_units_load_without_a_warning_and_their_manual_pages_are_there(machine: Machine) -> None:
    has_man = machine.run("sh", "-c", "command -v man", check=False).returncode == 0
    done = machine.run(
        "systemd-analyze",
        "verify",
        "--recursive-errors=yes",
        # A tree without man cannot show a page.
        f"--man={'yes' if has_man else 'no'}",
        "superezio.service",
        "superezio.socket",
        "superezio-model@llama.service",
        "superezio-models.slice",
        "superezio-overheat.service",
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_daemon_has_a_user_and_its_groups(machine: Machine) -> None:
    assert machine.output("id", "--user", "--name", "superezio").strip() == "superezio"
    assert machine.output("getent", "group", "superezio-admin").startswith("superezio-admin:")


def test_the_runtime_directory_is_the_daemons_and_anyone_may_pass(machine: Machine) -> None:
    found = machine.output("stat", "--format=%U:%G %a", "/run/superezio")
    assert found.strip() == "superezio:superezio 755"


def test_the_socket_is_open_to_all_and_keeps_its_backlog(machine: Machine) -> None:
    machine.run("systemctl", "start", "superezio.socket")
    assert machine.output("stat", "--format=%a", "/run/superezio/control.sock").strip() == "666"
    assert machine.properties("superezio.socket", "Backlog", "FileDescriptorName") == {
        "Backlog": "4096",
        "FileDescriptorName": "control",
    }


def test_a_hot_quarter_of_an_hour_is_three_restarts(machine: Machine) -> None:
    assert machine.properties(
        "superezio.service",
        "RestartUSec",
        "StartLimitBurst",
        "StartLimitIntervalUSec",
        "TimeoutAbortUSec",
        "KillMode",
        "LimitCORE",
    ) == {
        "RestartUSec": "5s",
        "StartLimitBurst": "3",
        "StartLimitIntervalUSec": "15min",
        "TimeoutAbortUSec": "15s",
        "KillMode": "mixed",
        "LimitCORE": "0",
    }


def test_a_bad_configuration_fails_the_unit_and_says_where(machine: Machine) -> None:
    machine.write("/etc/superezio/superezio.toml", "[leases]\ngrace = 'soon'\n")
    assert machine.run("systemctl", "start", "superezio.service", check=False).returncode != 0
    assert machine.properties("superezio.service", "ExecMainStatus", "NRestarts") == {
        "ExecMainStatus": "78",
        "NRestarts": "0",
    }
    messages = [entry["MESSAGE"] for entry in machine.journal("--unit=superezio.service")]
    expected = "superezio.toml:2: leases.grace: expected a duration such as 5s, got 'soon'"
    assert any(expected in message for message in messages)
    errors = machine.journal("--unit=superezio.service", "--priority=err")
    assert any(expected in entry["MESSAGE"] for entry in errors), "they are marked as errors"
    checked = machine.run("superezioctl", "config", "check", check=False)
    assert (checked.returncode, expected in checked.stdout) == (1, True)
