"""A booted host with superezio for faults: small disks, short times, and an observer inside."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from supereziod.gpu.control import SimulatedControl
from supereziod.observability.journald import message_id
from system.faults.observation import Observation, observation
from system.installation import Installation, install
from system.machine import MachineError
from system.service import SOCKET, UNIT, Service

SOCKET_UNIT = "superezio.socket"
RUNTIME, STATE = "/run/superezio", "/var/lib/superezio"
_USER = "worker"
_TOOLS = "/usr/local/lib/superezio-faults"
_CLOCKS = f"{_TOOLS}/clocks"
_LOG = "/tmp/observer.log"
_CONFIG = """\
[recorder]
size = "1MiB"
[watchdog]
grace = "1s"
cool_within = "10m"
[gpu]
sample_period = "250ms"
[gpu.probe]
driver_retry = "500ms"
[gpu.thermal]
warm_enter_dwell = "500ms"
warm_leave_dwell = "500ms"
hot_enter_dwell = "250ms"
hot_leave_dwell = "500ms"
critical_throttle_dwell = "500ms"
critical_leave_dwell = "1s"
"""
#: The shipped unit with times a tenth as long, more or less, and what lets a test reach inside. An
#: older systemd passes over what it does not know.
_DROP_IN = f"""\
[Service]
WatchdogSec=2
RestartSec=500ms
RestartMaxDelaySec=2
TimeoutAbortSec=5
Environment=LD_PRELOAD={_TOOLS}/clocks.so CLOCKS={_CLOCKS} PYTHONPATH={_TOOLS}
"""
#: SIGUSR2 is what makes the loop stuck: in Python, in the thread that turns it.
_STUCK = """\
import signal
def loop_is_stuck(number, frame):
    while True:
        pass
