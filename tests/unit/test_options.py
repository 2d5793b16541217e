"""Options, variables and defaults: which wins, and where things lie."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from superezio.paths import daemon_socket_path
from supereziod.__main__ import main
from supereziod.options import Options, resolve


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep this machine's configuration and variables out."""
    for name in [name for name in os.environ if name.startswith("SUPEREZIO_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "superezio.toml"
    file.write_text("")
    return file


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Options]]:
    """Stand in for the daemon itself: collect what it would be started with."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    started: list[Options] = []

    def run(options: Options) -> int:
        started.append(options)
        return 0

    monkeypatch.setattr("supereziod.app.run", run)
    yield started
    signal.pthread_sigmask(signal.SIG_SETMASK, before)  # of the daemon's, SIGHUP waits for it


def test_the_command_line_wins_over_the_environment_and_both_over_the_file(
    own_configuration: Path, started: list[Options]
) -> None:
    own_configuration.write_text(
        '[logging]\nlevel = "debug"\nformat = "json"\n[gpu]\ndriver = "nvml"\n'
    )
    environ = {
        "SUPEREZIO_CONFIG": str(own_configuration),
        "SUPEREZIO_LOG_LEVEL": "error",
        "SUPEREZIO_GPU_DRIVER": "simulated",
    }
    assert main(["--log-level", "warning"], environ) == 0
    config = started[0].loaded.config
    assert (config.logging.level, config.gpu.driver) == ("warning", "simulated")
    assert config.logging.format == "json"


def test_every_option_has_a_variable(own_configuration: Path, started: list[Options]) -> None:
    directory = own_configuration.parent
    (directory / "heat.toml").write_text("")
    environ = {
        "SUPEREZIO_CONFIG": str(own_configuration),
        "SUPEREZIO_SOCKET": str(directory / "s" / "control.sock"),
        "SUPEREZIO_RUNTIME_DIR": str(directory / "run"),
        "SUPEREZIO_STATE_DIR": str(directory / "state"),
        "SUPEREZIO_GPU_DRIVER": "simulated",
        "SUPEREZIO_SCENARIO": str(directory / "heat.toml"),
        "SUPEREZIO_LOG_FORMAT": "console",
        "SUPEREZIO_LOG_LEVEL": "critical",
    }
    assert main([], environ) == 0
    options = started[0]
    assert options.socket == directory / "s" / "control.sock"
    assert options.runtime_dir == directory / "run"
    assert options.state_dir == directory / "state"
    config = options.loaded.config
    assert config.gpu.scenario == str(directory / "heat.toml")
    assert (config.logging.format, config.logging.level) == ("console", "critical")


def test_a_reload_reads_the_same_source(own_configuration: Path) -> None:
    options = resolve({"config": str(own_configuration), "log_level": "error"}, {})
    own_configuration.write_text('[logging]\nlevel = "debug"\nformat = "json"\n')
    config = options.source.load().config
    assert (config.logging.format, config.logging.level) == ("json", "error")


def test_leases_lie_beside_the_socket() -> None:
    options = resolve({"socket": "/some/where/control.sock"}, {})
    assert options.runtime_dir == Path("/some/where")


def test_systemds_directories_are_used() -> None:
    options = resolve({}, {"RUNTIME_DIRECTORY": "/run/a:/run/b", "STATE_DIRECTORY": "/var/lib/a"})
    assert options.socket == Path("/run/a/control.sock")
    assert options.runtime_dir == Path("/run/a")
    assert options.state_dir == Path("/var/lib/a")


def test_root_has_the_systems_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    options = resolve({}, {})
    assert options.socket == Path("/run/superezio/control.sock")
    assert options.state_dir == Path("/var/lib/superezio")


def test_a_user_has_places_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/someone")
    assert resolve({}, {}).state_dir == Path("/home/someone/.local/state/superezio")
    options = resolve({}, {"XDG_STATE_HOME": "/home/someone/.state"})
    assert options.state_dir == Path("/home/someone/.state/superezio")
    assert options.socket == Path(daemon_socket_path())


def test_check_says_that_a_configuration_is_good(
    own_configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check", "--config", str(own_configuration)], {}) == 0
    assert str(own_configuration) in capsys.readouterr().out


def test_check_warns_of_users_and_groups_that_are_not_there(
    own_configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no mistake: a daemon that runs with it goes on without them."""
    own_configuration.write_text('[access]\nusers = ["nobody-of-that-name"]\n')
    assert main(["--check", "--config", str(own_configuration)], {}) == 0
    printed = capsys.readouterr()
    assert printed.err == (
        f"supereziod: warning: {own_configuration}:2: access.users:"
        " this host has no user nobody-of-that-name\n"
    )
    assert "is good" in printed.out


