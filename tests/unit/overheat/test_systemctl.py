"""systemctl as a child: bounded, its words passed on, and the units of a slice told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from supereziod.overheat.systemctl import StillRunningError, Systemctl, SystemctlError

SLICE = "superezio-models.slice"


def saying(folder: Path, script: str) -> Systemctl:
    program = folder / "systemctl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Systemctl([str(program)])


async def test_a_call_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    systemctl = saying(tmp_path, f"echo $$ >{tmp_path}/pid; exec sleep 5")
    with pytest.raises(StillRunningError, match=r"systemctl start -- a.service is not done after"):
        await systemctl.start("a.service", within_s=0.3)
    pid = (tmp_path / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists(), "and the child with it"


async def test_what_it_says_of_a_failure_is_passed_on(tmp_path: Path) -> None:
    systemctl = saying(tmp_path, "echo 'Unit a.service not found.' >&2; exit 5")
    with pytest.raises(SystemctlError, match=r"stop -- a.service: Unit a.service not found\."):
        await systemctl.stop(["a.service"], within_s=5)
    with pytest.raises(SystemctlError, match=r"reset-failed -- a.service: Unit"):
        await systemctl.reset_failed(["a.service"])


async def test_a_host_without_systemctl_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemctlError, match="cannot run systemctl show"):
        await Systemctl([str(tmp_path / "none")]).show("a.service", "ActiveState")


async def test_it_asks_for_no_password_and_has_our_environment_but_tells_systemd_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would send READY=1 of its own, in the name of a unit whose main process alone may."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("LANG", "C.UTF-8")
    said = 'echo "First=$1"; echo "Socket=${NOTIFY_SOCKET-none}"; echo "Lang=$LANG"'
    assert await saying(tmp_path, said).show("a.service", "ActiveState") == {
        "First": "--no-ask-password",
        "Socket": "none",
        "Lang": "C.UTF-8",
    }


async def test_properties_are_read_whatever_is_in_them(tmp_path: Path) -> None:
    systemctl = saying(tmp_path, "echo ActiveState=failed; echo StatusText=a=b; echo Result=")
    assert await systemctl.show("a.service", "ActiveState", "StatusText", "Result") == {
        "ActiveState": "failed",
        "StatusText": "a=b",
        "Result": "",
    }


@pytest.mark.parametrize(
    ("slice_", "state", "found"),
    [
        (SLICE, "active", True),
        (SLICE, "activating", True),
        (SLICE, "reloading", True),
        (SLICE, "inactive", False),
        (SLICE, "failed", False),
        (SLICE, "deactivating", False),
        ("superezio-models-large.slice", "active", True),
        ("superezio-modelsX.slice", "active", False),
        ("superezio.slice", "active", False),
        ("system.slice", "active", False),
    ],
)
async def test_what_runs_in_the_slice_and_below(
    tmp_path: Path, *, slice_: str, state: str, found: bool
) -> None:
    other = "printf 'Id=sshd.service\\nSlice=system.slice\\nActiveState=active\\n\\n'"
    unit = f"printf 'Id=b.service\\nSlice={slice_}\\nActiveState={state}\\nTransient=no\\n'"
    running = await saying(tmp_path, f"{other}\n{unit}").running_in(SLICE)
    assert [each["Id"] for each in running] == (["b.service"] if found else [])
