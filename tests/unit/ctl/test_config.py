"""superezioctl config show, check and diff."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from msgspec import structs

import wire_samples
from ctl_runner import Ctl
from fake_daemon import FakeDaemon
from superezio import wire


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SUPEREZIO_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "superezio.toml"
    made.write_text("")
    return made


def test_what_is_in_force_is_toml(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("--socket", str(daemon.path), "config", "show") == 0
    assert tomllib.loads(ctl.out) == {
        "leases": {"grace": "10s"},
        "breaker": {"shared": {"a b": {"groups": ["ai", 'a "b"']}}},
    }
    assert ctl.out.splitlines()[:3] == [
        "# In force in supereziod; read from /etc/x.toml at 2026-01-01T00:00:00.000+00:00.",
        "# Otherwise with the next restart: leases.queue.",
        "",
    ]
    assert daemon.requests[-1]["params"] == {"key": None, "all": False}


def test_with_origins_each_value_says_where_it_was_set(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("--socket", str(daemon.path), "config", "show", "leases", "--origin", "--all") == 0
    assert ctl.out.splitlines() == [
        "[leases]",
        'grace = "10s"  # /etc/x.toml:2',
        "",
        '[breaker.shared."a b"]',
        "#window =  # default",
        'groups = ["ai", "a \\"b\\""]  # SUPEREZIO__BREAKER__SHARED__X__GROUPS',
    ]
    assert daemon.requests[-1]["params"] == {"key": "leases", "all": True}


@pytest.mark.parametrize(
    ("words", "tail"), [((), ""), (("--origin",), "; /etc/x.toml:7")], ids=["plain", "origin"]
)
def test_a_level_that_was_set_in_the_running_daemon_is_shown_with_who_did_it(
    ctl: Ctl, daemon: FakeDaemon, words: tuple[str, ...], tail: str
) -> None:
    """Whoever looks for why so much is logged finds no other sign of it in any file."""
    level = wire.ConfigValue(
        key="logging.level",
        path=["logging", "level"],
        value="debug",
        default="info",
        origin=wire.ConfigOrigin(place="file", name="/etc/x.toml", line=7),
        live=True,
        run_time=wire.ConfigRunTime(value="debug", configured="warning", uid=0, at="today"),
    )
    daemon.answers["config.get"] = structs.replace(wire_samples.config_values(), values=[level])
    assert ctl("--socket", str(daemon.path), "config", "show", "logging.level", *words) == 0
    assert ctl.out == (
        '[logging]\nlevel = "debug"  # set at run time by root at today, until the next reload or '
        f'restart; configured is "warning"{tail}\n'
    )


def test_a_reload_that_was_refused_is_told_above(ctl: Ctl, daemon: FakeDaemon) -> None:
    refused = structs.replace(wire_samples.config_values(), fault="not reloaded: x.toml:2: a: b")
    daemon.answers["config.get"] = refused
    assert ctl("--socket", str(daemon.path), "config", "show") == 0
    assert "# not reloaded: x.toml:2: a: b\n" in ctl.out
    tomllib.loads(ctl.out)


def test_where_nothing_is_set_that_is_said(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["config.get"] = structs.replace(wire_samples.config_values(), values=[])
    for words in (("config", "show"), ("config", "show", "leases")):
        assert ctl("--socket", str(daemon.path), *words) == 0
        assert "all is as by default" in ctl.out
        assert tomllib.loads(ctl.out) == {}


def test_differences_say_what_applies_them(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("--socket", str(daemon.path), "config", "diff") == 0
    assert [line.split() for line in ctl.out.splitlines()[:3]] == [
        ["KEY", "IN", "FORCE", "IN", "THE", "FILES", "APPLIED", "BY", "SET", "IN"],
        ["leases.grace", '"5s"', '"10s"', "restart", "/etc/x.toml:2"],
        ["logging.level", '"debug"', '"info"', "reload", "default"],
    ]
    assert "`superezioctl reload`" in ctl.out
    assert "`systemctl restart superezio`" in ctl.out
    assert "warning: /etc/x.toml:4: access.users: this host has no user bob" in ctl.err
    assert ctl.json("--socket", str(daemon.path), "config", "diff")["changes"][0]["new"] == "10s"


def test_no_difference_is_said(ctl: Ctl, daemon: FakeDaemon) -> None:
    same = wire.ConfigDiff(changes=[], config_files=["/etc/x.toml"], warnings=[])
    daemon.answers["config.diff"] = same
    assert ctl("--socket", str(daemon.path), "config", "diff") == 0
    assert ctl.out == "the files say what is in force (/etc/x.toml)\n"


def test_a_good_file_is_said_to_be_good(ctl: Ctl, file: Path) -> None:
    assert ctl("config", "check", str(file)) == 0
    assert (ctl.out, ctl.err) == (f"the configuration is good ({file})\n", "")


def test_every_mistake_is_told_with_file_line_and_key(ctl: Ctl, file: Path) -> None:
    file.write_text("[leases]\ngrce = 1\n")
    (file.parent / "conf.d").mkdir()
    drop_in = file.parent / "conf.d" / "10-log.toml"
    drop_in.write_text('[logging]\nlevel = "loud"\n')
    assert ctl("config", "check", str(file)) == 1
    first, second = ctl.out.splitlines()
    assert first == f"{file}:2: leases.grce: no such key; did you mean grace?"
    assert second.startswith(f"{drop_in}:2: logging.level: expected one of debug, info, ")
    assert ctl.err == "superezioctl: the configuration is bad: 2 mistakes\n"
    assert ctl("--json", "config", "check", str(file)) == 1
    assert ctl.out.count("\n") == 1
    assert '"key":"leases.grce"' in ctl.out


def test_what_is_no_mistake_is_a_warning(ctl: Ctl, file: Path) -> None:
    file.write_text('[access]\nusers = ["nobody-of-that-name"]\n')
    assert ctl("config", "check", str(file)) == 0
    assert f"warning: {file}:2: access.users: this host has no user nobody" in ctl.err


def test_a_variable_with_a_mistake_is_told(
    ctl: Ctl, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPEREZIO__LEASES__GRCE", "1")
    assert ctl("config", "check", str(file)) == 1
    assert ctl.out.startswith("SUPEREZIO__LEASES__GRCE: leases.grce: no such key")


def test_a_check_that_cannot_be_made_says_why(
    ctl: Ctl, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPEREZIO_GPU_DRIVER", "amd")
    assert ctl("config", "check", str(file)) == 1
    assert "cannot check the configuration" in ctl.err
    assert "SUPEREZIO_GPU_DRIVER: invalid choice: 'amd'" in ctl.err


def test_no_code_from_the_current_directory_is_run(
    ctl: Ctl, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file.parent / "supereziod").mkdir()
    (file.parent / "supereziod" / "__init__.py").write_text("raise SystemExit('taken over')\n")
    monkeypatch.chdir(file.parent)
    assert ctl("config", "check", "superezio.toml") == 0, ctl.err
    assert ctl.out == f"the configuration is good ({file})\n"
