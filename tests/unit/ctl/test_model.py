"""Models: what their files may say, how they become a run, and when systemd hears of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wire_samples
from ctl_runner import Ctl
from fake_daemon import FakeDaemon
from superezio import errors
from superezio.quantities import parse_size
from superezioctl.completion import candidates
from superezioctl.minding.family import Process
from superezioctl.models import files, programs, units
from superezioctl.models.model import Model, Ready, is_name, names
from superezioctl.models.running import words
from superezioctl.models.starting import Readiness, ServiceManager
from supereziod.overheat.model_start import WAITS_FOR_LEASE

LEAST = 'command = ["server"]\nvram = "8GiB"\n'
#: With a program that every host has.
THERE = 'command = ["sh"]\nvram = "8GiB"\n'
GIB = 1 << 30


def load(directory: Path, text: str) -> Model:
    (directory / "llama.toml").write_text(text)
    return files.load("llama", directory)


def problems(directory: Path, text: str) -> list[str]:
    with pytest.raises(files.ModelFileError) as raised:
        load(directory, text)
    prefix = f"{directory}/llama.toml"
    assert all(line.startswith(prefix) for line in str(raised.value).splitlines())
    return [line.removeprefix(prefix) for line in str(raised.value).splitlines()]


# --- files ----------------------------------------------------------------------------------------


def test_a_command_and_its_vram_are_enough(tmp_path: Path) -> None:
    model = load(tmp_path, LEAST)
    assert (model.command, model.vram_bytes, model.wait_s) == (["server"], 8 * GIB, 600.0)
    assert (model.environment, model.working_directory, model.ready) == ({}, None, None)


def test_all_that_a_file_may_say(tmp_path: Path) -> None:
    model = load(
        tmp_path,
        'command = ["server", "--port", "8080"]\nvram = "10GB"\ngpus = 2\nsplit = true\n'
        'policy = "spread"\nprefer = ["0"]\navoid = ["GPU-1", "2"]\npriority = -5\n'
        'sizes_itself = true\nwait = "1h"\nworking_directory = "/srv"\n'
        'environment = { HOME = "/srv/home" }\n'
        '[ready]\ntcp = "[::1]:8080"\ntimeout = "90s"\n',
    )
    assert model == Model(
        command=["server", "--port", "8080"],
        vram_bytes=10**10,
        gpus=2,
        split=True,
        policy="spread",
        prefer=["0"],
        avoid=["GPU-1", "2"],
        priority=-5,
        sizes_itself=True,
        wait_s=3600.0,
        working_directory="/srv",
        environment={"HOME": "/srv/home"},
        ready=Ready(tcp="[::1]:8080", timeout_s=90.0),
    )
    assert model.ready is not None
    assert model.ready.address == ("::1", 8080)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [": command: is missing", ": vram: is missing"]),
        (LEAST + "vramm = 1\n", [":3: vramm: no such key; did you mean vram?"]),
        ('command = "x"\nvram = -1\n', [
            ":1: command: expected a list (text each), got 'x'",
            ":2: vram: expected a size such as 512MiB, got -1",
        ]),
        ("command = ['x']\nvram = 0\n", [":2: vram has to be more than zero"]),
        ('command = []\nvram = "1GiB"\n', [":1: command is empty: it needs the program, at least"]),
        (LEAST + "gpus = 0\n", [":3: gpus has to be 1 or more"]),
        (LEAST + 'policy = "best"\n', [
            ":3: policy: expected one of best_fit, spread, exclusive, coolest, got 'best'"
        ]),
        (LEAST + "split = true\ngpus = 1\n", [
            ":3: split is over several GPUs, and gpus is 1: leave one of them out"
        ]),
        (LEAST + 'working_directory = "models"\n', [
            ":3: working_directory has to begin at the root: /srv/models"
        ]),
        (LEAST + "[environment]\nA = 1\n", [":4: environment.A: expected text, got 1"]),
        (LEAST + '[environment]\n"A=B" = "1"\n', [":3: environment cannot have 'A=B'"]),
        (LEAST + "environment = 3\n", [":3: environment: expected a table, got 3"]),
        (LEAST + "ready = true\n", [":3: ready: expected a table, got True"]),
        (LEAST + "[ready]\ntimeout = '1m'\n", [":3: ready: give one of tcp and command"]),
        (LEAST + "[ready]\ntcp = 'x:0'\n", [
            ":3: ready: cannot use 'x:0' as tcp: write it like 127.0.0.1:8080 or [::1]:8080"
        ]),
        (LEAST + "[ready]\ntcp = 8080\n", [
            ':4: ready.tcp: expected text such as "127.0.0.1:8080", got 8080'
        ]),
        (LEAST + "[ready]\ncommand = []\n", [
            ":4: ready: command is empty: it needs the program, at least"
        ]),
        ("command = [x]\n", [":1: not TOML: Invalid value"]),
    ],
)  # fmt: skip
def test_every_mistake_is_told_with_file_line_and_key(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    assert problems(tmp_path, text) == expected


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(files.ModelFileError, match=r"none\.toml: cannot read it: No such file"):
        files.load("none", tmp_path)
    (tmp_path / "odd.toml").write_bytes(b"\xff")
    with pytest.raises(files.ModelFileError, match="is not UTF-8"):
        files.load("odd", tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-x", "a b", "a\\x2db", "x" * 65])
def test_a_name_that_is_none_of_a_file_and_a_unit_is_refused(tmp_path: Path, name: str) -> None:
    assert not is_name(name)
    with pytest.raises(files.ModelFileError, match="a model's name is of letters"):
        files.load(name, tmp_path)


def test_models_are_the_files_that_a_unit_can_be_named_after(tmp_path: Path) -> None:
    for file in ("llama-8b.toml", "whisper.v3.toml", "notes.txt", "no way.toml", ".hidden.toml"):
        (tmp_path / file).touch()
    assert names(tmp_path) == ["llama-8b", "whisper.v3"]


# --- the lease ------------------------------------------------------------------------------------


def test_a_file_becomes_the_words_of_a_run() -> None:
    model = Model(
        command=["server", "--gpus", "all"],
        vram_bytes=8 * GIB + 1,
        gpus=2,
        split=True,
        policy="coolest",
        prefer=["0"],
        avoid=["1", "2"],
        priority=3,
        sizes_itself=True,
        wait_s=1.5,
    )
    found = words("llama", model)
    assert parse_size(found[1]) == 8 * GIB + 1
    assert found[2:] == [
        *("--name", "llama", "--policy", "coolest", "--priority", "3", "--wait", "1500ms"),
        *("--gpus", "2", "--prefer", "0", "--avoid", "1", "--avoid", "2"),
        *("--split", "--sizes-itself", "--", "server", "--gpus", "all"),
    ]


class Manager:
    """The far end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(10)

    def told(self) -> list[str]:
        return self._socket.recv(4096).decode().split("\n")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    found = Manager(tmp_path / "notify@1.sock")
    yield found
    found.close()


