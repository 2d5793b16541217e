"""The real podman, with an image made of the host's static busybox: there is no registry here."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

IMAGE = "localhost/superezio-test"

#: Works where cgroups are of both versions and limits may not be raised, as in nested machines.
_CONF = """\
[containers]
default_ulimits = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""


class Podman:
    """podman with a storage of its own, in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        conf = directory / "containers.conf"
        conf.write_text(_CONF)
        storage = directory / "storage.conf"
        storage.write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{directory}/graph"\n'
            f'runroot = "{directory}/run"\n'
        )
        self.environment = {
            "CONTAINERS_CONF": str(conf),
            "CONTAINERS_STORAGE_CONF": str(storage),
        }

    def __call__(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["podman", *words],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"podman {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def make_image(self) -> None:
        """Import an image that has busybox and nothing else."""
        archive = self._directory / "image.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(_busybox(), "bin/busybox")
            for name in ("sh", "sleep", "cat", "true", "env"):
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link, io.BytesIO())
        self("import", str(archive), IMAGE)

    def close(self) -> None:
        """End and remove all containers, and the storage."""
        self("rm", "--all", "--force", "--time=0", check=False)
        with contextlib.suppress(OSError):
            shutil.rmtree(self._directory)


@functools.cache
def why_not() -> str | None:
    """Return why no container can be run here, or None."""
    if os.geteuid() != 0:
        return "the test of podman needs root"
    for program, package in (("podman", "podman"), ("runc", "runc")):
        if shutil.which(program) is None:
            return f"{program} is not there: apt-get install --no-install-recommends {package}"
    if not Path(_busybox()).exists():
        return "there is no static busybox: apt-get install busybox-static"
    podman = Podman(Path(tempfile.mkdtemp(prefix="superezio-podman-")))
    try:
        podman.make_image()
        podman("run", "--rm", "--network=none", "--ulimit=host", IMAGE, "/bin/true")
    except RuntimeError as error:
        return f"podman runs no container here: {error}"
    finally:
        podman.close()
    return None


def _busybox() -> str:
    return "/bin/busybox"