def test_the_environment_sets_any_key_and_says_so(
    own_configuration: Path, started: list[Options]
) -> None:
    own_configuration.write_text("[leases]\ngrace = 1\n")
    environ = {
        "SUPEREZIO_CONFIG": str(own_configuration),
        "SUPEREZIO__LEASES__GRACE": "10s",
        "SUPEREZIO__LOGGING__LEVEL": "debug",
        "SUPEREZIO_LOG_LEVEL": "error",
        "SUPEREZIO__LOGGING__FORMAT": "json",
    }
    assert main(["--log-format", "console"], environ) == 0
    loaded = started[0].loaded
    assert loaded.config.leases.grace_s == 10.0
    assert (loaded.config.logging.level, loaded.config.logging.format) == ("error", "console")
    assert {".".join(path): str(origin) for path, origin in loaded.origins.items()} == {
        "leases.grace": "SUPEREZIO__LEASES__GRACE",
        "logging.level": "SUPEREZIO_LOG_LEVEL",
        "logging.format": "--log-format",
    }


def test_a_variable_with_a_mistake_is_named_and_exits_78(
    started: list[Options], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], {"SUPEREZIO__LEASES__GRCE": "1"}) == 78
    assert capsys.readouterr().err == (
        "supereziod: cannot use the configuration:\n"
        "SUPEREZIO__LEASES__GRCE: leases.grce: no such key; did you mean grace?\n"
    )
    assert not started


def test_what_is_refused_is_an_error_of_the_journal_where_that_is_the_log(
    own_configuration: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own_configuration.write_text("[leases]\ngrace = 'x'\n")
    there = os.fstat(2)
    stream = {"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}"}
    assert main(["--config", str(own_configuration)], stream) == 78
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("<3>") for line in lines)
    elsewhere = {"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino + 1}"}
    assert main(["--config", str(own_configuration)], elsewhere) == 78
    assert "<3>" not in capfd.readouterr().err


def test_a_check_for_programs_is_one_document(
    own_configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check = ["--check", "--json", "--config", str(own_configuration)]
    own_configuration.write_text('[access]\nusers = ["nobody-of-that-name"]\n')
    assert main(check, {}) == 0
    printed = capsys.readouterr()
    assert (printed.err, printed.out.count("\n")) == ("", 1)
    found = json.loads(printed.out)
    assert (found["good"], found["problems"]) == (True, [])
    assert found["config_files"] == [str(own_configuration)]
    assert [each["key"] for each in found["warnings"]] == ["access.users"]
    own_configuration.write_text("[leases]\ngrace = 'x'\nqueue = 'y'\n")
    assert main(check, {"SUPEREZIO__LEASES__GRCE": "1"}) == 78
    found = json.loads(capsys.readouterr().out)
    assert found["good"] is False
    assert [(p["place"], p["line"], p["key"]) for p in found["problems"]] == [
        ("file", 2, "leases.grace"),
        ("file", 3, "leases.queue"),
        ("environment", None, "leases.grce"),
    ]


def test_check_says_what_is_wrong_and_exits_78(
    own_configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_configuration.write_text("[leases]\ngrace = 'x'\n")
    assert main(["--check", "--config", str(own_configuration)], {}) == 78
    expected = f"{own_configuration}:2: leases.grace: expected a duration such as 5s, got 'x'"
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        (None, "cannot read the scenario {file}: [Errno 2] No such file"),
        ("[[gpu", "{file}: "),
        ('[[gpu]]\nprofile = "RTX 9"\n', "{file}, line 2: [[gpu]] number 1, profile: no 'RTX 9'"),
    ],
)
@pytest.mark.parametrize("argument", ["--check", "--log-level=info"])
def test_a_scenario_that_cannot_be_used_is_a_bad_configuration(
    own_configuration: Path,
    capsys: pytest.CaptureFixture[str],
    started: list[Options],
    scenario: str | None,
    said: str,
    argument: str,
) -> None:
    file = own_configuration.with_name("heat.toml")
    if scenario is not None:
        file.write_text(scenario)
    own_configuration.write_text(f'[gpu]\ndriver = "simulated"\nscenario = "{file}"\n')
    assert main([argument, "--config", str(own_configuration)], {}) == 78
    assert f"gpu.scenario: {said.format(file=file)}" in capsys.readouterr().err
    assert not started


def test_check_can_be_switched_off_again(started: list[Options]) -> None:
    assert main([], {"SUPEREZIO_CHECK": "0"}) == 0
    assert len(started) == 1


@pytest.mark.parametrize(
    ("argv", "environ", "said"),
    [
        (["--gpu-driver", "amd"], {}, "--gpu-driver: invalid choice"),
        ([], {"SUPEREZIO_GPU_DRIVER": "amd"}, "SUPEREZIO_GPU_DRIVER: invalid choice: 'amd'"),
        (["--log-lev", "info"], {}, "unrecognized arguments"),
        (["extra"], {}, "unrecognized arguments"),
    ],
)
def test_wrong_usage_exits_2(
    argv: list[str],
    environ: dict[str, str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv, environ)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from supereziod.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('msgspec', 'structlog', 'asyncio', 'uvloop') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--gpu-driver" in done.stdout
