"""Roles, from ids alone; and peers as the kernel tells them, seen from processes of other users."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from superezio.errors import PermissionDeniedError
from superezio.wire import Role
from supereziod.rpc.access import AccessPolicy, resolve_access
from supereziod.rpc.peers import Peer, open_peer_pidfd, read_peer
from supereziod.rpc.requests import RequestContext

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users")

POLICY = AccessPolicy(
    own_uid=990,
    user_gids=frozenset({2000}),
    admin_gids=frozenset({3000}),
    user_uids=frozenset({1500}),
    admin_uids=frozenset({1600}),
)


@pytest.mark.parametrize(
    ("uid", "groups", "role"),
    [
        (1000, {1000}, "observer"),
        (1000, {1000, 2000}, "user"),
        (1000, {1000, 3000}, "admin"),
        (1000, {2000, 3000}, "admin"),
        (1500, {1500}, "user"),
        (1600, {1600}, "admin"),
        (0, {0}, "admin"),
        (990, {990}, "admin"),
        (1000, {0}, "observer"),
    ],
)
def test_the_role_follows_from_uid_and_groups(uid: int, groups: set[int], role: Role) -> None:
    peer = Peer(uid=uid, gid=min(groups), pid=1, groups=frozenset(groups))
    assert POLICY.role_of(peer) == role


def test_priority_is_capped_by_the_role() -> None:
    caps = [POLICY.max_priority(role) for role in ("observer", "user", "admin")]
    assert caps == [0, 100, 1000]


@pytest.mark.parametrize(("needs", "group"), [("user", "superezio"), ("admin", "superezio-admin")])
def test_a_refusal_says_what_to_do(needs: Role, group: str) -> None:
    error = POLICY.refusal("lease.acquire", role="observer", needs=needs)
    assert f"Join the group {group} " in error.message
    assert "log in again" in error.message
    assert error.data == {"role": "observer", "needs": needs, "group": group}


@pytest.mark.parametrize(
    "message", ["cannot change lease x: it is of uid 7", "cannot change lease x: it is of uid 7."]
)
def test_a_method_that_is_for_admins_in_part_says_how_to_become_one(message: str) -> None:
    policy = AccessPolicy(own_uid=0, admin_group="ops")
    told = policy.with_the_way(PermissionDeniedError(message, data={"name": "x", "needs": "admin"}))
    assert told.message == (
        "cannot change lease x: it is of uid 7. Admins may: join the group ops"
        ' (sudo usermod -aG ops "$USER"), then log in again.'
    )
    assert told.data == {"name": "x", "needs": "admin", "group": "ops"}


@pytest.mark.parametrize("needs", ["user", "admin"])
def test_where_no_group_gives_a_role_none_is_named_but_who_can_give_it(needs: Role) -> None:
    policy = resolve_access(user_groups=(), admin_groups=()).policy
    error = policy.refusal("gpu.cordon", role="observer", needs=needs)
    assert "group superezio" not in error.message
    assert f"ask for your name in access.{needs}s or access.{needs}_groups" in error.message
    assert error.data["group"] is None
    assert policy.with_the_way(error) is error
    of_part = PermissionDeniedError("cannot: it is of uid 7", data={"needs": "admin"})
    assert "Admins may: no group has it here: ask for your name in access.admins" in (
        policy.with_the_way(of_part).message
    )


def test_what_being_an_admin_is_no_way_to_and_what_says_its_way_are_left_alone() -> None:
    policy = AccessPolicy(own_uid=0)
    of_method = policy.refusal("gpu.cordon", role="user", needs="admin")
    of_group = PermissionDeniedError(
        "it is shared by others. Join the group ai", data={"groups": []}
    )
    assert policy.with_the_way(of_method) is of_method
    assert policy.with_the_way(of_group) is of_group


def test_names_are_resolved_once_and_unknown_ones_are_told() -> None:
    resolved = resolve_access(
        user_groups=["root", "no-such-group"],
        admin_groups=["4711"],
        users=["root", "no-such-user", "nul\0"],
        admins=["1234"],
    )
    policy = resolved.policy
    assert policy.user_gids == {grp.getgrnam("root").gr_gid}
    assert policy.admin_gids == {4711}
    assert policy.user_uids == {pwd.getpwnam("root").pw_uid}
    assert policy.admin_uids == {1234}
    assert (policy.user_group, policy.admin_group) == ("root", "4711")
    assert policy.own_uid == os.geteuid()
    assert resolved.unknown == ["no-such-group", "no-such-user", "nul\0"]


@pytest.mark.parametrize(
    ("role", "sees"),
    [("observer", {1000}), ("user", {1000}), ("admin", {0, 1000, 1001})],
)
def test_who_is_no_admin_sees_in_full_what_is_of_the_own_uid(role: Role, sees: set[int]) -> None:
    peer = Peer(uid=1000, gid=1000, pid=1, groups=frozenset())
    origin: Any = SimpleNamespace(role=role, peer=peer)
    session: Any = None
    request = RequestContext(origin, "lease.list", session, None, 0, 1)
    assert {uid for uid in (0, 1000, 1001) if request.may_see(uid)} == sees


# --- the kernel's word --------------------------------------------------------------------------

CONNECT_AS = """
import os, socket, sys
uid, gid, groups, path = sys.argv[1:]
os.setgroups([int(each) for each in groups.split(",") if each])
os.setresgid(int(gid), int(gid), int(gid))
os.setresuid(int(uid), int(uid), int(uid))
sock = socket.socket(socket.AF_UNIX)
sock.connect(path)
sys.stdin.read()
"""


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.geteuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o011)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.bind(str(tmp_path / "s"))
        (tmp_path / "s").chmod(0o666)
        sock.listen()
        yield sock


def connect_as(
    listening: socket.socket, *, uid: int, gid: int, groups: list[int]
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    child = subprocess.Popen(
        [
            sys.executable,
            "-ISc",
            CONNECT_AS,
            str(uid),
            str(gid),
            ",".join(map(str, groups)),
            listening.getsockname(),
        ],
        stdin=subprocess.PIPE,
    )
    return child, listening.accept()[0]


@AS_ROOT
@pytest.mark.parametrize("count", [0, 3, 256, 257, 3000])
def test_a_peer_is_known_with_all_its_groups(listening: socket.socket, count: int) -> None:
    groups = list(range(5000, 5000 + count))
    child, sock = connect_as(listening, uid=1234, gid=4321, groups=groups)
    with child, sock:
        peer = read_peer(sock)
        child.communicate()
    assert (peer.uid, peer.gid, peer.pid) == (1234, 4321, child.pid)
    assert peer.groups == {4321, *groups}


@AS_ROOT
def test_a_peer_has_the_role_of_its_supplementary_group(listening: socket.socket) -> None:
    child, sock = connect_as(listening, uid=1234, gid=1234, groups=[2000])
    with child, sock:
        assert POLICY.role_of(read_peer(sock)) == "user"
        child.communicate()


def test_a_pidfd_is_of_the_process_that_connected(listening: socket.socket) -> None:
    ours = socket.socket(socket.AF_UNIX)
    ours.connect(listening.getsockname())
    sock, _ = listening.accept()
    with ours, sock:
        pidfd = open_peer_pidfd(sock)
        if pidfd is None:
            pytest.skip("this kernel has no SO_PEERPIDFD")
        assert not os.get_inheritable(pidfd)
        info = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
        os.close(pidfd)
    assert f"Pid:\t{os.getpid()}\n" in info


class DeafSocket:
    """A kernel that knows SO_PEERCRED and nothing newer."""

    def fileno(self) -> int:
        return -1

    def getsockopt(self, _level: int, option: int, _length: int, /) -> bytes:
        if option == socket.SO_PEERCRED:
            return (7).to_bytes(4, sys.byteorder) + (8).to_bytes(4, sys.byteorder) * 2
        raise OSError(92, "Protocol not available")


def test_an_older_kernel_gives_what_it_has() -> None:
    assert read_peer(DeafSocket()) == Peer(uid=8, gid=8, pid=7, groups=frozenset({8}))
    assert open_peer_pidfd(DeafSocket()) is None
