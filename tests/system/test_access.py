"""The matrix of access, cell by cell: real users and groups, one booted machine, one daemon.

What has to be is in access_matrix.py and access_views.py, as tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from system.access_matrix import MATRIX, ROLES, STEPS, Role, Step, may_call
from system.callers import Caller, Json, kind_of
from system.installation import Installation, install
from system.machine import Machine
from system.service import GIB, UNIT, Service

#: Whom the machine has: the role each has, and how useradd is told of it.
USERS: dict[str, tuple[Role, tuple[str, ...]]] = {
    "vera": ("observer", ()),
    "olga": ("observer", ("--groups", "adm,staff")),
    "anna": ("user", ("--groups", "superezio")),
    "ben": ("user", ("--groups", "superezio")),
    "clara": ("user", ("--gid", "superezio")),
    "fritz": ("user", ()),
    "dora": ("admin", ("--groups", "superezio-admin")),
    "erik": ("admin", ("--gid", "superezio-admin")),
    "hanna": ("admin", ("--groups", "superezio,superezio-admin")),
    "greta": ("admin", ()),
}
#: Besides those: the daemon's own user, and root.
OTHERS: dict[str, Role] = {"superezio": "admin", "root": "admin", "nobody": "observer"}
CALLERS: dict[str, Role] = {**{user: role for user, (role, _) in USERS.items()}, **OTHERS}
CONFIG = """\
[access]
users = ["fritz"]
admins = ["greta"]
"""
#: Numbers that stand for what a caller was not given.
NONE: dict[str, Any] = {"reservation": 1, "permit": 1}
GROUP = {"user": "superezio", "admin": "superezio-admin"}


@pytest.fixture(scope="module")
def machine(installation: Installation) -> Iterator[Machine]:
    with Machine(nspawn_options=installation.nspawn_options) as machine:
        install(machine)
        for user, (_, options) in USERS.items():
            machine.run("useradd", "--no-create-home", *options, user)
        yield machine


@pytest.fixture(scope="module")
def service(machine: Machine) -> Iterator[Service]:
    service = Service(machine, config=CONFIG)
    service.start()
    yield service
    machine.run("systemctl", "stop", UNIT, "superezio.socket")


@pytest.fixture(scope="module")
def standing(service: Service) -> str:
    """A lease of root's that stands."""
    return service.lease()[0]


# --- who may call what --------------------------------------------------------------------------


def test_every_method_has_a_row_and_no_row_has_none(service: Service) -> None:
    document = service.call("rpc.discover")
    has = {
        each["name"]: (each["x-access"]["role"], each["x-access"]["visibility"])
        for each in document["methods"]
    }
    assert has == MATRIX
    assert {step.method for step in STEPS} == set(MATRIX)


@pytest.mark.parametrize(("user", "role"), CALLERS.items(), ids=CALLERS)
def test_a_user_may_call_what_the_matrix_says(
    service: Service, standing: str, user: str, role: Role
) -> None:
    with Caller(service.machine, user) as caller:
        told = caller.result("system.info")
        assert (told["uid"], told["role"]) == (caller.uid, role)
        known = {**NONE, "standing": standing, "pid": caller.pid}
        wrong = [wrong for step in STEPS if (wrong := _faults(caller, role, step, known))]
    assert not wrong, "\n".join(wrong)


def _faults(caller: Caller, role: Role, step: Step, known: dict[str, Any]) -> str | None:
    """Make a call; return what is wrong with how it ends."""
    params = {name: _filled_in(value, known) for name, value in step.params.items()}
    answer = caller.ask(step.method, params)
    ends, what = kind_of(answer), f"{caller.user} ({role}) calls {step.method}"
    if may_call(role, step.method):
        known.update({name: answer.get("result", {}).get(member) for name, member in step.keeps})
        # A lease that one may not make is none to look at.
        wanted = "stale_lease" if params.get("lease") == "none" else step.ends
        return None if ends == wanted else f"{what}: {ends}, not {wanted}: {answer}"
    return None if _is_refusal(answer, role, step.method) else f"{what}: {answer}"


def _filled_in(value: Any, known: dict[str, Any]) -> Any:
    if isinstance(value, str) and value.startswith("$"):
        return known.get(value[1:], "none")
    return value


