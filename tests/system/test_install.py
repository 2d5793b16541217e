"""What is laid down where, and what becomes of an installation that lies elsewhere."""

from __future__ import annotations

from pathlib import Path

from system.installation import PREFIX, Installation, install
from system.machine import Machine
from system.service import UNIT, Service

_SYSTEMD = Path(__file__).parents[2] / "systemd"
_SOCKET = "superezio.socket"
# A machine in a container has a boot id of its own, and a service with a private /proc sees that of
# the host, as no machine of its own has it: both units are given one, to be of one boot.
_OLD_UNIT = """\
[Unit]
Requires=superezio.socket
[Service]
Type=notify
User=superezio
ExecStart=supereziod --socket /run/superezio/control.sock
StateDirectory=superezio
ProtectControlGroups=yes
[Install]
WantedBy=multi-user.target
Also=superezio.socket
"""


def _install_as_before(machine: Machine) -> Service:
    """Lay everything where `make install` once did, and start it."""
    for name in ("supereziod", "superezioctl"):
        machine.run("ln", "-sfn", f"{PREFIX}/bin/{name}", f"/usr/local/bin/{name}")
    machine.write(f"/etc/systemd/system/{UNIT}", _OLD_UNIT)
    machine.write(f"/etc/systemd/system/{_SOCKET}", (_SYSTEMD / _SOCKET).read_text())
    for kind in ("sysusers", "tmpfiles"):
        text = (_SYSTEMD / f"superezio.{kind}.conf").read_text()
        machine.write(f"/etc/{kind}.d/superezio.conf", text)
    machine.run("systemd-sysusers", "superezio.conf")
    machine.run("systemd-tmpfiles", "--create", "superezio.conf")
    machine.run("systemctl", "daemon-reload")
    service = Service(machine)
    machine.run("systemctl", "enable", "--now", _SOCKET, UNIT)
    return service


def test_an_earlier_installation_moves_and_its_leases_stand(installation: Installation) -> None:
    with Machine(nspawn_options=installation.nspawn_options) as machine:
        service = _install_as_before(machine)
        lease, _ = service.lease()
        pid = service.main_pid
        machine.write(f"/etc/systemd/system/{UNIT}.d/own.conf", "[Service]\nNice=3\n")
        install(machine)
        assert service.main_pid != pid
        assert service.leases() == [lease]
        found = machine.properties(UNIT, "FragmentPath", "UnitFileState", "Nice")
        assert found.pop("FragmentPath").endswith(f"/lib/systemd/system/{UNIT}")
        assert found == {"UnitFileState": "enabled", "Nice": "3"}
        left = machine.output("find", "/etc", "/usr/local/bin", "-name", "superezio*")
        assert sorted(left.split()) == [
            "/etc/superezio",
            "/etc/superezio/superezio.toml",
            "/etc/systemd/system/multi-user.target.wants/superezio.service",
            "/etc/systemd/system/sockets.target.wants/superezio.socket",
            "/etc/systemd/system/superezio.service.d",
        ]
        # A start of the machine finds it, too.
        machine.run("systemctl", "stop", _SOCKET, UNIT)
        machine.run("systemctl", "start", "sockets.target", "multi-user.target")
        assert machine.properties(UNIT, "ActiveState") == {"ActiveState": "active"}


def test_a_unit_that_an_administrator_has_edited_in_full_stays_theirs(machine: Machine) -> None:
    own = f"/etc/systemd/system/{UNIT}"
    machine.write(own, _OLD_UNIT)
    install(machine)
    assert machine.properties(UNIT, "FragmentPath") == {"FragmentPath": own}


def test_presets_start_the_daemon_and_nothing_else(machine: Machine) -> None:
    listed = machine.output("systemctl", "list-unit-files", "--no-legend", "superezio*")
    presets = {line.split()[0]: line.split()[2] for line in listed.splitlines()}
    assert presets[UNIT] == presets[_SOCKET] == "enabled"
    rest = {name: preset for name, preset in presets.items() if name not in {UNIT, _SOCKET}}
    assert "enabled" not in rest.values()


def test_model_servers_run_as_a_user_who_may_lease(machine: Machine) -> None:
    groups = machine.output("id", "--name", "--groups", "superezio-models").split()
    assert {"superezio", "render", "video"} <= set(groups)
    assert "superezio-admin" not in groups


def test_configuration_is_roots_and_anyone_may_read_it(machine: Machine) -> None:
    for directory in ("", "/conf.d", "/models"):
        found = machine.output("stat", "--format=%U:%G %a", f"/etc/superezio{directory}")
        assert found.strip() == "root:root 755"
