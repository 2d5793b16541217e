"""Faults of the daemon itself: it dies, hangs, cannot start, or has no room for another file."""

from __future__ import annotations

import re
from pathlib import Path

from system.faults.fault import CannotBeTriedError, Fault, Sight
from system.faults.host import FaultyHost
from system.service import ASKING_CROWD, SOCKET, UNIT

_MEMORY = Path("/sys/fs/cgroup/memory")
_CROWD = """\
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
crowd = []
for _ in range(int(sys.argv[2])):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(sys.argv[1])
    crowd.append(sock)
print("connected", flush=True)
sys.stdin.read()
"""


def stuck_loop(host: FaultyHost) -> Sight:
    host.signal("USR2")
    host.journal("Watchdog timeout")
    host.journal("in loop_is_stuck")
    restarted = host.await_restart()
    assert "most recent call first" in " ".join(map(str, _messages(host)))
    _told_by_the_next_run(host)
    return Sight(
        f"{restarted}, its stack in the journal", host.status("healthy"), host.journal("'watchdog'")
    )


def stopped(host: FaultyHost) -> Sight:
    host.signal("STOP")
    host.wait_until("the stop", lambda: _process_state(host) == "T")
    host.journal("Watchdog timeout")
    restarted = host.await_restart()
    return Sight(f"state T, {restarted}", host.status("healthy"), host.journal("'watchdog'"))


def killed(host: FaultyHost) -> Sight:
    host.signal("KILL")
    restarted = host.await_restart()
    host.journal("status=9/KILL")
    return Sight(restarted, host.status("healthy"), _told_by_the_next_run(host))


