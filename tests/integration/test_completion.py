"""The completion scripts in the shells they are for, against the real daemon."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_daemon import FakeDaemon, Silence
from live_daemon import LiveDaemon
from superezio import wire
from superezioctl.catalogue import CATALOGUE, families
from superezioctl.command_line import load
from superezioctl.commands.completion import SHELLS
from terminal import Terminal

pytestmark = pytest.mark.installed

BIN = str(Path(sys.executable).parent)


@pytest.fixture(scope="module")
def daemon() -> Iterator[LiveDaemon]:
    with tempfile.TemporaryDirectory() as directory:
        live = LiveDaemon(Path(directory))
        try:
            yield live.start()
        finally:
            live.close()


@pytest.fixture(scope="module")
def mig() -> Iterator[LiveDaemon]:
    """A daemon with one card that MIG cuts in two."""
    card = '[[gpu]]\nprofile = "A100 80GB"\ninstances = ["3g.40gb", "1g.10gb"]\n'
    with tempfile.TemporaryDirectory() as directory:
        live = LiveDaemon(Path(directory), scenario=card)
        try:
            yield live.start()
        finally:
            live.close()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with tempfile.TemporaryDirectory() as directory:
        window = Terminal(Path(directory), columns=120, rows=50)
        try:
            yield window
        finally:
            window.close()


@pytest.fixture
def lease(daemon: LiveDaemon) -> Iterator[str]:
    with daemon.client() as client:
        held = client.lease_acquire(1 << 30, holder_pid=os.getpid(), name="held: by a test")
        yield held.id
        client.lease_release(held.id)


def need(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not there: apt-get install {shell}")


def environment(socket_path: Path | str) -> dict[str, str]:
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "SUPEREZIO_SOCKET": str(socket_path),
        "HOME": tempfile.gettempdir(),
        "LC_ALL": "C.UTF-8",
    }


def in_shell(shell: str, program: str, socket_path: Path | str) -> list[str]:
    need(shell)
    words = {"bash": ["bash", "--norc", "-c"], "fish": ["fish", "--no-config", "-c"]}[shell]
    done = subprocess.run(
        [*words, program],
        env=environment(socket_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def bash_program(line: str) -> str:
    """Call what bash would call: `complete -p` says that it would."""
    words = line.split(" ")
    breaks = [word.replace("=", " = ").replace(":", " : ") for word in words]
    split = [part for word in breaks for part in word.split() or [""]]
    array = " ".join(shlex.quote(part) for part in split)
    return (
        f"COMP_WORDS=({array}); COMP_CWORD={len(split) - 1}; COMPREPLY=(); "
        f"_superezioctl superezioctl; printf '%s\\n' \"${{COMPREPLY[@]}}\"; "
    )


LOAD_BASH = (
    "source <(superezioctl completion bash); "
    '[[ $(complete -p superezioctl) == *"-F _superezioctl"* ]] || exit 9; '
)


def candidates(shell: str, line: str, socket_path: Path | str) -> set[str]:
    """Return what the shell offers for the last word of a line."""
    if shell == "bash":
        found = in_shell("bash", LOAD_BASH + bash_program(line), socket_path)
    else:
        load_fish = "superezioctl completion fish | source; "
        found = in_shell("fish", f"{load_fish}complete -C {shlex.quote(line)}", socket_path)
    # fish offers whole words, bash the part after the `=`, which is a word break.
    return {each.partition("\t")[0].rpartition("=")[2].strip() for each in found} - {""}


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_commands_options_and_their_words_are_offered(shell: str, daemon: LiveDaemon) -> None:
    def offered(line: str) -> set[str]:
        return candidates(shell, line, daemon.socket_path)

    firsts = {name.partition(" ")[0] for name in CATALOGUE}
    assert offered("superezioctl ") == firsts
    assert offered("superezioctl le") == {"lease"}
    assert offered("superezioctl --json --timeout 5s le") == {"lease"}
    seconds = {name.partition(" ")[2] for name in families()["gpu"]}
    assert offered("superezioctl gpu ") == seconds
    assert offered("superezioctl gpu hi") == {"history"}
    assert offered("superezioctl run --pol") == {"--policy"}
    assert {"best_fit", "spread", "exclusive"} <= offered("superezioctl run --policy ")
    assert offered("superezioctl run --policy=sp") == {"spread"}
    assert offered("superezioctl log-level de") == {"debug"}
    assert offered("superezioctl --socket /tmp/x run --policy sp") == {"spread"}
    assert not offered("superezioctl run --vram ")


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_gpus_leases_and_methods_are_asked_of_the_daemon(
    shell: str, daemon: LiveDaemon, lease: str, tmp_path: Path
) -> None:
    with daemon.client() as client:
        uuids = {gpu.uuid for gpu in client.gpu_list().gpus}

    def offered(line: str, path: Path | str = daemon.socket_path) -> set[str]:
        return candidates(shell, line, path)

    assert offered("superezioctl gpu show ") == {"0", "1", *uuids}
    assert offered("superezioctl run --prefer GPU-") == uuids
    assert not offered("superezioctl gpu show 0 "), "one is all it takes"
    assert offered("superezioctl lease show ") == {lease}
    assert offered(f"superezioctl lease release {lease} {lease[:3]}") == {lease}
    assert offered("superezioctl rpc gpu.g") == {"gpu.get"}
    none = tmp_path / "none.sock"
    assert not offered("superezioctl gpu show ", none)
    assert offered(f"superezioctl --socket {daemon.socket_path} lease show ", none) == {lease}


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_breakers_limits_namespaces_and_users_are_offered(shell: str, daemon: LiveDaemon) -> None:
    with daemon.client() as client:
        client.breaker_acquire("flaky")
        client.limit_acquire("paid", rates=wire.LimitRates(concurrency=1))
        client.cache_set("prices", "today", "17.20")

    def offered(line: str) -> set[str]:
        return candidates(shell, f"superezioctl {line}", daemon.socket_path)

    assert offered("breaker show fl") == offered("guard fl") == {"flaky"}
    assert offered("limit show pa") == offered("limit reset pa") == {"paid"}
    assert offered("cache get pr") == offered("guard flaky --namespace pr") == {"prices"}
    assert offered("breaker show flaky --uid roo") == {"root"}
    assert offered("config show leases.gra") == {"leases.grace"}
    assert not offered("limit show x")


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_the_command_that_is_run_is_completed_as_one(shell: str, daemon: LiveDaemon) -> None:
    def offered(line: str) -> set[str]:
        return candidates(shell, line, daemon.socket_path)

    assert "sleep" in offered("superezioctl run --vram 1GiB -- slee")
    assert "sleep" in offered("superezioctl run --vram 1GiB slee")
    assert "/etc/passwd" in offered("superezioctl run --vram 1GiB -- cat /etc/passw")
    assert not {"--policy"} & offered("superezioctl run --vram 1GiB -- cat --pol")


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_what_a_revoked_lease_does_and_types_of_events_are_offered(
    shell: str, daemon: LiveDaemon
) -> None:
    def offered(line: str) -> set[str]:
        return candidates(shell, line, daemon.socket_path)

    assert {"term", "ignore"} <= offered("superezioctl run --on-revoke ")
    assert offered("superezioctl run --on-revoke=te") == {"term"}
    assert {"lease.", "lease.granted", "gpu.level"} <= offered("superezioctl events --type ")
    assert offered("superezioctl events --type lease.gra") == {"lease.granted"}


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_instances_of_mig_are_offered_by_their_place(shell: str, mig: LiveDaemon) -> None:
    def offered(line: str) -> set[str]:
        found = candidates(shell, line, mig.socket_path)
        return {each for each in found if not each.startswith(("GPU-", "MIG-"))}

    for line in ("gpu show ", "run --prefer ", "explain --vram 1GiB --avoid ", "run --prefer="):
        assert offered(f"superezioctl {line}") == {"0", "0:0", "0:1"}
    # bash has a word break behind the colon, and is offered the rest.
    rest = {"0", "1"} if shell == "bash" else {"0:0", "0:1"}
    assert offered("superezioctl gpu show 0:") == rest
    assert len(offered("superezioctl run --prefer 0:1")) == 1


def test_bash_knows_every_option_of_every_command(daemon: LiveDaemon) -> None:
    program = LOAD_BASH
    for name in CATALOGUE:
        program += f"echo '# {name}'; {bash_program(f'superezioctl {name} --')}"
    lines = in_shell("bash", program, daemon.socket_path)
    by_command = {
        block.splitlines()[0]: set(block.splitlines()[1:])
        for block in "\n".join(lines).removeprefix("# ").split("\n# ")
    }
    for name in CATALOGUE:
        wanted = {option.name for option in load(name).options} | {"--json", "--socket", "--help"}
        assert wanted <= by_command[name]


def test_fish_knows_every_option_of_every_command(daemon: LiveDaemon) -> None:
    program = "superezioctl completion fish | source; "
    for name in CATALOGUE:
        program += f"echo '# {name}'; complete -C 'superezioctl {name} --'; "
    lines = in_shell("fish", program, daemon.socket_path)
    shown = "\n".join(line.partition("\t")[0] for line in lines)
    by_command = {
        block.splitlines()[0]: {line.strip("=") for line in block.splitlines()[1:]}
        for block in shown.removeprefix("# ").split("\n# ")
    }
    for name in CATALOGUE:
        wanted = {option.name for option in load(name).options} | {"--json", "--socket", "--help"}
        assert wanted <= by_command[name], name


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_daemon_that_hangs_holds_nobody_up(shell: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        fake = FakeDaemon(Path(directory) / "control.sock")
        fake.answers["gpu.list"] = Silence
        fake.start()
        try:
            started_s = time.monotonic()
            assert not candidates(shell, "superezioctl gpu show ", fake.path)
            assert time.monotonic() - started_s < 10
            assert fake.asked("gpu.list")
        finally:
            fake.close()


def test_bash_completes_at_a_prompt(daemon: LiveDaemon, terminal: Terminal, lease: str) -> None:
    need("bash")
    shell = ["bash", "--norc", "-i"]
    terminal.start(["env", "PS1=ready> ", *shell], environment(daemon.socket_path))
    terminal.shows("ready>")
    terminal.type("source <(superezioctl completion bash); echo loa''ded")
    terminal.press("Enter")
    terminal.shows("\nloaded")
    terminal.type("superezioctl lea")
    terminal.press("Tab")
    terminal.shows("superezioctl lease")
    terminal.type("sh")
    terminal.press("Tab", "Tab")
    terminal.shows(f"superezioctl lease show {lease}")


ZSH_START = "autoload -Uz compinit; compinit -u -D; source <(superezioctl completion zsh)"


@pytest.fixture
def zsh(daemon: LiveDaemon, terminal: Terminal) -> Terminal:
    """A zsh at its prompt, with the script."""
    need("zsh")
    given = {**environment(daemon.socket_path), "PS1": "ready> "}
    terminal.start(["zsh", "-f", "-i"], given)
    terminal.shows("ready>")
    terminal.type(f"PS1='ready> '; {ZSH_START}; echo loa''ded")
    terminal.press("Enter")
    terminal.shows("\nloaded")
    return terminal


def offered_by_zsh(terminal: Terminal, line: str, *texts: str) -> None:
    """Type a line, press Tab, and wait for what is offered; then clear it all away."""
    terminal.type(line)
    terminal.press("Tab")
    terminal.shows(*texts)
    terminal.press("C-u", "C-l")
    terminal.shows("ready>", without=[line])


def test_zsh_completes_at_a_prompt(zsh: Terminal, daemon: LiveDaemon, lease: str) -> None:
    with daemon.client() as client:
        first, second = client.gpu_list().gpus
    offered_by_zsh(
        zsh, "superezioctl ", "Watch GPUs, leases, processes", "lease commands", "doctor"
    )
    offered_by_zsh(zsh, "superezioctl lea", "superezioctl lease")
    offered_by_zsh(zsh, "superezioctl gpu ", "cordon", "Let no new lease onto a GPU", "history")
    offered_by_zsh(zsh, "superezioctl gpu show ", first.uuid, second.uuid, second.name)
    offered_by_zsh(zsh, "superezioctl lease show ", lease)
    offered_by_zsh(zsh, "superezioctl lease release ", lease)
    offered_by_zsh(zsh, "superezioctl run --pol", "superezioctl run --policy")
    offered_by_zsh(zsh, "superezioctl run --policy=", "best_fit", "spread", "exclusive")
    offered_by_zsh(zsh, "superezioctl run --policy sp", "superezioctl run --policy spread")
    offered_by_zsh(zsh, "superezioctl run --on-revoke=", "exec=", "ignore", "term")
    offered_by_zsh(zsh, "superezioctl events --type lease.gra", "--type lease.granted")
    offered_by_zsh(zsh, "superezioctl log-level de", "superezioctl log-level debug")
    offered_by_zsh(zsh, "superezioctl rpc gpu.g", "superezioctl rpc gpu.get")
    offered_by_zsh(zsh, "superezioctl run --vram 1GiB -- slee", "-- sleep")


def test_zsh_completes_limits_namespaces_and_users(zsh: Terminal, daemon: LiveDaemon) -> None:
    with daemon.client() as client:
        client.limit_acquire("capped", rates=wire.LimitRates(concurrency=1))
        client.cache_set("weather", "today", "mild")
    offered_by_zsh(zsh, "superezioctl limit show cap", "limit show capped")
    offered_by_zsh(zsh, "superezioctl cache get wea", "cache get weather")
    offered_by_zsh(zsh, "superezioctl guard x --namespace wea", "--namespace weather")
    offered_by_zsh(zsh, "superezioctl breaker show x --uid roo", "--uid root")


def test_zsh_knows_every_option_of_every_command(zsh: Terminal) -> None:
    for name in CATALOGUE:
        wanted = [option.name for option in load(name).options]
        offered_by_zsh(zsh, f"superezioctl {name} --", *wanted, "--json", "--socket", "--help")


def test_fish_completes_at_a_prompt(daemon: LiveDaemon, lease: str) -> None:
    line = f"superezioctl lease show {lease[:4]}"
    program = f"superezioctl completion fish | source; complete -C {shlex.quote(line)}"
    (offer,) = in_shell("fish", program, daemon.socket_path)
    assert offer.split("\t") == [lease, f"held: by a test: 1.0 GiB on gpu {1}"]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_scripts_are_understood_without_a_complaint(shell: str, tmp_path: Path) -> None:
    need(shell)
    script = tmp_path / "script"
    words = [sys.executable, "-m", "superezioctl", "completion", shell]
    script.write_bytes(subprocess.run(words, capture_output=True, check=True).stdout)
    done = subprocess.run([shell, "-n", script], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