def run_model(directory: Path, text: str, manager: Manager) -> subprocess.CompletedProcess[str]:
    (directory / "llama.toml").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "superezioctl", "model", "run", "--directory", directory, "llama"],
        env={**os.environ, "NOTIFY_SOCKET": str(manager.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_server_runs_as_the_file_says_and_systemd_hears_of_it(
    daemon: FakeDaemon, manager: Manager, tmp_path: Path
) -> None:
    show = "echo $CUDA_VISIBLE_DEVICES $SUPEREZIO_LEASE $MODEL $PWD ${NOTIFY_SOCKET-none}; exit 7"
    text = (
        f"command = ['sh', '-c', '{show}']\nvram = '8GiB'\nwait = 0\n"
        f"working_directory = '{tmp_path}'\n[environment]\nMODEL = 'mine'\n"
        "CUDA_VISIBLE_DEVICES = 'all'\n"
    )
    done = run_model(tmp_path, text, manager)
    assert done.returncode == 7, done.stderr
    assert done.stdout == f"{wire_samples.UUID_3060} 1ea5e mine {tmp_path} none\n"
    assert daemon.params_of("lease.acquire")["name"] == "llama"
    waits = manager.told()
    assert waits == ["STATUS=waiting for a lease of 8.0 GiB"]
    assert waits[0].startswith(f"STATUS={WAITS_FOR_LEASE}"), "what is looked for after a heat"
    assert manager.told() == ["READY=1", "STATUS=runs under the lease 1ea5e"]


def test_a_server_is_ready_when_its_command_says_so(
    daemon: FakeDaemon, manager: Manager, tmp_path: Path
) -> None:
    """It has the server's environment; and the daemon is told of one that sizes itself."""
    answers = tmp_path / "answers"
    text = (
        f"command = ['sh', '-c', 'mkfifo {answers}.end; touch {answers}; read _ <{answers}.end']\n"
        "vram = '8GiB'\nwait = 0\nsizes_itself = true\n"
        f"environment = {{ FILE = '{answers}' }}\n"
        f"[ready]\ncommand = ['sh', '-c', 'test -e $FILE && echo >$FILE.end']\n"
    )
    done = run_model(tmp_path, text, manager)
    assert done.returncode == 0, done.stderr
    manager.told()
    assert manager.told()[0].startswith("STATUS=has the lease 1ea5e, waiting for `sh -c test")
    assert manager.told() == ["READY=1", "STATUS=ready"]
    assert daemon.params_of("lease.acquire")["sizes_itself"] is True


def test_a_host_whose_driver_is_not_there_yet_is_waited_for(
    daemon: FakeDaemon, manager: Manager, tmp_path: Path
) -> None:
    """It would use up its starts within a minute, else, and stay down for good."""
    granted = daemon.answers["lease.acquire"]
    absent = errors.GpusUnavailableError("cannot lease a GPU: the driver is not loaded")
    daemon.answers["lease.acquire"] = [absent, granted]
    text = "command = ['true']\nvram = '8GiB'\nwait = '300ms'\n"
    assert run_model(tmp_path, text, manager).returncode == 0
    waits = ["STATUS=waiting for a lease of 8.0 GiB"]
    gpus = ["STATUS=waiting for GPUs: cannot lease a GPU: the driver is not loaded"]
    assert [manager.told() for _ in range(3)] == [waits, gpus, waits]
    assert manager.told()[0] == "READY=1"
    daemon.answers["lease.acquire"] = absent
    assert run_model(tmp_path, text, manager).returncode == 125, "and not for ever"


def test_without_a_lease_systemd_is_told_why(
    daemon: FakeDaemon, manager: Manager, tmp_path: Path
) -> None:
    daemon.stop()
    done = run_model(tmp_path, THERE + "wait = 0\n", manager)
    assert done.returncode == 125
    manager.told()
    assert manager.told()[0].startswith("STATUS=no lease: ")


def test_a_bad_file_is_exit_code_78_and_nothing_is_leased(
    daemon: FakeDaemon, manager: Manager, tmp_path: Path
) -> None:
    done = run_model(tmp_path, "vram = '1GiB'\n", manager)
    assert (done.returncode, done.stderr) == (78, f"{tmp_path}/llama.toml: command: is missing\n")
    done = run_model(tmp_path, LEAST + "working_directory = '/nowhere'\n", manager)
    assert done.returncode == 127
    assert "cannot work in /nowhere: No such file" in done.stderr
    assert not daemon.requests


# --- programs -------------------------------------------------------------------------------------


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A directory with a program, a file that is none, and a directory."""
    found = tmp_path / "shelf"
    (found / "folder").mkdir(parents=True)
    for name, mode in (("server", 0o755), ("notes", 0o644)):
        (found / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
        (found / name).chmod(mode)
    return found


@pytest.mark.parametrize(
    ("program", "expected", "missing"),
    [
        ("server", None, False),
        ("{shelf}/server", None, False),
        ("./server", None, False),
        ("none", "there is no program 'none' in {shelf}: install it, or give its whole", True),
        ("{shelf}/none", "there is no {shelf}/none: install it, or mend the path", True),
        ("{shelf}/server/x", "there is no {shelf}/server/x: install it, or", True),
        ("other/server", "there is no {shelf}/other/server: install it, or", True),
        ("{shelf}", "{shelf} is a directory: name the program in it", False),
        ("folder", "{shelf}/folder is a directory: name the program in it", False),
        ("notes", "{shelf}/notes is not executable: `chmod +x {shelf}/notes`", False),
        ("/dev/null", "/dev/null is not executable", False),
        ("a\0/b", "cannot look at '{shelf}/a\\x00/b': embedded null byte", False),
        ("x" * 300, "cannot look at '{shelf}/xxx", False),
    ],
)
def test_a_program_is_looked_for_as_exec_does(
    shelf: Path,
    program: str,
    expected: str | None,
    missing: bool,  # noqa: FBT001 - a column of the table
) -> None:
    place = programs.Place(path=str(shelf), directory=str(shelf))
    if expected is None:
        programs.look_for(program.format(shelf=shelf), place)
        return
    with pytest.raises(programs.UnusableProgramError) as raised:
        programs.look_for(program.format(shelf=shelf), place)
    assert str(raised.value).startswith(expected.format(shelf=shelf))
    assert raised.value.missing is missing


def test_a_later_directory_of_the_path_may_have_it(shelf: Path) -> None:
    """What cannot be executed does not hide what can; where nothing can, it says why."""
    (shelf / "more").mkdir()
    (shelf / "more" / "notes").touch(mode=0o755)
    programs.look_for("notes", programs.Place(path=f"{shelf}:{shelf}/more", directory="/"))
    with pytest.raises(programs.UnusableProgramError, match="shelf/notes is not executable"):
        programs.look_for("notes", programs.Place(path=f"/none:{shelf}", directory="/"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user")
def test_root_looks_with_the_rights_of_the_servers_user(tmp_path: Path) -> None:
    """It may not go into a directory, which is not to be seen by the modes of the program."""
    tmp_path.chmod(0o700)
    program = tmp_path / "server"
    program.touch(mode=0o755)
    nobody = programs.Account.of("nobody", ["tty"])
    assert nobody is not None
    assert set(nobody.groups) > {nobody.gid}
    place = programs.Place(path=str(tmp_path), directory="/", account=nobody)
    programs.look_for("sh", programs.Place(path=os.environ["PATH"], directory="/", account=nobody))
    for name in ("server", str(program)):
        with pytest.raises(programs.UnusableProgramError) as raised:
            programs.look_for(name, place)
        told = f"the user nobody may not execute {program}: `namei -l {program}` shows"
        assert str(raised.value).startswith(told)
    assert programs.Account.of("no-such-user", []) is None
    root = programs.Account.of("0", [])
    assert root is not None
    assert (root.name, root.uid) == ("root", 0)


def test_check_tells_of_programs_that_are_not_there_and_runs_none(ctl: Ctl, shelf: Path) -> None:
    where = ("model", "check", "--directory", str(shelf))
    file = shelf / "llama.toml"
    surroundings = f"[environment]\nPATH = '{shelf}'\n"
    ready = "[ready]\ncommand = ['./notes']\n"
    file.write_text(f"{LEAST}working_directory = '{shelf}'\n{surroundings}{ready}")
    assert ctl(*where) == 1
    told = f"{shelf}/notes is not executable: `chmod +x {shelf}/notes`, or name the program"
    assert ctl.out.startswith(f"{file}:7: ready.command: {told}")
    assert ctl.out.count("\n") == 1, "the server is found in the PATH of the file"
    file.write_text(LEAST.replace("server", "no-such-server"))
    assert ctl(*where) == 1
    assert ctl.out.startswith(f"{file}:1: command: there is no program 'no-such-server' in /")
    assert ctl("--json", *where) == 1
    assert '"key":"command"' in ctl.out.replace(" ", "")
    file.write_text(f"{LEAST}{surroundings}")
    assert ctl(*where) == 0
    assert not (shelf.parent / "was-run").exists()


def test_a_program_that_is_not_there_costs_no_lease(
    daemon: FakeDaemon, manager: Manager, shelf: Path
) -> None:
    """The unit is not told of one either, and the exit codes are those of run."""
    done = run_model(shelf, LEAST.replace("server", "no-such-server"), manager)
    told = "superezioctl model: llama: command: there is no program 'no-such-server' in "
    assert (done.returncode, done.stderr.startswith(told)) == (127, True)
    done = run_model(
        shelf, LEAST.replace("server", "./notes") + f"working_directory = '{shelf}'\n", manager
    )
    assert done.returncode == 126
    assert "command: notes is not executable: `chmod +x notes`" in done.stderr
    assert not daemon.requests


PLACES = """\
#!/bin/sh
cat <<END
Id=superezio-model@llama.service
LoadState=loaded
User=root
SupplementaryGroups=tty no-such-group
Environment="A=b c" PATH=/none:{path}
WorkingDirectory=!{path}

Id=superezio-model@plain.service
LoadState=loaded
User=
Environment="odd
WorkingDirectory=

Id=superezio-model@other.service
LoadState=not-found
END
"""


def test_the_unit_says_where_a_server_runs_and_as_whom(
    ctl: Ctl, shelf: Path, no_journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (no_journal / "systemctl").write_text(PLACES.format(path=shelf))
    (no_journal / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{no_journal}:/usr/bin:/bin")
    found = units.places(["llama", "plain", "other"])
    assert list(found) == ["llama", "plain"]
    assert (found["llama"].path, found["llama"].directory) == (f"/none:{shelf}", str(shelf))
    assert (found["plain"].path, found["plain"].directory) == (units.SERVICE_PATH, "/")
    assert [place.account and place.account.name for place in found.values()] == ["root", "root"]
    (shelf / "llama.toml").write_text(LEAST)
    assert ctl("model", "check", "--directory", str(shelf)) == 0, ctl.out
    (shelf / "llama.toml").write_text(LEAST.replace("server", "folder/../notes"))
    assert ctl("model", "check", "--directory", str(shelf)) == 1
    assert f"{shelf}/folder/../notes is not executable" in ctl.out


# --- readiness ------------------------------------------------------------------------------------


class Looking:
    """A server that somebody looks at until it is ready."""

    def __init__(self, server: subprocess.Popen[bytes], ready: Ready, manager: Manager) -> None:
        self.server = server
        self.said: list[str] = []
        self.was_ready = False
        self._work = Readiness(
            command=Process.open(server.pid),
            ready=ready,
            manager=ServiceManager(str(manager.path)),
            environment=os.environ,
            say=self.said.append,
            when_ready=self._be_ready,
        )

    def until_the_end(self) -> None:
        self._work()

    def _be_ready(self) -> None:
        self.was_ready = True


@pytest.fixture
def server() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_port_that_takes_a_connection_is_ready(
    server: subprocess.Popen[bytes], manager: Manager
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ready = Ready(tcp=f"127.0.0.1:{listening.getsockname()[1]}")
        looking = Looking(server, ready, manager)
        looking.until_the_end()
    assert looking.was_ready
    assert manager.told() == ["READY=1", "STATUS=ready"]
    assert server.poll() is None


def test_what_is_not_ready_in_time_is_ended(
    server: subprocess.Popen[bytes], manager: Manager
) -> None:
    looking = Looking(server, Ready(command=["false"], timeout_s=0.01), manager)
    looking.until_the_end()
    assert server.wait(10) == -signal.SIGTERM
    told = "not ready: waited 10ms for `false` to succeed"
    assert looking.said == [f"{told}; ending it"]
    assert manager.told() == [f"STATUS={told}"]
    assert not looking.was_ready


def test_a_server_that_ends_is_looked_at_no_longer(
    server: subprocess.Popen[bytes], manager: Manager
) -> None:
    server.kill()
    looking = Looking(server, Ready(command=["true"]), manager)
    looking.until_the_end()
    assert not looking.was_ready


def test_a_manager_may_listen_on_an_abstract_socket_or_not_at_all() -> None:
    name = f"superezio-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(10)
        ServiceManager(f"@{name}").tell("READY=1")
        assert listening.recv(100) == b"READY=1"
    ServiceManager(f"@{name}").tell("READY=1")
    ServiceManager(None).tell("READY=1")


# --- list and check -------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "good.toml").write_text(THERE)
    (tmp_path / "bad.toml").write_text("x = 1\n" + LEAST)
    return tmp_path


def test_check_tells_of_all_or_of_those_that_are_named(ctl: Ctl, models: Path) -> None:
    where = ("--directory", str(models))
    assert ctl("model", "check", *where) == 1
    assert ctl.out.startswith(f"{models}/bad.toml:1: x: no such key; there are command, vram")
    assert ctl("model", "check", *where, "good") == 0
    assert ctl.out == "good\n"
    assert ctl.json("model", "check", *where, "good") == {"good": True, "problems": []}
    assert ctl("--json", "model", "check", *where, "bad") == 1
    assert '"line":1,"key":"x"' in ctl.out.replace(" ", "")
    assert ctl("model", "check", "--directory", str(models / "none")) == 0
    assert ctl.out == f"no models in {models}/none\n"


SYSTEMCTL = """\
#!/bin/sh
cat <<END
Id=superezio-model@bad.service
ActiveState=failed
SubState=failed
UnitFileState=disabled
StatusText=ready
MainPID=0
Result=exit-code
ExecMainCode=1
ExecMainStatus=3
NRestarts=5

Id=superezio-model@good.service
ActiveState=active
SubState=running
UnitFileState=enabled
StatusText=ready
MainPID={pid}
END
"""


def test_list_has_unit_and_lease_of_each_model(
    ctl: Ctl, models: Path, daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = daemon.answers["lease.list"].leases[0]
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(SYSTEMCTL.format(pid=lease.holder[0].pid))
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    where = ("model", "list", "--directory", str(models))
    bad, good = ctl.json(*where)["models"]
    assert (bad["active_state"], bad["lease"], len(bad["problems"])) == ("failed", None, 1)
    assert (bad["status"], good["status"]) == ("", "ready"), "a server that is gone is not ready"
    assert (good["unit"], good["active_state"], good["enabled"], good["lease"]) == (
        *("superezio-model@good.service", "active", True, lease.id),
    )
    assert ctl(*where) == 0
    assert lease.id[:8] in ctl.out
    assert "bad.toml:1: x: no such key" in ctl.out


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ({"Result": "exit-code", "ExecMainCode": "1", "ExecMainStatus": "3"}, "exit code 3"),
        ({"Result": "signal", "ExecMainCode": "2", "ExecMainStatus": "9"}, "killed by a signal"),
        ({"Result": "protocol", "ExecMainCode": "1"}, "ended before it was ready"),
        ({"Result": "oom-kill", "ExecMainCode": "2"}, "killed for lack of memory"),
        ({"Result": "of-a-later-systemd"}, "result of-a-later-systemd"),
        (
            {"Result": "exit-code", "ExecMainCode": "1", "ExecMainStatus": "75"},
            "had to give its lease back, is started anew",
        ),
        (
            {
                "ActiveState": "failed",
                "Result": "start-limit-hit",
                "ExecMainCode": "1",
                "ExecMainStatus": "75",
            },
            "had to give its lease back",
        ),
        (
            {
                "Result": "exit-code",
                "ExecMainCode": "1",
                "ExecMainStatus": "125",
                "StatusText": "no lease: never fits",
            },
            "no lease: never fits",
        ),
        ({"Result": "success", "StatusText": "ready"}, ""),
        ({"Result": "exit-code", "MainPID": "1", "StatusText": "waiting"}, "waiting"),
    ],
)
def test_list_says_how_a_server_ended(
    ctl: Ctl,
    models: Path,
    daemon: FakeDaemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    state: dict[str, str],
    status: str,
) -> None:
    del daemon
    (models / "bad.toml").unlink()
    told = {"ActiveState": "activating", "SubState": "auto-restart", "MainPID": "0", **state}
    lines = "".join(f"{name}={value}\n" for name, value in told.items())
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\ncat <<END\nId=superezio-model@good.service\n{lines}END\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert ctl("model", "list", "--directory", str(models)) == 0
    header, row, *_ = ctl.out.splitlines()
    assert row[header.index("STATUS") :] == status


def test_list_says_what_to_do_about_a_server_that_is_given_up(
    ctl: Ctl, models: Path, daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del daemon
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(SYSTEMCTL.format(pid=1))
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    where = ("model", "list", "--directory", str(models))
    assert ctl(*where) == 0
    assert ctl.out.splitlines()[-1] == (
        "bad has failed (exit code 3, 5 restarts): `journalctl -u superezio-model@bad -n 50` has"
        " what it said. It is started no more before `systemctl reset-failed superezio-model@bad`"
        " and `systemctl start superezio-model@bad`"
    )
    bad, good = ctl.json(*where)["models"]
    assert (bad["result"], bad["exit_code"], bad["restarts"]) == ("exit-code", 3, 5)
    assert (good["result"], good["exit_code"], good["restarts"]) == ("success", None, 0)


@pytest.mark.parametrize(
    ("state", "go_on"),
    [
        (
            "Result=exit-code ExecMainStatus=78 NRestarts=0",
            "`), then {start} (after five starts in ten minutes: {reset} before it)",
        ),
        (
            "Result=start-limit-hit ExecMainStatus=78 NRestarts=0",
            "Mend the file (`superezioctl model check bad`), then {reset} and {start}",
        ),
        (
            "Result=exit-code ExecMainStatus=78 NRestarts=4",
            "Mend the file (`superezioctl model check bad`), then {reset} and {start}",
        ),
        (
            "Result=exit-code ExecMainStatus=3 NRestarts=4",
            "It is started no more before {reset} and {start}",
        ),
        ("Result=start-limit-hit ExecMainStatus=0", "no more before {reset} and {start}"),
        ("Result=timeout ExecMainStatus=0 NRestarts=0", "It is started no more before {start}"),
    ],
)
def test_a_server_that_is_given_up_needs_its_limit_reset_only_where_systemd_may_refuse_it(
    ctl: Ctl,
    models: Path,
    daemon: FakeDaemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    go_on: str,
) -> None:
    """A restart mends no file, so that one is not tried again, and has used up nothing."""
    del daemon
    (models / "good.toml").unlink()
    lines = ["Id=superezio-model@bad.service", "ActiveState=failed", "ExecMainCode=1"]
    shown = "\n".join([*lines, "MainPID=0", *state.split()])
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\ncat <<END\n{shown}\nEND\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert ctl("model", "list", "--directory", str(models)) == 0
    unit = "superezio-model@bad"
    told = go_on.format(start=f"`systemctl start {unit}`", reset=f"`systemctl reset-failed {unit}`")
    assert ctl.out.splitlines()[-1].endswith(told)


def test_list_needs_neither_systemd_nor_daemon_nor_models(
    ctl: Ctl, models: Path, no_journal: Path
) -> None:
    assert no_journal == models
    where = ("--socket", "/nonexistent/x.sock", "model", "list", "--directory")
    bad, _ = ctl.json(*where, str(models))["models"]
    assert (bad["active_state"], bad["lease"]) == (None, None)
    assert "leases are not known" in ctl.err
    assert "the superezio daemon is not running" in ctl.err
    assert ctl.json(*where, str(models / "none")) == {"models": []}
    assert ctl(*where, str(models / "none")) == 0
    assert "no models" in ctl.out
    assert units.states(["good"]) == {}


def test_a_shell_completes_the_models_that_have_a_file(
    ctl: Ctl, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "DIRECTORY", str(models))
    assert ctl("completion", "models") == 0
    assert ctl.out == ("bad\tsuperezio-model@bad.service\ngood\tsuperezio-model@good.service\n")
    monkeypatch.setattr(candidates, "DIRECTORY", str(models / "none"))
    assert ctl("completion", "models") == 0
    assert ctl.out == ""
    for shell in ("bash", "zsh", "fish"):
        assert ctl("completion", shell) == 0
        assert "models" in ctl.out
