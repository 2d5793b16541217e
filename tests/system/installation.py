"""Installs the project's wheel where a machine's services can reach it.

A service that runs as another user cannot reach a Python under /root, so the environment is made
with /usr/bin/python3 and mounted at /opt/superezio. It is kept in build/ by the hash of the lock
file: once it is there, no network is needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct

from system.machine import Machine, MachineError

_PROJECT = Path(__file__).parents[2]
_CACHE = _PROJECT / "build" / "system-venv"
_PYTHON = "/usr/bin/python3"
PREFIX = "/opt/superezio"
_FILES = _PROJECT / "packaging" / "files.sh"


class Installation(Struct, frozen=True):
    """An environment with the wheel of the present sources in it."""

    environment: Path

    @property
    def nspawn_options(self) -> tuple[str, ...]:
        """Options that mount it in a machine."""
        return (f"--bind-ro={self.environment}:{PREFIX}",)

    @classmethod
    def prepare(cls, *, scratch: Path) -> Installation:
        """Make the environment, or bring the one that is there up to date."""
        environment = _CACHE / _digest(
            (_PROJECT / "requirements.lock").read_bytes(), _version(_PYTHON).encode()
        )
        _CACHE.mkdir(parents=True, exist_ok=True)
        with _locked(_CACHE / "lock"):
            if not (environment / "complete").exists():
                _make_environment(environment)
            _install_wheel(environment, scratch)
        return cls(environment)


def install(machine: Machine) -> None:
    """Lay down commands, units, user and directories, as a package does."""
    version = machine.output("systemctl", "--version").split()[1]
    places = {"DESTDIR": str(machine.root), "PREFIX": PREFIX, "SYSTEMD": version}
    _call("sh", str(_FILES), "lay-down", environ=places)
    settle = ("env", f"PREFIX={PREFIX}", "sh", "-s", "settle")
    machine.run(*settle, stdin=_FILES.read_text())


def _make_environment(environment: Path) -> None:
    _call(_PYTHON, "-m", "venv", "--clear", str(environment))
    lock = str(_PROJECT / "requirements.lock")
    _call(*_pip(environment), "install", "--require-hashes", "--requirement", lock)
    (environment / "complete").touch()


def _install_wheel(environment: Path, scratch: Path) -> None:
    digest = _digest(*_sources())
    installed = environment / "installed"
    if installed.exists() and installed.read_text() == digest:
        return
    build = (sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--no-build-isolation")
    _call(*build, "--wheel-dir", str(scratch), str(_PROJECT))
    (wheel,) = scratch.glob("*.whl")
    _call(*_pip(environment), "install", "--no-deps", "--force-reinstall", str(wheel))
    for name in ("supereziod", "superezioctl"):
        script = environment / "bin" / name
        lines = script.read_text().splitlines(keepends=True)
        script.write_text("".join([f"#!{PREFIX}/bin/python\n", *lines[1:]]))
    installed.write_text(digest)


def _pip(environment: Path) -> tuple[str, ...]:
    return (str(environment / "bin" / "python"), "-m", "pip", "--quiet")


def _sources() -> Iterator[bytes]:
    yield (_PROJECT / "pyproject.toml").read_bytes()
    for part in ("daemon", "ctl"):
        for file in sorted((_PROJECT / part).rglob("*.py")):
            yield str(file).encode()
            yield file.read_bytes()


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def _version(python: str) -> str:
    return subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout


def _call(*command: str, environ: Mapping[str, str] = MappingProxyType({})) -> None:
    # Without it every start inside would compile all over: the mount is read-only there.
    own = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**own, **environ}
    )
    if done.returncode != 0:
        raise MachineError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
