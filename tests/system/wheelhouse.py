"""What `make install` downloads, fetched once, so that it works in a machine without a network.

Kept in build/ by the hash of the lock files and the version of the machine's Python.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

_PROJECT = Path(__file__).parents[2]
_KEPT = _PROJECT / "build" / "wheelhouse"
_LOCKS = ("requirements.lock", "requirements-build.lock")
_PYTHON = "/usr/bin/python3"
#: Packages that come as source need them, and no lock file names them.
_BUILD_TOOLS = ("setuptools", "wheel")


def wheelhouse() -> Path:
    """Return the directory with all of it, filled if need be."""
    version = subprocess.run([_PYTHON, "-VV"], capture_output=True, check=True).stdout
    digest = hashlib.sha256(version)
    for lock in _LOCKS:
        digest.update((_PROJECT / lock).read_bytes())
    kept = _KEPT / digest.hexdigest()[:16]
    if not kept.exists():
        # Filled beside and then renamed: a download that is cut short leaves nothing half done.
        filling = kept.with_suffix(".filling")
        shutil.rmtree(filling, ignore_errors=True)
        _fill(filling)
        filling.rename(kept)
    return kept


def _fill(directory: Path) -> None:
    environment = directory / "pip"
    subprocess.run([_PYTHON, "-m", "venv", environment], check=True)
    pip = [f"{environment}/bin/python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
    download = [*pip, "download", "--dest", str(directory)]
    locked = [f"--requirement={_PROJECT / lock}" for lock in _LOCKS]
    subprocess.run([*download, "--no-deps", "--require-hashes", *locked], check=True)
    subprocess.run([*download, "--no-deps", *_BUILD_TOOLS], check=True)
    shutil.rmtree(environment)
