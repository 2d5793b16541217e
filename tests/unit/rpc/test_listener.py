from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from supereziod.rpc.listener import Listener, ListenError


def test_the_socket_is_open_to_all_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        listener = Listener.make(tmp_path / "a" / "b" / "s")
        assert os.umask(0o077) == 0o077, "the umask is as it was"
    finally:
        os.umask(before)
    assert stat.S_IMODE(listener.path.stat().st_mode) == 0o666
    assert stat.S_IMODE(listener.path.parent.stat().st_mode) == 0o755
    assert not listener.inherited
    listener.close()


def test_the_mode_is_right_from_the_first_instant(tmp_path: Path) -> None:
    """The kernel makes the file with its mode: no call changes it afterwards."""
    script = (
        "import sys; from pathlib import Path; from supereziod.rpc.listener import Listener;"
        "Listener.make(Path(sys.argv[1])).close()"
    )
    strace = "/usr/bin/strace"
    if not Path(strace).exists():
        pytest.skip("no strace")
    traced = subprocess.run(
        [strace, "-f", "-e", "trace=umask,bind,chmod,fchmod,fchmodat", sys.executable, "-c", script,
         str(tmp_path / "s")],
        capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    calls = [line for line in traced.splitlines() if "umask(" in line or "bind(" in line]
    assert ["umask(0111)" in calls[0], "bind(" in calls[1], "umask(" in calls[2]] == [True] * 3
    assert "chmod" not in traced


def test_a_stale_socket_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    Listener.make(path).close()
    assert not path.exists()


def test_a_live_socket_is_refused_with_a_sentence_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(ListenError, match=rf"another supereziod \(pid {os.getpid()}\) serves"):
            Listener.make(path)
        assert path.exists()


def test_a_live_socket_with_a_full_backlog_is_live(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(path))
        busy.listen(0)
        first.connect(str(path))
        with pytest.raises(ListenError, match="another supereziod serves"):
            Listener.make(path)


def test_two_that_start_together_do_not_clear_each_other(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = Listener.make(path)
    # As if it had not yet begun to listen: nothing answers, and only the lock tells.
    first.socket.close()
    with pytest.raises(ListenError, match="another supereziod"):
        Listener.make(path)
    first.close()
    Listener.make(path).close()


def test_something_else_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ListenError, match="no socket is in the way"):
        Listener.make(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["x" * 200, "file/s"])
def test_a_place_that_cannot_be_listened_at_is_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ListenError, match="cannot listen at"):
        Listener.make(tmp_path / name)


def test_the_socket_of_a_successor_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = Listener.make(path)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        listener.close()
        assert path.exists()


# --- systemd's socket: the child sees file descriptor 3 as systemd would pass it ------------------

INHERIT = """
import os, sys
from supereziod.rpc.listener import Listener, ListenError
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = sys.argv[2] if sys.argv[2] != "own" else str(os.getpid())
os.environ["LISTEN_FDS"] = sys.argv[3]
os.environ["LISTEN_FDNAMES"] = "control"
try:
    listener = Listener.inherit(os.environ)
except ListenError as error:
    print(error)
else:
    print(listener and listener.path)
    if listener:
        assert listener.inherited and not os.get_inheritable(3)
        listener.close()
print([name for name in os.environ if name.startswith("LISTEN")])
"""


def inherit(sock: socket.socket, *, pid: str = "own", count: str = "1") -> list[str]:
    return subprocess.run(
        [sys.executable, "-c", INHERIT, str(sock.fileno()), pid, count],
        pass_fds=[sock.fileno()],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


def test_a_socket_from_systemd_is_taken_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        assert inherit(sock) == [str(path), "[]"]
    assert path.exists(), "it is systemd's to remove"


@pytest.mark.parametrize(("pid", "count"), [("1", "1"), ("own", "0"), ("own", "x")])
def test_what_was_not_meant_for_us_is_not_taken(tmp_path: Path, pid: str, count: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        assert inherit(sock, pid=pid, count=count) == ["None", "[]"]


def test_a_wrong_socket_from_systemd_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        assert "does not listen" in inherit(sock)[0]
        assert "has to give one" in inherit(sock, count="2")[0]
    with socket.socket(socket.AF_INET) as inet:
        assert "no Unix stream socket" in inherit(inet)[0]


def test_a_socket_that_others_cannot_reach_any_more_is_told_with_what_mends_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "control.sock"
    listener = Listener.make(path)
    assert listener.out_of_reach() is None
    path.rename(tmp_path / "away")
    assert listener.out_of_reach() == f"nobody can connect: {path} was removed. Restart the daemon"
    path.touch()
    assert "was replaced" in str(listener.out_of_reach())
    (tmp_path / "away").rename(path)
    assert listener.out_of_reach() is None
    listener.close()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        given = Listener(sock, path, lock_fd=None, inherited=True)
        path.unlink()
        mend = "systemctl restart superezio.socket superezio.service"
        assert str(given.out_of_reach()).endswith(f"was removed. {mend}")
        given.close()
