"""The groups that give roles, and whether the caller, and this login session, is in them."""

from __future__ import annotations

from collections.abc import Iterator

from superezio.wire import Role
from superezioctl.doctor.finding import Finding, fail, ok, warn
from superezioctl.doctor.host import Host

USERS = "superezio"
ADMINS = "superezio-admin"
Group = tuple[int, list[str]]


def check(host: Host, *, role: Role | None, installed: bool) -> Iterator[Finding]:
    """Check the groups. `role` is what the daemon takes the caller for, where it answers.

    A daemon that is not installed as a service needs none for whoever it lets in without.
    """
    found = {name: _group(host, name) for name in (USERS, ADMINS)}
    missing = [name for name, group in found.items() if group is None]
    if missing and not installed and role in {"user", "admin"}:
        names = " and ".join(missing)
        yield ok("groups", f"{names}: no such group, and you need none; others may only look")
    elif missing:
        yield warn("groups", f"{' and '.join(missing)}: no such group", _make(host, missing))
    else:
        yield ok("groups", f"{USERS} and {ADMINS} exist")
    yield _membership(host, found, role)


def _make(host: Host, missing: list[str]) -> str:
    if host.exists("/usr/lib/sysusers.d/superezio.conf"):
        return host.as_root("systemd-sysusers superezio.conf")
    return host.as_root(*(f"groupadd --system {name}" for name in missing))


def _membership(host: Host, groups: dict[str, Group | None], role: Role | None) -> Finding:
    if role in {"user", "admin"}:
        also = ", and administer" if role == "admin" else ""
        return ok("membership", f"you may lease GPUs{also}")
    if host.uid == 0:
        return ok("membership", "you are root, who may do everything")
    name = _user(host)
    member_of = [group for group, found in groups.items() if found and name in found[1]]
    in_session = [group for group, found in groups.items() if found and found[0] in host.gids]
    if in_session and role is None:
        return ok("membership", f"you are in the group {in_session[0]}, and may lease GPUs")
    if in_session:
        message = f"you are in the group {in_session[0]}, but the daemon lets others in"
        return fail("membership", message, "superezioctl access")
    if member_of:
        message = f"{name} is in the group {member_of[0]}, but this login session is not"
        return fail("membership", f"{message} yet: log in again", f"newgrp {member_of[0]}")
    return warn(
        "membership",
        f"{name} is not in the group {USERS}: you may look, but not lease; join and log in again",
        host.as_root(f"usermod -aG {USERS} {name}"),
    )


def _group(host: Host, name: str) -> Group | None:
    """Return the number and the members of a group; the name service may hang, so it is a child."""
    entry = host.run("getent", "group", name)
    if entry is None:
        lines = (host.text("/etc/group") or "").splitlines()
        entry = next((line for line in lines if line.startswith(f"{name}:")), "")
    fields = entry.strip().split(":")
    try:
        return int(fields[2]), [member for member in fields[3].split(",") if member]
    except (IndexError, ValueError):
        return None


def _user(host: Host) -> str:
    """Return the caller's name, or the number where it has none."""
    entry = host.run("getent", "passwd", str(host.uid))
    if entry is None:
        lines = (host.text("/etc/passwd") or "").splitlines()
        mine = (line for line in lines if line.split(":")[2:3] == [str(host.uid)])
        entry = next(mine, "")
    return entry.partition(":")[0] or str(host.uid)
