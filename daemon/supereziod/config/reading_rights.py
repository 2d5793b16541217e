"""Who may not read a file of the configuration, because of what, and what mends that."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from supereziod.config.setting import Origin, Problem, as_utf8

#: As whom superezio.service runs.
SERVICE_USER: Final = "superezio"
#: Says the first of its arguments that cannot be passed through, or read if it is the last. The
#: kernel is asked, as that user: the bits of a mode do not tell of access lists.
_LOOK: Final = """\
while [ $# -gt 1 ]; do
    [ -x "$1" ] || { printf %s "$1"; exit; }
    shift
done
[ -r "$1" ] || printf %s "$1"
"""


def why_unread(error: OSError, path: Path) -> str:
    """Return why this process cannot read a path; where it may not: who, and what mends it."""
    if not isinstance(error, PermissionError):
        return str(error.strerror)
    *directories, last = _way_to(path)
    shut = next((each for each in directories if not os.access(each, os.X_OK)), last)
    return _denied(_name_of(os.geteuid()), shut, is_last=shut == last)


def unreadable_to_service(paths: Iterable[Path], *, user: str = SERVICE_USER) -> list[Problem]:
    """Return what of the paths the service's user may not read, though root may.

    Only root can find out; anybody else, and a host without such a user, learns of none.
    """
    if os.geteuid() != 0:
        return []
    try:
        known = pwd.getpwnam(user)
    except KeyError:
        return []
    return list(_unreadable_to(known, paths))


def _unreadable_to(user: pwd.struct_passwd, paths: Iterable[Path]) -> Iterator[Problem]:
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    for path in paths:
        way = _way_to(path)
        shut = subprocess.run(
            ["/bin/sh", "-c", _LOOK, "sh", *map(os.fspath, way)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            cwd="/",
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=groups,
        ).stdout
        if shut:
            where = Path(os.fsdecode(shut))
            message = _denied(user.pw_name, where, is_last=where == way[-1])
            yield Problem(origin=Origin(name=as_utf8(str(path))), key="", message=message)


def _way_to(path: Path) -> list[Path]:
    path = path.absolute()
    return [*reversed(path.parents), path]


def _denied(user: str, shut: Path, *, is_last: bool) -> str:
    bits = ("rx" if shut.is_dir() else "r") if is_last else "x"
    return f"Permission denied to {user}: chmod a+{bits} {as_utf8(str(shut))}"


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
