"""A stand-in for podman and docker: a container is a real process whose parent is not the command.

As with the real ones, `run` starts a monitor that is given to process 1, and the monitor starts the
container's first process. `ENGINE_STANDIN_DIR` is where it keeps its containers. The image `never`
cannot be pulled, `broken` has a program that cannot be started, and `slow` waits before the start
until the file `go` is there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve()


def install(directory: Path, *names: str) -> None:
    """Put executables of these names into a directory."""
    directory.mkdir(exist_ok=True)
    for name in names:
        path = directory / name
        path.write_text(
            f"#!{sys.executable}\nimport runpy\n"
            f"runpy.run_path({str(_HERE)!r}, run_name='__main__')\n"
        )
        path.chmod(0o755)


class Containers:
    """Those that were made, as files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, id_: str, **state: Any) -> None:
        path = self._directory / f"{id_}.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(state))
        fresh.rename(path)

    def may_go(self) -> bool:
        return (self._directory / "go").exists()

    def read(self, name: str) -> dict[str, Any]:
        for path in self._directory.glob("*.json"):
            state: dict[str, Any] = json.loads(path.read_text())
            if path.stem.startswith(name) or state["name"] == name:
                return state
        sys.exit(f"Error: no such container {name}")


def run(containers: Containers, options: argparse.Namespace) -> int:
    if options.image == "never":
        print("Error: cannot pull never", file=sys.stderr)
        return 125
    id_ = secrets.token_hex(32)
    if options.cidfile is not None:
        with options.cidfile.open("x") as file:
            file.write(id_)
    state = {"name": options.name, "devices": options.device, "gpus": options.gpus, "pid": 0}
    containers.write(id_, **state)
    if options.image == "broken":
        print("Error: cannot start the container", file=sys.stderr)
        return 127
    while options.image == "slow" and not containers.may_go():
        time.sleep(0.01)
    environment = os.environ | dict(each.split("=", 1) for each in options.env)
    told, telling = os.pipe()
    between = os.fork()
    if between == 0:
        os.setsid()
        if os.fork() == 0:
            os.close(told)
            if options.detach:
                let_go_of_streams()
            monitor(containers, id_, state, options.words, environment, telling)
        os._exit(0)
    os.waitpid(between, 0)
    os.close(telling)
    with os.fdopen(told) as lines:
        pid = int(lines.readline())
        if options.detach:
            print(id_)
            return 0
        signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
        return int(lines.readline())


def monitor(
    containers: Containers,
    id_: str,
    state: dict[str, Any],
    words: list[str],
    environment: dict[str, str],
    telling: int,
) -> None:
    words = words or ["sleep", "600"]  # what the image has
    pid = os.posix_spawnp(words[0], words, environment)
    containers.write(id_, **(state | {"pid": pid}))
    os.write(telling, b"%d\n" % pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    containers.write(id_, **state)
    with contextlib.suppress(BrokenPipeError):
        os.write(telling, b"%d\n" % (code if code >= 0 else 128 - code))
    os._exit(0)


def let_go_of_streams() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)


def stop(containers: Containers, options: argparse.Namespace) -> int:
    pid = containers.read(options.container)["pid"]
    deadline = time.monotonic() + options.time
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="do", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("--cidfile", type=Path)
    runs.add_argument("--device", action="append", default=[])
    runs.add_argument("--gpus")
    runs.add_argument("--env", action="append", default=[])
    runs.add_argument("--name")
    runs.add_argument("-d", "--detach", action="store_true")
    runs.add_argument("--rm", action="store_true")
    runs.add_argument("image")
    runs.add_argument("words", nargs=argparse.REMAINDER)
    shows = commands.add_parser("inspect")
    shows.add_argument("--format")
    shows.add_argument("--type")
    stops = commands.add_parser("stop")
    stops.add_argument("-t", "--time", type=int, default=10)
    kills = commands.add_parser("kill")
    kills.add_argument("--signal")
    for each in (shows, stops, kills):
        each.add_argument("container")
    options = parser.parse_args()
    containers = Containers(Path(os.environ["ENGINE_STANDIN_DIR"]))
    if options.do == "run":
        return run(containers, options)
    if options.do == "stop":
        return stop(containers, options)
    state = containers.read(options.container)
    if options.do == "kill":
        os.kill(state["pid"], signal.Signals[f"SIG{options.signal}"])
        return 0
    text = options.format.replace("{{.State.Pid}}", str(state["pid"]))
    print(text.replace("{{.State.Status}}", "running" if state["pid"] else "exited"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