signal.signal(signal.SIGUSR2, loop_is_stuck)
"""


class FaultyHost:
    """The host, and what of it changed since `begin`. Judged from outside of the daemon."""

    def __init__(self, installation: Installation, *, build: Path) -> None:
        self.machine = installation.boot()
        try:
            install(self.machine)
            self._prepare(build)
        except BaseException:
            self.machine.close()
            raise
        self.systemd = self.machine.output("systemctl", "--version").split()[1]
        self._observer: subprocess.Popen[str] | None = None
        self._since_us = 0
        self.restarts = 0

    def close(self) -> None:
        """Power it off, which ends the observer."""
        self.machine.close()
        if self._observer is not None:
            with self._observer as observer:
                observer.kill()  # what it had started inside is gone with the machine

    # --- a fault, from its beginning to its end ------------------------------------------------

    def begin(self) -> None:
        """Forgive earlier failures, and let the observer take its leases and look on."""
        self.forgive()
        self._since_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.machine.run("rm", "--force", _LOG)
        observer = ("python3", f"{_TOOLS}/observer.py", SOCKET, _LOG)
        self._observer = self.machine.start(*observer, user=_USER)
        self.await_pings(10)

    def finish(self) -> Observation:
        """Let the observer look on for a while after the daemon is back, and judge its log."""
        self.machine.wait_for_properties(UNIT, ActiveState="active")
        self.await_pings(15)
        observer, self._observer = self._observer, None
        assert observer is not None
        output, _ = observer.communicate(timeout=60)
        assert observer.returncode == 0, f"the observer ended: {output}"
        return observation(self._log())

    def await_pings(self, number: int) -> None:
        """Wait for so many answers from now on, over each connection."""

        def pinged(log: list[str]) -> bool:
            answered = [line for line in log if line.startswith('["pinged"')]
            return all(
                sum(f'"{channel}"' in line for line in answered) >= number
                for channel in ("kept", "fresh")
            )

        self._await_log(f"{number} answers", pinged)

    def await_renewal(self) -> None:
        """Wait until the observer has asked to renew a lease, and was refused."""
        self._await_log(
            "a refused renewal", lambda log: any(line.startswith('["not_renewed"') for line in log)
        )

    # --- what an administrator does --------------------------------------------------------------

    def forgive(self) -> None:
        """Let a unit that failed, or started often, start again. systemd counts anew, then."""
        self.machine.run("systemctl", "reset-failed", SOCKET_UNIT, UNIT, check=False)
        self._count_from_now()

    def start(self) -> None:
        """Start what failed, as the manual says."""
        self.forgive()
        self.machine.run("systemctl", "start", SOCKET_UNIT, UNIT)

    def restart(self) -> bool:
        """Restart the service; whether systemd did. It may count its own anew, then."""
        done = self.machine.run("systemctl", "restart", UNIT, check=False).returncode == 0
        self._count_from_now()
        return done

    def signal(self, name: str, pid: int | None = None) -> None:
        """Send a signal, to the daemon if to nobody else."""
        self.machine.run("kill", f"-{name}", str(self.service.main_pid if pid is None else pid))

    def set_clocks(self, *, wall_s: int = 0, boot_s: int = 0) -> None:
        """Let the daemon's clocks be ahead by so much."""
        self.machine.write(_CLOCKS, f"{wall_s} {boot_s}\n")

    # --- what is seen ----------------------------------------------------------------------------

    def await_restart(self, number: int = 1, *, timeout_s: float = 40) -> str:
        """Wait until systemd has restarted the service so often since `begin`."""
        self.service.await_restart(self.restarts + number, timeout_s=timeout_s)
        return f"NRestarts +{number}"

    def status(self, part: str, *, unit: str = UNIT, timeout_s: float = 12) -> str:
        """Wait until `systemctl status` says it in the line that is the unit's own."""

        def found() -> str | None:
            text = self.machine.properties(unit, "StatusText")["StatusText"]
            return text if re.search(part, text) else None

        text: str = self.machine.wait_until(f"status: {part}", found, timeout_s=timeout_s)
        return text

    def state(self, part: str, *, unit: str = UNIT, timeout_s: float = 12) -> str:
        """Wait until `systemctl status` says it in the line that is systemd's."""

        def found() -> str | None:
            shown = self.machine.run("systemctl", "status", unit, check=False).stdout
            lines = (line.strip() for line in shown.splitlines())
            (active,) = (line for line in lines if line.startswith("Active:"))
            return active if re.search(part, active) else None

        text: str = self.machine.wait_until(f"state: {part}", found, timeout_s=timeout_s)
        return text.partition(" since ")[0]

    def journal(self, part: str, *matches: str, timeout_s: float = 12) -> str:
        """Wait for a line of the journal of since `begin`, and return it."""

        def found() -> str | None:
            entries = self.entries(*matches)
            texts = (str(entry["MESSAGE"]) for entry in entries)
            return next((text for text in texts if re.search(part, text)), None)

        text: str = self.machine.wait_until(f"journal: {part}", found, timeout_s=timeout_s)
        return text

    def event(self, type_: str, part: str = "", *, timeout_s: float = 12) -> str:
        """Wait for an entry by its MESSAGE_ID."""
        return self.journal(part, f"MESSAGE_ID={message_id(type_)}", timeout_s=timeout_s)

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        """Return the journal's entries of since `begin`: of the service, or as they match."""
        # Not by a cursor: journalctl skips the first match where the cursor's entry is none.
        found = self.machine.journal(*(matches or (f"--unit={UNIT}",)))
        return [each for each in found if int(each["__MONOTONIC_TIMESTAMP"]) >= self._since_us]

    def probe_pid(self) -> int:
        """Return the pid of the process that reads the GPUs."""
        daemon = self.service.main_pid
        (pid,) = self.machine.output("cat", f"/proc/{daemon}/task/{daemon}/children").split()
        return int(pid)

    def wait_until(self, what: str, holds: Callable[[], Any], *, timeout_s: float = 12) -> Any:
        """Look from outside until it holds."""
        return self.machine.wait_until(what, holds, timeout_s=timeout_s)

    @property
    def gpus(self) -> SimulatedControl:
        """What forces values on the GPUs."""
        return SimulatedControl(self.machine.root / RUNTIME.lstrip("/") / "simulated")

    def outside_pid(self, pid: int) -> int:
        """Return the pid that a process inside has outside."""
        inside = (self.machine.root.parent / "ns" / "pid").readlink()
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                status = (process / "status").read_text()
                is_inside = (process / "ns" / "pid").readlink() == inside
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                continue
            if is_inside and re.search(rf"^NSpid:.*\t{pid}$", status, re.MULTILINE):
                return int(process.name)
        raise AssertionError(f"no process {pid} inside")

    def _count_from_now(self) -> None:
        self.restarts = int(self.machine.properties(UNIT, "NRestarts")["NRestarts"])

    def _await_log(self, what: str, holds: Callable[[list[str]], bool]) -> None:
        """Wait for what the observer writes from now on."""

        def written() -> bool:
            observer = self._observer
            assert observer is None or observer.poll() is None, observer.communicate()
            return holds(self._log()[before:])

        before = len(self._log())
        try:
            self.machine.wait_until(what, written)
        except MachineError as error:
            raise MachineError("\n".join([*self._log()[-40:], str(error)])) from error

    def _log(self) -> list[str]:
        return self.machine.run("cat", _LOG, check=False).stdout.splitlines()

    def _prepare(self, build: Path) -> None:
        machine = self.machine
        machine.run("useradd", "--groups=superezio", _USER)
        machine.run("mkdir", "--parents", STATE)
        for directory, mode, size in ((STATE, "0700", "8m"), (RUNTIME, "0755", "4m")):
            options = f"size={size},mode={mode},uid=superezio,gid=superezio"
            machine.run("mount", "-t", "tmpfs", "-o", options, "small", directory)
        here = Path(__file__).parent
        library = build / "clocks.so"
        _compile(here / "clocks.c", library)
        machine.write(f"{_TOOLS}/observer.py", (here / "observer.py").read_text())
        machine.write(f"{_TOOLS}/sitecustomize.py", _STUCK)
        machine.write(f"{_TOOLS}/clocks.so", "")
        (machine.root / _TOOLS.lstrip("/") / "clocks.so").write_bytes(library.read_bytes())
        self.set_clocks()
        self.service = Service(machine, config=_CONFIG)
        self.service.drop_in(_DROP_IN)
        self.service.start()


def _compile(source: Path, library: Path) -> None:
    command: Sequence[str] = ("gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror")
    subprocess.run([*command, "-o", str(library), str(source)], check=True)