def _is_refusal(answer: Json, role: Role, method: str) -> bool:
    """Whether it says what was refused to whom, which group to join, and to log in again."""
    needs = MATRIX[method][0]
    group = GROUP[needs]
    error = answer.get("error", {"message": "", "data": {}})
    data = error["data"]
    return (
        data.get("kind") == "permission_denied"
        and (data["role"], data["needs"], data["group"]) == (role, needs, group)
        and error["message"]
        == f"cannot call {method} as {role}: it needs the role {needs}. Join the group {group}"
        f' (sudo usermod -aG {group} "$USER"), then log in again.'
    )


def test_the_command_prints_the_matrix(service: Service) -> None:
    printed = json.loads(service.machine.output("superezioctl", "--json", "access", user="anna"))
    assert printed["your_role"] == "user"
    rows = {row["method"]: (row["role"], row["visibility"]) for row in printed["methods"]}
    assert rows == MATRIX
    lines = service.machine.output("superezioctl", "access").splitlines()
    for method, (least, visibility) in MATRIX.items():
        cells = ["yes" if may_call(role, method) else "-" for role in ROLES]
        assert [method, *cells, visibility] in [line.split() for line in lines], (method, least)


@pytest.mark.parametrize(
    ("user", "command", "group"),
    [
        ("vera", ("lease", "acquire", "--vram", "1GiB", "--ttl", "1m"), "superezio"),
        ("vera", ("run", "--vram", "1GiB", "--", "true"), "superezio"),
        ("vera", ("gpu", "cordon", "0"), "superezio-admin"),
        ("ben", ("gpu", "detach"), "superezio-admin"),
        ("ben", ("reload",), "superezio-admin"),
    ],
)
def test_a_refused_command_says_which_group_to_join(
    service: Service, user: str, command: tuple[str, ...], group: str
) -> None:
    refused = service.machine.run("superezioctl", *command, user=user, check=False)
    assert refused.returncode == (125 if command[0] == "run" else 4), refused.stderr
    assert f"Join the group {group} " in refused.stderr
    assert "log in again" in refused.stderr


def test_a_group_that_was_joined_counts_from_the_next_login_on(service: Service) -> None:
    machine = service.machine
    machine.run("useradd", "--no-create-home", "ida")
    with Caller(machine, "ida", connect=False) as logged_in:
        machine.run("usermod", "--append", "--groups", "superezio", "ida")
        logged_in.connect()
        assert _is_refusal(logged_in.ask("breaker.list"), "observer", "breaker.list")
        with Caller(machine, "ida") as again:
            assert again.result("breaker.list") == {"breakers": []}
        assert logged_in.result("system.info")["role"] == "observer"


def test_a_reload_gives_and_takes_roles_of_those_who_are_connected(service: Service) -> None:
    machine = service.machine
    with Caller(machine, "ben") as ben, Caller(machine, "olga") as olga:
        try:
            service.configure(f'{CONFIG}user_groups = ["staff"]\nadmin_groups = ["adm"]\n')
            service.call("system.reload")
            assert olga.result("system.info")["role"] == "admin"
            refused = ben.ask("lease.acquire", {"vram_bytes": GIB})
            assert "Join the group staff (" in refused["error"]["message"]
            assert refused["error"]["data"]["group"] == "staff"
            service.configure(f'{CONFIG}user_groups = ["staff"]\n')
            service.call("system.reload")
            assert olga.result("system.info")["role"] == "user"
        finally:
            service.configure(CONFIG)
            service.call("system.reload")
        assert olga.result("system.info")["role"] == "observer"
        assert ben.result("system.info")["role"] == "user"


def test_what_the_daemon_writes_others_cannot_read(service: Service, standing: str) -> None:
    assert standing in service.leases()
    places = ("/run/superezio", "/var/lib/superezio", "/etc/superezio")
    for user in ("anna", "vera"):
        found = service.machine.run(
            *("find", *places, "-type", "f", "-readable"),
            user=user,
            check=False,
        ).stdout.splitlines()
        assert all(each.startswith("/etc/superezio/") for each in found), (user, found)
        assert found, "the configuration is for all to read"
