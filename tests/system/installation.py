"""Installs the project's wheel where a machine's services can reach it.

A service that runs as another user cannot reach a Python under /root, so the environment is made
with the tree's /usr/bin/python3 and mounted at /opt/superezio. It is kept in build/ by the hash of
the lock file: once it is there, no network is needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct

from system.machine import Machine, MachineError
from system.trees import Tree

_PROJECT = Path(__file__).parents[2]
_CACHE = _PROJECT / "build" / "system-venv"
_PYTHON = "/usr/bin/python3"
PREFIX = "/opt/superezio"
_FILES = _PROJECT / "packaging" / "files.sh"
_WHEEL = (sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--no-build-isolation")


class Installation(Struct, frozen=True):
    """An environment with the wheel of the present sources in it."""

    environment: Path
    tree: Tree

    def boot(self) -> Machine:
        """Boot a machine of the tree with the environment in it; lay nothing down."""
        return Machine(tree=self.tree.root, nspawn_options=self.nspawn_options)

    @property
    def nspawn_options(self) -> tuple[str, ...]:
        """Options that mount it in a machine."""
        return (f"--bind-ro={self.environment}:{PREFIX}",)

    @classmethod
    def prepare(cls, *, scratch: Path, tree: Tree | None = None) -> Installation:
        """Make the environment, or bring the one that is there up to date."""
        tree = Tree() if tree is None else tree
        python = tree.python()
        environment = _CACHE / _digest(
            (_PROJECT / "requirements.lock").read_bytes(), python.encode()
        )
        _CACHE.mkdir(parents=True, exist_ok=True)
        with _locked(_CACHE / "lock"):
            if not (environment / "complete").exists():
                if tree.is_ours:
                    _make_environment(environment)
                else:
                    _make_environment_inside(environment, tree, python, scratch / "wheels")
            _install_wheel(environment, tree, scratch)
        return cls(environment, tree)


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
    pip = (str(environment / "bin" / "python"), "-m", "pip", "--quiet")
    _call(*pip, "install", "--require-hashes", "--requirement", lock)
    (environment / "complete").touch()


def _make_environment_inside(environment: Path, tree: Tree, python: str, wheels: Path) -> None:
    """Fetch for another Python than this machine's, and let that one install it."""
    found = re.fullmatch(r"Python (\d+\.\d+)\.\d+", python)
    if found is None:
        raise MachineError(f"no Python for superezio in {tree.root}: {python}")
    fetch = (sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--require-hashes")
    lock = str(_PROJECT / "requirements.lock")
    _call(*fetch, "--python-version", found[1], "--dest", str(wheels), "--requirement", lock)
    for source in wheels.glob("*.tar.gz"):
        _call(*_WHEEL, "--wheel-dir", str(wheels), str(source))
    environment.mkdir(exist_ok=True)
    mounts = {environment: PREFIX, wheels: "/mnt"}
    _call(*tree.command(_PYTHON, "-m", "venv", "--clear", PREFIX, mounts=mounts))
    names = [f"/mnt/{wheel.name}" for wheel in sorted(wheels.glob("*.whl"))]
    pip = (f"{PREFIX}/bin/python", "-m", "pip", "--quiet", "install", "--no-index", "--no-deps")
    _call(*tree.command(*pip, *names, mounts=mounts))
    (environment / "complete").touch()


def _install_wheel(environment: Path, tree: Tree, scratch: Path) -> None:
    digest = _digest(*_sources())
    installed = environment / "installed"
    if installed.exists() and installed.read_text() == digest:
        return
    _call(*_WHEEL, "--wheel-dir", str(scratch), str(_PROJECT))
    (wheel,) = scratch.glob("*.whl")
    install = ("--quiet", "install", "--no-deps", "--force-reinstall")
    if tree.is_ours:
        _call(str(environment / "bin" / "python"), "-m", "pip", *install, str(wheel))
    else:
        pip = (f"{PREFIX}/bin/python", "-m", "pip", *install, f"/mnt/{wheel.name}")
        _call(*tree.command(*pip, mounts={environment: PREFIX, scratch: "/mnt"}))
    for name in ("supereziod", "superezioctl"):
        script = environment / "bin" / name
        lines = script.read_text().splitlines(keepends=True)
        script.write_text("".join([f"#!{PREFIX}/bin/python\n", *lines[1:]]))
    installed.write_text(digest)


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
