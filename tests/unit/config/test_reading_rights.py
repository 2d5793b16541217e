"""A file that the daemon may not read is told with whom, where on the way to it, and what helps."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def _load_as_nobody(file: Path) -> str:
    # What it needs is imported before it is nobody: this tree may be root's alone.
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, str(file)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
