"""The configuration of a daemon that runs: seen, compared, put in force, and refused."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live_daemon import LiveDaemon
from superezio import errors
from supereziod.config import Config, Source

pytestmark = pytest.mark.installed

CONFIG = """\
[leases]
grace = 7.0625
quota.user."alice.b".leases = 2
[gpu.override."GPU-1"]
thermal.warm_enter_c = 14
[breaker.shared."open/ai.x"]
everyone = true
open = "90s"
"""


@pytest.fixture
def daemon() -> Iterator[LiveDaemon]:
    with tempfile.TemporaryDirectory() as directory:
        environment = {"SUPEREZIO__LEASES__QUEUE": "77"}
        live = LiveDaemon(Path(directory), config=CONFIG, environment=environment)
        try:
            yield live.start()
        finally:
            live.close()


def ctl(daemon: LiveDaemon, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "superezioctl", "--socket", str(daemon.socket_path), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def loaded(text: str, directory: Path) -> Config:
    file = directory / "shown.toml"
    file.write_text(text)
    return Source(file=file).load().config


def value_at(table: dict[str, Any], *path: str) -> Any:
    found: Any = table
    for part in path:
        found = found[part]
    return found


def test_what_is_shown_starts_a_daemon_that_goes_by_the_same(
    daemon: LiveDaemon, tmp_path: Path
) -> None:
    shown = ctl(daemon, "config", "show").stdout
    assert ctl(daemon, "config", "show", "--all").returncode == 0
    everything = ctl(daemon, "config", "show", "--all", "--origin").stdout
    table = tomllib.loads(shown)
    assert value_at(table, "leases") == {
        "grace": 7.0625,
        "queue": 77,
        "quota": {"user": {"alice.b": {"leases": 2}}},
    }
    assert value_at(table, "gpu", "driver") == "simulated"
    assert "queue = 77  # SUPEREZIO__LEASES__QUEUE\n" in everything
    assert 'driver = "simulated"  # --gpu-driver\n' in everything
    config = loaded(shown, tmp_path)
    assert config == loaded(everything, tmp_path)
    assert config.gpu.thermal_by_gpu["GPU-1"].warm_enter_c == 14
    assert config.breaker.shared["open/ai.x"].open_s == 90.0


def test_a_difference_is_told_put_in_force_and_gone(daemon: LiveDaemon) -> None:
    daemon.configure(CONFIG.replace("90s", "80s").replace("7.0625", "8"))
    told = ctl(daemon, "config", "diff").stdout
    assert [line.split()[:4] for line in told.splitlines()[1:3]] == [
        ["leases.grace", "7.0625", '"8s"', "restart"],
        ['breaker.shared."open/ai.x".open', '"1m30s"', '"1m20s"', "reload"],
    ]
    assert ctl(daemon, "reload").returncode == 0
    left = ctl(daemon, "config", "diff").stdout
    assert "leases.grace" in left
    assert "open/ai.x" not in left
    shown = ctl(daemon, "config", "show", "leases.grace").stdout
    assert tomllib.loads(shown) == {"leases": {"grace": 7.0625}}, "it waits for the restart"


def test_a_level_that_was_set_in_the_daemon_is_shown_until_a_reload(daemon: LiveDaemon) -> None:
    assert ctl(daemon, "log-level", "debug").returncode == 0
    shown = ctl(daemon, "config", "show", "logging.level").stdout
    assert tomllib.loads(shown) == {"logging": {"level": "debug"}}
    assert "  # set at run time by " in shown
    assert "logging.level" in ctl(daemon, "config", "diff").stdout
    assert "in force now: logging.level" in ctl(daemon, "reload").stdout
    shown = ctl(daemon, "config", "show", "logging.level").stdout
    assert tomllib.loads(shown) == {"logging": {"level": "info"}}
    assert "run time" not in shown


def test_a_bad_file_leaves_the_old_one_in_force_and_is_told_until_a_good_one(
    daemon: LiveDaemon,
) -> None:
    daemon.configure("[leases]\ngrce = 1\n[logging]\nlevel = 'loud'\n")
    with daemon.client() as client:
        with pytest.raises(errors.ConflictError, match=r"superezio\.toml:2: leases\.grce: no such"):
            client.system_reload()
        with pytest.raises(errors.ConflictError, match=r"superezio\.toml:4: logging\.level: "):
            client.config_diff()
        fault = client.config_get().fault
        assert fault is not None
        assert fault.endswith("is in force")
        (reason,) = client.health_get().reasons
        assert (reason.check, reason.message) == ("configuration", fault)
        found = client.config_get("breaker").values
        assert [each.value for each in found] == [True, "1m30s"]
        daemon.configure("")
        client.system_reload()
        assert client.config_get("breaker").values == []
        assert client.health_get().reasons == []
