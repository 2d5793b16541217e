"""A machine with a real systemd, booted in under a second, for one test.

It needs root and systemd-nspawn, and no container engine. Everything of it is in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

_HERE = Path(__file__).parent
_ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
    "SYSTEMD_PAGER=",
    "SYSTEMD_COLORS=0",
)


#: What nspawn ends with when the machine is to boot again.
_REBOOTS = 133
_BOOTED = frozenset({"running", "degraded"})


class MachineError(Exception):
    """The machine does not do what a test needs of it."""


def why_not() -> str | None:
    """Return why no machine can be booted here, or None."""
    if os.geteuid() != 0:
        return "booting a systemd needs root"
    for command, package in (("systemd-nspawn", "systemd-container"), ("unshare", "util-linux")):
        if shutil.which(command) is None:
            return f"{command} is not there: apt-get install --no-install-recommends {package}"
    return None


class Machine:
    """A booted machine. Files are written through `write`, commands run through `run`.

    `tree` is the root directory whose systemd it boots; what is written does not reach it.
    """

    def __init__(
        self,
        *,
        tree: Path = Path("/"),
        nspawn_options: Sequence[str] = (),
        boot_timeout_s: float = 60,
    ) -> None:
        self.name = f"superezio-test-{secrets.token_hex(4)}"
        self._directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self._console = self._directory / "console"
        self._stage: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._boot_timeout_s = boot_timeout_s
        mount = str(self._directory / "mount")
        stage = ("sh", str(_HERE / "stage.sh"), self.name, mount, str(tree))
        self._stage_words = (*stage, *nspawn_options)
        try:
            (self._directory / "mount").mkdir()
            self._boot("unshare", "--mount", "--propagation", "private")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    @property
    def root(self) -> Path:
        """The machine's root directory, seen from outside."""
        return Path(f"/proc/{self._leader}/root")

    def run(
        self,
        *command: str,
        user: str | None = None,
        check: bool = True,
        stdin: str | None = None,
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside and wait for it. Raises MachineError if it fails."""
        done = subprocess.run(
            self.command(*command, user=user),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        if check and done.returncode != 0:
            raise MachineError(
                f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def output(self, *command: str, user: str | None = None) -> str:
        """Run a command inside and return what it prints."""
        return self.run(*command, user=user).stdout

    def start(self, *command: str, user: str | None = None) -> subprocess.Popen[str]:
        """Start a command inside; its output is piped."""
        return subprocess.Popen(
            self.command(*command, user=user),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def command(self, *command: str, user: str | None = None) -> list[str]:
        """Return the command line that runs `command` inside."""
        enter = ["nsenter", "--target", str(self._leader), "--all", "--root", "--wd"]
        become = ["runuser", "--user", user, "--"] if user else []
        return [*enter, "env", "-i", *_ENVIRONMENT, *become, *command]

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file inside, and the directories above it."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        """Return properties of a unit as `systemctl show` has them."""
        lines = self.output("systemctl", "show", unit, f"--property={','.join(names)}").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """Return the journal's entries, oldest first."""
        self.run("journalctl", "--sync")
        output = self.output("journalctl", "--no-pager", "--output=json", *matches)
        return [json.loads(line) for line in output.splitlines()]

    def wait_until(
        self, what: str, holds: Callable[[], Any], *, timeout_s: float = 30, every_s: float = 0.05
    ) -> Any:
        """Look from outside until `holds()` is true, and return what it returned."""
        end = time.monotonic() + timeout_s
        while not (result := holds()):
            if time.monotonic() > end:
                raise MachineError(f"not within {timeout_s} s: {what}\n{self.recent_log()}")
            time.sleep(every_s)
        return result

    def wait_for_properties(
        self, unit: str, *, timeout_s: float = 30, **wanted: str
    ) -> dict[str, str]:
        """Wait until a unit's properties are as wanted."""

        def as_wanted() -> dict[str, str] | None:
            found = self.properties(unit, *wanted)
            return found if found == wanted else None

        found: dict[str, str] = self.wait_until(f"{unit} {wanted}", as_wanted, timeout_s=timeout_s)
        return found

    def recent_log(self, lines: int = 60) -> str:
        """Return the end of the journal, for the message of a test that fails."""
        return self.run("journalctl", "--no-pager", f"--lines={lines}", check=False).stdout

    def reboot(self) -> None:
        """Shut it down, and boot it again with the files that were written, but for /run and /tmp.

        Returns once it takes commands: what is enabled may still be starting.
        """
        stage = self._stage
        assert stage is not None
        with open(f"/proc/{stage.pid}/ns/mnt", "rb") as namespace:  # noqa: PTH123 - no file
            self.run("systemctl", "reboot", "--no-block")
            if stage.wait(self._boot_timeout_s) != _REBOOTS:
                raise MachineError(f"no reboot: {self._console.read_text()}")
            self._leader = 0
            fd = namespace.fileno()
            self._boot("nsenter", f"--mount=/proc/self/fd/{fd}", keep=(fd,), await_all=False)
        self.wait_until("an answer of systemd", lambda: self._state() in _BOOTED | {"starting"})

    def close(self) -> None:
        """Power the machine off and leave nothing of it."""
        stage = self._stage
        if stage is not None and stage.poll() is None:
            stage.send_signal(signal.SIGTERM)  # nspawn asks the systemd inside to halt
            try:
                stage.wait(20)
            except subprocess.TimeoutExpired:
                self._kill(stage)
        self._remove_cgroups()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _boot(self, *enter: str, keep: Sequence[int] = (), await_all: bool = True) -> None:
        notify_path = self._directory / "notify"
        notify_path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(notify_path))
            with self._console.open("wb") as console:
                self._stage = subprocess.Popen(
                    # A test run that is killed takes its machines with it.
                    ["setpriv", "--pdeathsig", "TERM", *enter, *self._stage_words],
                    env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(notify_path)},
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    cwd="/",
                    start_new_session=True,
                    pass_fds=keep,
                )
            self._await_ready(notify, time.monotonic() + self._boot_timeout_s, ready=not await_all)
        if await_all and (state := self._state("--wait")) not in _BOOTED:
            raise MachineError(f"the machine is {state}: {self._console.read_text()}")

    def _state(self, *options: str) -> str:
        return self.run("systemctl", "is-system-running", *options, check=False).stdout.strip()

    def _await_ready(self, notify: socket.socket, end: float, *, ready: bool) -> None:
        while not (ready and self._leader):
            notify.settimeout(0.5)
            try:
                message = notify.recv(4096).decode()
            except TimeoutError:
                if self._stage is None or self._stage.poll() is not None or time.monotonic() > end:
                    raise MachineError(f"no boot: {self._console.read_text()}") from None
                continue
            ready = ready or "READY=1" in message.splitlines()
            leader = re.search(r"^X_NSPAWN_LEADER_PID=(\d+)$", message, re.MULTILINE)
            self._leader = int(leader.group(1)) if leader else self._leader

    def _kill(self, stage: subprocess.Popen[bytes]) -> None:
        # Killing nspawn alone leaves its systemd running: end that first, and all inside with it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._leader, signal.SIGKILL)
        stage.kill()
        stage.wait(10)

    def _remove_cgroups(self) -> None:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        for mount in (line.split() for line in mounts):
            branch = Path(mount[1]) / self.name
            if mount[2] != "cgroup2" or not branch.exists():
                continue
            for directory, _, _ in os.walk(branch, topdown=False):
                with contextlib.suppress(OSError):
                    Path(directory).rmdir()
