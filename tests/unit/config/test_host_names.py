"""Names of users and groups that a host does not know: told with key and line, and no mistake."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from supereziod.config import Source, unknown_names

NOBODY = "nobody-of-that-name"


def told(tmp_path: Path, text: str) -> list[str]:
    """What is said of a configuration, without the file's name."""
    file = tmp_path / "superezio.toml"
    file.write_text(text)
    problems = unknown_names(Source(file=file).load())
    return [str(problem).removeprefix(f"{file}:") for problem in problems]


def test_a_user_or_group_that_is_not_there_is_told_with_its_key_and_line(tmp_path: Path) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    text = f"""\
[access]
users = ["{me}", "{NOBODY}"]
admins = ["{NOBODY}"]
user_groups = ["{NOBODY}"]

[leases.quota.user.{NOBODY}]
leases = 1
vram = "8GiB"
[leases.quota.user.{me}]
leases = 2
[leases.quota.group.{NOBODY}]
leases = 1
"""
    assert told(tmp_path, text) == [
        f"4: access.user_groups: this host has no group {NOBODY}",
        f"2: access.users: this host has no user {NOBODY}",
        f"3: access.admins: this host has no user {NOBODY}",
        f"7: leases.quota.user.{NOBODY}: this host has no user {NOBODY}",
        f"12: leases.quota.group.{NOBODY}: this host has no group {NOBODY}",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",  # the groups of the defaults are made by the installation
        '[access]\nusers = ["4711"]\nuser_groups = ["4711"]\n',
        "[leases.quota.user.4711]\nleases = 1\n",
        "[leases.quota.default]\nleases = 1\n",
    ],
)
def test_nothing_is_said_of_defaults_and_of_numbers(tmp_path: Path, text: str) -> None:
    assert told(tmp_path, text) == []


def test_what_can_be_no_name_is_not_there(tmp_path: Path) -> None:
    (line,) = told(tmp_path, '[access]\nusers = ["a\\u0000b"]\n')
    assert line.startswith("2: access.users: this host has no user a")


def test_a_drop_in_is_told_by_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    drop_in = tmp_path / "conf.d" / "50-users.toml"
    drop_in.write_text(f'# who may\n[access]\nusers = ["{NOBODY}"]\n')
    (tmp_path / "superezio.toml").write_text('[access]\nusers = ["somebody-else-who-is-not"]\n')
    (problem,) = unknown_names(Source(file=tmp_path / "superezio.toml").load())
    assert (problem.origin.name, problem.origin.line) == (str(drop_in), 3)
