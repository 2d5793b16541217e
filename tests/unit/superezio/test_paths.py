from __future__ import annotations

import os
from pathlib import Path

import pytest

from superezio import paths


@pytest.fixture
def not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPEREZIO_SOCKET", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(paths, "SYSTEM_RUNTIME_DIR", "/nonexistent")
    monkeypatch.setattr(paths, "SYSTEM_SOCKET", "/nonexistent/control.sock")


def test_the_environment_names_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPEREZIO_SOCKET", "/x/y.sock")
    assert paths.default_socket_path() == "/x/y.sock"
    assert paths.daemon_socket_path() == "/x/y.sock"


def test_root_uses_the_systems_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPEREZIO_SOCKET", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert paths.default_socket_path() == "/run/superezio/control.sock"
    assert paths.daemon_socket_path() == "/run/superezio/control.sock"


@pytest.mark.usefixtures("not_root")
def test_a_user_without_a_system_daemon_has_an_own_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert paths.default_socket_path() == "/run/user/7/superezio/control.sock"
    assert paths.daemon_socket_path() == "/run/user/7/superezio/control.sock"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert paths.user_runtime_dir() == "/run/user/1000/superezio"


@pytest.mark.usefixtures("not_root")
def test_a_user_prefers_the_systems_daemon_and_does_not_take_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setattr(paths, "SYSTEM_SOCKET", "/dev/null")
    assert paths.default_socket_path() == "/dev/null"
    assert paths.daemon_socket_path() == "/run/user/7/superezio/control.sock"


@pytest.mark.usefixtures("not_root")
def test_where_no_socket_is_the_systems_will_be_if_superezio_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may start while the system's daemon has no socket, and waits for the right one."""
    system, own = tmp_path / "system", tmp_path / "user" / "superezio" / "control.sock"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "user"))
    monkeypatch.setattr(paths, "SYSTEM_RUNTIME_DIR", str(system))
    monkeypatch.setattr(paths, "SYSTEM_SOCKET", f"{system}/control.sock")
    assert paths.default_socket_path() == str(own)
    system.mkdir()
    assert paths.default_socket_path() == f"{system}/control.sock"
    assert paths.daemon_socket_path() == str(own), "which is no place for a daemon of the user's"
    own.parent.mkdir(parents=True)
    own.touch()
    assert paths.default_socket_path() == str(own)
    (system / "control.sock").touch()
    assert paths.default_socket_path() == f"{system}/control.sock"


@pytest.mark.usefixtures("not_root")
def test_the_state_is_where_the_variable_says_or_the_users_own_or_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUPEREZIO_STATE_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert paths.default_state_dir() == "/var/lib/superezio"
    (tmp_path / "superezio").mkdir()
    assert paths.default_state_dir() == f"{tmp_path}/superezio"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert paths.default_state_dir() == "/var/lib/superezio"
    monkeypatch.setenv("SUPEREZIO_STATE_DIR", "/x/state")
    assert paths.default_state_dir() == "/x/state"
