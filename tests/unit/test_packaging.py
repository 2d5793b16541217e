"""packaging/files.txt, the one list of what is installed beside the environment."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
LIST = PROJECT / "packaging" / "files.txt"
SCRIPT = PROJECT / "packaging" / "files.sh"
_GATE = re.compile(r"@SYSTEMD-(\d+)@ ")


def _lines() -> list[str]:
    return [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]


def _files(verb: str, directory: Path, *, systemd: int) -> set[str]:
    places = {"DESTDIR": str(directory), "PREFIX": "/opt/superezio", "SYSTEMD": str(systemd)}
    subprocess.run(["sh", SCRIPT, verb], env=os.environ | places, check=True)
    found = (path for path in directory.rglob("*") if path.is_symlink() or path.is_file())
    return {f"/{path.relative_to(directory)}" for path in found}


def test_every_unit_and_its_like_is_in_the_list() -> None:
    listed = {line.split()[-2] for line in _lines()}
    there = {str(path.relative_to(PROJECT)) for path in PROJECT.glob("systemd/**/*.*")}
    files = {path for path in there if (PROJECT / path).is_file()}
    assert {source for source in listed if source.startswith("systemd/")} == files
    assert all((PROJECT / source).is_file() for source in listed if not source.startswith("@"))


def test_a_drop_in_says_which_systemd_it_needs_and_is_for_no_older_one() -> None:
    drop_ins = [line for line in _lines() if ".service.d/" in line]
    assert drop_ins
    for line in drop_ins:
        gate = _GATE.match(line)
        assert gate is not None
        first = (PROJECT / line.split()[-2]).read_text().splitlines()[0]
        assert first.startswith(f"# systemd {gate[1]}: ")


@pytest.mark.parametrize("systemd", [252, 253, 257])
def test_what_is_laid_down_is_what_this_systemd_loads(tmp_path: Path, systemd: int) -> None:
    gates = {line.split()[-1]: _GATE.match(line) for line in _lines()}
    wanted = {target for target, gate in gates.items() if not gate or int(gate[1]) <= systemd}
    assert _files("lay-down", tmp_path, systemd=systemd) == wanted
    command = tmp_path / "usr/bin/supereziod"
    assert command.readlink() == Path("/opt/superezio/bin/supereziod")
    unit = tmp_path / "usr/lib/systemd/system/superezio.service"
    assert unit.stat().st_mode & 0o777 == 0o644


def test_all_of_it_goes_again_also_what_an_older_systemd_would_not_have(tmp_path: Path) -> None:
    own = tmp_path / "usr/lib/systemd/system/other.service"
    _files("lay-down", tmp_path, systemd=257)
    own.touch()
    assert _files("remove", tmp_path, systemd=252) == {"/usr/lib/systemd/system/other.service"}
    assert not list(tmp_path.rglob("superezio*"))
