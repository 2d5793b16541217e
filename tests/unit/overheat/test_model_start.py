"""A model that starts is up, or waits in the queue for its lease, or has not come so far."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from supereziod.overheat.model_start import start_model
from supereziod.overheat.systemctl import StillRunningError, Systemctl, SystemctlError
from unit.overheat.conftest import Systemd

WAITS = "echo SubState=start; echo StatusText=waiting for a lease of 8.0 GiB"


async def start(systemd: Systemd, *, within_s: float = 0.5) -> bool:
    systemctl = Systemctl([str(systemd.program)])
    return await start_model(systemctl, "a.service", within_s=within_s, look_s=0.05)


def looks(systemd: Systemd) -> int:
    lines = (systemd.folder / "calls").read_text().splitlines()
    return sum(line.startswith("show") for line in lines)


async def test_one_that_is_up_is_up(systemd: Systemd) -> None:
    assert await start(systemd) is True
    systemd.answer({"start": "sleep 0.2", "show": "echo SubState=start; echo StatusText=loads"})
    assert await start(systemd, within_s=20) is True


async def test_one_that_waits_for_a_lease_is_left_to_it(systemd: Systemd, tmp_path: Path) -> None:
    """At the second look: it says so before it has asked."""
    systemd.answer({"start": f"echo $$ >{tmp_path}/pid; exec sleep 50", "show": WAITS})
    assert await start(systemd, within_s=60) is False
    assert looks(systemd) == 2
    pid = (tmp_path / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists()


async def test_one_that_got_its_lease_between_two_looks_is_waited_for(systemd: Systemd) -> None:
    mark = systemd.folder / "asked"
    once = f"[ -e {mark} ] && echo StatusText=has the lease && exit; touch {mark}; {WAITS}"
    systemd.answer({"start": "exec sleep 50", "show": once})
    with pytest.raises(StillRunningError):
        await start(systemd)


@pytest.mark.parametrize(
    "show",
    [
        "exit 1",
        "echo SubState=start; echo StatusText=waiting for GPUs",
        "echo SubState=auto-restart; echo StatusText=waiting for a lease of 8.0 GiB",
        "echo SubState=start",
    ],
)
async def test_one_that_does_not_come_up_for_another_reason_has_its_time(
    systemd: Systemd, show: str
) -> None:
    systemd.answer({"start": "exec sleep 50", "show": show})
    with pytest.raises(StillRunningError):
        await start(systemd)
    assert looks(systemd) >= 2


async def test_one_that_fails_while_it_is_looked_at_has_failed(systemd: Systemd) -> None:
    systemd.answer({"start": "sleep 0.1; echo broken >&2; exit 1", "show": "sleep 0.3"})
    with pytest.raises(SystemctlError, match="broken"):
        await start(systemd, within_s=20)


async def test_whoever_is_told_to_end_in_the_middle_leaves_no_child(
    systemd: Systemd, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    systemd.answer({"start": f"echo $$ >{begun}; exec sleep 50", "show": "true"})
    work = asyncio.ensure_future(start(systemd, within_s=60))
    pid = (await asyncio.to_thread(begun.read_text)).strip()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not Path(f"/proc/{pid}").exists()
