"""Every package that is installed is pinned to a version and to the hashes of its files."""

from __future__ import annotations

import re
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((*ROOT.glob("requirements*.lock"), *ROOT.glob("tests/*/requirements*.txt")))
MAKEFILE = (ROOT / "Makefile").read_text()


def requirements(lock: Path) -> list[str]:
    """Return the requirements of a file, each in one line."""
    joined = lock.read_text().replace("\\\n", " ")
    return [
        line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_has_a_version_and_a_hash(lock: Path) -> None:
    assert requirements(lock)
    for line in requirements(lock):
        assert re.match(r"[a-z0-9._-]+==\S+ ", line), line
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", line), line


def test_what_the_package_needs_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[<>=\[]", each)[0].replace("_", "-") for each in project["dependencies"]}
    pinned = {line.split("==")[0] for line in requirements(ROOT / "requirements.lock")}
    assert needed <= pinned


def test_every_file_that_make_installs_from_is_checked_by_hash() -> None:
    commands = MAKEFILE.replace("\\\n", " ").splitlines()
    installs = [line for line in commands if re.search(r"(install|wheel)\b.* -r ", line)]
    assert {
        ROOT / name for line in installs for name in re.findall(r"-r (\S+?)[;\s]", f"{line} ")
    } == (set(LOCKS))
    assert all("--require-hashes" in line or "$(LOCKED)" in line for line in installs)
    assert "LOCKED := --require-hashes" in MAKEFILE


@pytest.mark.parametrize(
    ("answer", "code", "ends", "says"),
    [
        ("No known vulnerabilities found", 0, 0, "no known vulnerability"),
        ("Found 1 known vulnerability in 1 package", 1, 1, "raise the versions"),
        ("requests.exceptions.ConnectionError: no route", 1, 2, "Nothing is known of it"),
    ],
)
def test_an_audit_says_whether_it_could_ask(
    tmp_path: Path, answer: str, code: int, ends: int, says: str
) -> None:
    tool = tmp_path / "pip-audit"
    tool.write_text(f"#!/bin/sh\necho '{answer}'\nexit {code}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    done = subprocess.run(
        ["sh", str(ROOT / "packaging" / "audit.sh"), "requirements.lock"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ends
    assert says in done.stdout
