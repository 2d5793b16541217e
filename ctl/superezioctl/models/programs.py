"""Whether a model's programs are there and may be executed, as its server would find them.

Nothing is run of them. What is looked at is what exec goes by: PATH, the directory that a server
works in, and what the user that it runs as may do.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from superezioctl.models.model import Model

_PATIENCE_S: Final = 5.0
_ANYBODY_MAY_EXECUTE: Final = 0o111


class UnusableProgramError(Exception):
    """A program cannot be executed; the message says why, and what to do."""

    def __init__(self, message: str, *, missing: bool) -> None:
        super().__init__(message)
        #: Whether it is not there at all.
        self.missing = missing


class Account(Struct, frozen=True, kw_only=True):
    """Whom a server runs as."""

    name: str
    uid: int
    gid: int
    groups: list[int]

    @classmethod
    def of(cls, user: str, groups: list[str]) -> Account | None:
        """Return a user, with groups on top of its own; None for one this host does not know."""
        try:
            entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        except KeyError:
            return None
        own = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return cls(
            name=entry.pw_name,
            uid=entry.pw_uid,
            gid=entry.pw_gid,
            groups=[*own, *(each.gr_gid for each in grp.getgrall() if each.gr_name in groups)],
        )


class Place(Struct, frozen=True, kw_only=True):
    """Where a server runs: its PATH, its directory, and as whom; None is whoever asks."""

    path: str
    directory: str
    account: Account | None = None

    @classmethod
    def here(cls) -> Place:
        """Return that of this process."""
        return cls(path=os.environ.get("PATH", os.defpath), directory=".")


def unusable(model: Model, place: Place) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the keys of a model's programs that cannot be executed, and what is wrong with each."""
    there = Place(
        path=model.environment.get("PATH", place.path),
        directory=model.working_directory or place.directory,
        account=place.account,
    )
    commands: dict[tuple[str, ...], list[str]] = {("command",): model.command}
    if model.ready is not None and model.ready.command is not None:
        commands["ready", "command"] = model.ready.command
    for key, command in commands.items():
        try:
            look_for(command[0], there)
        except UnusableProgramError as error:
            yield key, str(error)


def look_for(program: str, place: Place) -> None:
    """Look for a program as exec does. Raises UnusableProgramError."""
    if "/" in program:
        _check(Path(place.directory, program), place.account)
        return
    first: UnusableProgramError | None = None
    for directory in place.path.split(os.pathsep):
        try:
            _check(Path(place.directory, directory, program), place.account)
        except UnusableProgramError as error:
            first = error if first is None and not error.missing else first
        else:
            return
    if first is not None:
        raise first
    told = f"there is no program {program!r} in {place.path or 'an empty PATH'}: install it, or "
    raise UnusableProgramError(f"{told}give its whole path", missing=True)


def _check(file: Path, account: Account | None) -> None:
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        told = f"there is no {file}: install it, or mend the path"
        raise UnusableProgramError(told, missing=True) from None
    except PermissionError:
        if _is_another(account):
            # It may be there for that one; only root can see as others see.
            return
        raise _kept_out(file, account) from None
    except (OSError, ValueError) as error:
        told = f"cannot look at {str(file)!r}: {getattr(error, 'strerror', error)}; mend the path"
        raise UnusableProgramError(told, missing=False) from None
    if stat.S_ISDIR(mode):
        told = f"{file} is a directory: name the program in it"
        raise UnusableProgramError(told, missing=False)
    if not stat.S_ISREG(mode) or not mode & _ANYBODY_MAY_EXECUTE:
        told = f"{file} is not executable: `chmod +x {file}`, or name the program that it is for"
        raise UnusableProgramError(told, missing=False)
    if not _may_execute(file, account):
        raise _kept_out(file, account)


def _is_another(account: Account | None) -> bool:
    return account is not None and account.uid != os.geteuid()


def _may_execute(file: Path, account: Account | None) -> bool:
    """Say whether a user may; where that is not for this process to find out, it is taken so."""
    if account is None or not _is_another(account):
        return os.access(file, os.X_OK)
    if os.geteuid() != 0:
        return True
    try:
        done = subprocess.run(
            ["/usr/bin/test", "-x", file],
            user=account.uid,
            group=account.gid,
            extra_groups=account.groups,
            cwd="/",
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return True
    return done.returncode == 0


def _kept_out(file: Path, account: Account | None) -> UnusableProgramError:
    who = "you" if account is None else f"the user {account.name}"
    told = f"{who} may not execute {file}: `namei -l {file}` shows what of it is closed"
    return UnusableProgramError(told, missing=False)
