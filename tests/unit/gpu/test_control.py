"""Live control of simulated GPUs, from a test and from a shell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from supereziod.gpu.control import ControlReader, SimulatedControl


def shell(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "supereziod.gpu.control", "--directory", str(directory)]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


def test_without_a_file_nothing_is_forced(tmp_path: Path) -> None:
    control = ControlReader(tmp_path).read()
    assert control.card(0).temperature_c is None
    assert control.driver is None


def test_what_is_forced_is_read_again_when_it_changes(tmp_path: Path) -> None:
    reader, control = ControlReader(tmp_path), SimulatedControl(tmp_path)
    control.temperature(0, 95)
    assert reader.read().card(0).temperature_c == 95
    assert reader.read() is reader.read()
    control.hang(0)
    control.lose(1, vanish=True)
    forced = reader.read()
    assert (forced.card(0).temperature_c, forced.card(0).hang) == (95, True)
    assert (forced.card(1).lost, forced.card(1).vanished) == (True, True)
    control.restore(0)
    assert not reader.read().card(0).hang


def test_a_second_control_goes_on_where_the_first_was(tmp_path: Path) -> None:
    SimulatedControl(tmp_path).temperature(0, 90)
    SimulatedControl(tmp_path).hang(1)
    assert ControlReader(tmp_path).read().card(0).temperature_c == 90


def test_a_shell_forces_and_resets(tmp_path: Path) -> None:
    assert shell(tmp_path, "0", "temperature_c=95", "hang=true", "xid=79").returncode == 0
    control = ControlReader(tmp_path).read()
    assert (control.card(0).temperature_c, control.card(0).hang) == (95, True)
    assert [xid.xid for xid in control.xids] == [79]
    assert shell(tmp_path, "0", "reset").returncode == 0
    assert ControlReader(tmp_path).read().card(0).temperature_c is None


def test_a_shell_is_told_of_a_mistake(tmp_path: Path) -> None:
    for mistake in ("heat=9", "hang=maybe", "temperature_c"):
        answer = shell(tmp_path, "0", mistake)
        assert answer.returncode == 2
        assert mistake in answer.stderr