def out_of_memory(host: FaultyHost) -> Sight:
    """The kernel kills it: its group of processes may have no more memory."""
    if not (_MEMORY / "memory.limit_in_bytes").exists():
        raise CannotBeTriedError("no memory controller that could be given a limit here")
    group = _MEMORY / host.machine.name
    group.mkdir()
    try:
        (group / "cgroup.procs").write_text(str(host.outside_pid(host.service.main_pid)))
        (group / "memory.limit_in_bytes").write_text("64K")
        restarted = host.await_restart()
        counts = (group / "memory.oom_control").read_text()
        found = re.search(r"^oom_kill (\d+)$", counts, re.MULTILINE)
        assert found is not None, counts
        assert int(found[1]) >= 1, counts
        host.journal("status=9/KILL|oom-kill")
        return Sight(
            f"{found[0]} of the kernel, {restarted}",
            host.status("healthy"),
            _told_by_the_next_run(host),
        )
    finally:
        host.wait_until("an empty group", lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def bad_configuration_at_a_start(host: FaultyHost) -> Sight:
    file = "/etc/superezio/conf.d/faulty.toml"
    host.machine.write(file, "[leases]\ngrace = 'soon'\n")
    assert not host.restart()
    status = host.state("status=78|exit-code|start-limit-hit")
    said = host.journal("faulty.toml:2: leases.grace: expected a duration")
    seen = host.journal("Main process exited, .*status=78")
    host.machine.run("rm", file)
    host.start()
    return Sight(seen.partition(", ")[2], status, said)


def bad_configuration_at_a_reload(host: FaultyHost) -> Sight:
    file = "/etc/superezio/conf.d/faulty.toml"
    pid = host.service.main_pid
    host.machine.write(file, "[leases]\ngrace = 'soon'\n")
    host.machine.run("systemctl", "reload", UNIT, check=False)
    said = host.journal("faulty.toml:2: leases.grace: expected a duration")
    status = host.status("configuration|faulty.toml")
    host.machine.run("rm", file)
    host.machine.run("systemctl", "reload", UNIT)
    host.status("^healthy")
    assert host.service.main_pid == pid
    return Sight("the file was refused", status, said)


def five_manual_restarts(host: FaultyHost) -> Sight:
    done = [host.restart() for _ in range(5)]
    assert not all(done), "the start limit of the unit refuses what is more than it"
    status = host.state("start-limit-hit")
    said = host.journal("[Ss]tart request repeated too quickly")
    host.start()
    return Sight(f"{done.count(False)} of 5 refused", status, said)


def fd_limit(host: FaultyHost) -> Sight:
    """More clients than the daemon may have files open."""
    host.service.drop_in("[Service]\nLimitNOFILE=128\n", name="files")
    host.restart()
    host.forgive()
    pid = host.service.main_pid
    assert re.search(r"Max open files +128 +128", host.machine.output("cat", f"/proc/{pid}/limits"))
    host.await_pings(5)
    crowd = host.machine.start("python3", "-c", _CROWD, SOCKET, "400", user="nobody")
    assert crowd.stdout is not None
    assert crowd.stdout.readline() == "connected\n"
    status = host.status("^degraded: the table of connections is full")
    said = host.journal("refused a connection: .* all it takes")
    held = len(host.machine.output("ls", f"/proc/{pid}/fd").split())
    assert host.service.call("system.ping")["pid"] == pid, "an admin is served"
    crowd.communicate("")
    host.status("^healthy")
    host.machine.run("rm", f"/etc/systemd/system/{UNIT}.d/files.conf")
    host.machine.run("systemctl", "daemon-reload")
    host.restart()
    return Sight(f"400 clients, {held} of 128 files open", status, said)


def a_thousand_connects(host: FaultyHost) -> Sight:
    # It comes back when all have connected, however long that takes.
    host.service.drop_in("[Service]\nRestartSec=5min\n", name="z-slow")
    pid = host.service.main_pid
    host.signal("KILL")
    host.machine.wait_for_properties(UNIT, SubState="auto-restart")
    crowd = host.machine.start("/usr/bin/python3", "-c", ASKING_CROWD, SOCKET)
    assert crowd.stdout is not None
    assert crowd.stdout.readline() == "connected\n"
    assert host.machine.properties(UNIT, "SubState") == {"SubState": "auto-restart"}
    status = host.state("auto-restart")
    host.machine.run("rm", f"/etc/systemd/system/{UNIT}.d/z-slow.conf")
    host.machine.run("systemctl", "daemon-reload")
    assert host.restart()
    output, _ = crowd.communicate(timeout=60)
    assert output == "1000\n"
    assert host.service.main_pid != pid
    return Sight("1000 of 1000 answered by another pid", status, host.journal("status=9/KILL"))


def _told_by_the_next_run(host: FaultyHost) -> str:
    """Return the record of it; it stands as a condition, too, and degrades nothing."""
    told = host.event("daemon.ended_suddenly", "ended suddenly, .* killed by a signal")
    assert "restarted_suddenly" in host.service.conditions()
    return told


def _messages(host: FaultyHost) -> list[str]:
    return [str(entry["MESSAGE"]) for entry in host.entries()]


def _process_state(host: FaultyHost) -> str:
    stat = host.machine.output("cat", f"/proc/{host.service.main_pid}/stat")
    return stat.rpartition(")")[2].split()[0]


FAULTS = (
    Fault(name="stuck loop", provoke=stuck_loop, away_s=15),
    Fault(name="SIGSTOP", provoke=stopped, away_s=15),
    Fault(name="SIGKILL", provoke=killed, away_s=10),
    Fault(name="OOM kill", provoke=out_of_memory, away_s=10),
    Fault(name="bad configuration, at a start", provoke=bad_configuration_at_a_start, away_s=15),
    Fault(
        name="bad configuration, at a reload",
        provoke=bad_configuration_at_a_reload,
        away_s=5,
        lives_on=True,
    ),
    Fault(name="five manual restarts", provoke=five_manual_restarts, away_s=15),
    Fault(name="fd limit reached", provoke=fd_limit, away_s=15),
    Fault(name="1,000 connects during a restart", provoke=a_thousand_connects, away_s=30),
)
