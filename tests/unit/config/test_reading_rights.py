"""A file that the daemon may not read is told with whom, where on the way to it, and what helps."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from supereziod.__main__ import main
from supereziod.config import checking
from supereziod.config.reading_rights import unreadable_to_service

NOBODY = "nobody"
_AS_NOBODY = """\
import os, pwd, sys
from pathlib import Path
from supereziod.config import ConfigError, Source
user = pwd.getpwnam("nobody")
os.setgroups([])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
try:
    Source(file=Path(sys.argv[1])).load()
except ConfigError as error:
    print(error)
else:
    print("good")
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")


@pytest.fixture
def file() -> Iterator[Path]:
    """A configuration with a drop-in, where anybody may pass."""
    try:
        pwd.getpwnam(NOBODY)
    except KeyError:
        pytest.skip("there is no user nobody here")
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        file = Path(directory) / "etc" / "superezio.toml"
        (file.parent / "conf.d").mkdir(parents=True)
        file.write_text("")
        (file.parent / "conf.d" / "a.toml").write_text("")
        if unreadable_to_service([file], user=NOBODY):
            pytest.skip(f"nobody may not pass {tempfile.gettempdir()} here")
        yield file


@pytest.mark.parametrize(
    ("shut", "mode", "bits"),
    [
        ("superezio.toml", 0o600, "r"),
        ("conf.d/a.toml", 0o000, "r"),
        ("conf.d", 0o700, "rx"),
        ("conf.d", 0o744, "x"),
        (".", 0o700, "x"),
    ],
    ids=["file", "drop-in", "directory", "directory that is listed", "all"],
)
def test_what_the_daemon_may_not_read_is_told_with_what_mends_it(
    file: Path, shut: str, mode: int, bits: str
) -> None:
    place = file.parent / shut
    place.chmod(mode)
    said = _load_as_nobody(file)
    command = f"chmod a+{bits} {place}"
    assert f"cannot read it: Permission denied to nobody: {command}" in said
    # Root may read them, and is told by a check what the service's user may not.
    drop_ins = file.parent / "conf.d"
    told = unreadable_to_service([drop_ins, drop_ins / "a.toml", file], user=NOBODY)
    assert command in {problem.message.partition(": ")[2] for problem in told}
    subprocess.run(command.split(), check=True)
    assert _load_as_nobody(file) == "good"
    assert unreadable_to_service([drop_ins, drop_ins / "a.toml", file], user=NOBODY) == []


def test_a_host_without_the_services_user_has_nothing_to_tell(tmp_path: Path) -> None:
    (tmp_path / "x").touch(mode=0o600)
    assert unreadable_to_service([tmp_path / "x"], user="no-such-user") == []


@pytest.fixture
def of_the_service(file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file is the service's, which runs as nobody."""
    monkeypatch.setattr(checking, "DEFAULT_FILE", file)
    monkeypatch.setattr(checking, "SERVICE_USER", NOBODY)
    return file


@pytest.mark.parametrize(
    ("shut", "mode", "bits"),
    [("superezio.toml", 0o600, "r"), ("conf.d/a.toml", 0o600, "r"), ("conf.d", 0o700, "rx")],
)
def test_what_the_service_may_not_read_is_a_mistake_in_what_it_goes_by(
    of_the_service: Path,
    capsys: pytest.CaptureFixture[str],
    shut: str,
    mode: int,
    bits: str,
) -> None:
    """It would refuse to start with it: a check that calls it good is believed, and restarted."""
    check = ["--check", "--config", str(of_the_service)]
    place = of_the_service.parent / shut
    assert main(check, {}) == 0
    assert "is good" in capsys.readouterr().out
    place.chmod(mode)
    assert main(check, {}) == 78
    printed = capsys.readouterr()
    mend = f"Permission denied to nobody: chmod a+{bits} {place}"
    assert mend in printed.err
    assert "warning" not in printed.err
    assert "good" not in printed.out + printed.err
    assert main([*check, "--json"], {}) == 78
    found = json.loads(capsys.readouterr().out)
    assert (found["good"], found["warnings"]) == (False, [])
    assert mend in {problem["message"] for problem in found["problems"]}


def test_another_file_beside_the_services_own_may_be_meant_for_somebody_else(
    of_the_service: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = of_the_service.with_name("other.toml")
    other.touch(mode=0o600)
    assert main(["--check", "--config", str(other)], {}) == 0
    printed = capsys.readouterr()
    assert f"warning: {other}: Permission denied to nobody" in printed.err
    assert "is good" in printed.out


def test_files_that_are_elsewhere_do_not_depend_on_the_services(
    of_the_service: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (of_the_service.parent / "conf.d").chmod(0o700)
    (tmp_path / "new.toml").touch(mode=0o600)
    assert main(["--check", "--config", str(tmp_path / "new.toml")], {}) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "is good" in printed.out


def _load_as_nobody(file: Path) -> str:
    # What it needs is imported before it is nobody: this tree may be root's alone.
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, str(file)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
