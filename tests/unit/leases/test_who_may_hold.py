"""Which processes may be named as the holder of a lease."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lease_host import Child, caller_of, child, lease_host
from superezio.errors import InvalidParamsError
from superezio.wire import LeaseAttachParams
from supereziod.leases.handles import HandleOpener
from supereziod.leases.processes import ProcessTable

ADMIN = caller_of(role="admin")
KERNEL_THREAD_FLAG = 0x00200000


@pytest.fixture
def program() -> Iterator[Child]:
    with child() as process:
        yield process


async def test_init_holds_no_lease_not_even_for_an_admin(tmp_path: Path, program: Child) -> None:
    """What is orphaned is a child of init: it would make the VRAM of all programs its own."""
    async with lease_host(tmp_path) as host:
        with pytest.raises(InvalidParamsError, match=r"pid 1: it is init.*gpu processes"):
            host.now(ADMIN, holder_pid=1)
        lease = host.now(ADMIN, holder_pid=program.pid)
        with pytest.raises(InvalidParamsError, match="pid 1: it is init"):
            host.leases.attach(ADMIN, LeaseAttachParams(lease=lease.id, pid=1))
        assert [each.pid for each in host.leases.get(ADMIN, lease.id).holder] == [program.pid]


async def test_a_thread_of_the_kernel_holds_no_lease(tmp_path: Path) -> None:
    pid = 2
    comm = Path(f"/proc/{pid}/comm")
    if not comm.exists() or comm.read_text() != "kthreadd\n":
        pytest.skip("no threads of the kernel are visible here")
    async with lease_host(tmp_path) as host:
        with pytest.raises(InvalidParamsError, match=rf"pid {pid}: it is a thread of the kernel"):
            host.now(ADMIN, holder_pid=pid)
        assert host.leases.list(ADMIN).leases == []


@pytest.mark.parametrize("flags", [0x00400140, 0x00400140 | KERNEL_THREAD_FLAG])
def test_a_thread_of_the_kernel_is_told_by_its_flag_and_not_by_its_name(
    tmp_path: Path, program: Child, flags: int
) -> None:
    directory = tmp_path / str(program.pid)
    directory.mkdir()
    fields = f"S 2 0 0 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"
    (directory / "stat").write_text(f"{program.pid} (a) b (c) {fields}\n")
    (directory / "status").write_text("Name:\tkworker/0:0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n")
    opener = HandleOpener(processes=ProcessTable(tmp_path))
    if flags & KERNEL_THREAD_FLAG:
        with pytest.raises(InvalidParamsError, match="thread of the kernel"):
            opener.of_pid(ADMIN, program.pid, owner_uid=0)
    else:
        opener.of_pid(ADMIN, program.pid, owner_uid=0).close()
