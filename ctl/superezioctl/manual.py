"""superezioctl(1), made from the catalogue of commands: `python -m superezioctl.manual`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from superezio.paths import SYSTEM_SOCKET
from superezio.roff import Page
from superezioctl import exit_codes, helptext
from superezioctl.arguments import COMMON, Option, Positional
from superezioctl.catalogue import CATALOGUE
from superezioctl.command_line import load

_DESCRIPTION: Final = """\
`superezioctl` asks supereziod(8), the daemon that knows what the NVIDIA GPUs of this host are
doing and who may use them. It shows GPUs, leases and the host's health, leases VRAM, and runs
commands on the GPU that they were given.

Anyone may look at GPUs, health and leases. Who leases has to be in the group `superezio`, who
administers in `superezio-admin` (or root); `superezioctl access` says what you may.

A SIZE is written as `8GiB`, `512MiB` or `10GB`, a DURATION as `250ms`, `30s` or `1m30s`. A GPU
goes by its index, its UUID or the beginning of that, a MIG instance by `0:1` or its UUID. Digits
alone are an index always; a beginning without `GPU-` or `MIG-` has at least 4 characters.
"""

#: What each exit code means.
EXIT_STATUS: Final = {
    exit_codes.DONE: "It is done.",
    exit_codes.FAILED: "It failed, and standard error says why.",
    exit_codes.USAGE: "The command line cannot be understood.",
    exit_codes.UNHEALTHY: "`health`: the host is not healthy.",
    exit_codes.REFUSED: "The daemon refused: no right to it, limited, or no capacity.",
    exit_codes.NO_DAEMON: "No daemon answers at the socket.",
    exit_codes.REFUSED_FOR_NOW: "`guard`: the call was not made, and may be later.",
    exit_codes.BAD_FILE: "`model run`: the model's file is wrong, which no restart mends.",
    exit_codes.TIMED_OUT: "There was no answer in time (--timeout).",
    exit_codes.RUN_FAILED: "`run` and `guard`: superezioctl itself failed.",
    exit_codes.NOT_EXECUTABLE: "`run` and `guard`: the command cannot be executed.",
    exit_codes.NOT_FOUND: "`run` and `guard`: there is no such command.",
    exit_codes.INTERRUPTED: "It was interrupted (Ctrl-C).",
    exit_codes.PIPE_CLOSED: "Whoever read its output has closed it.",
}
_ENVIRONMENT: Final = {
    "SUPEREZIO_SOCKET": "The daemon's socket, where --socket does not name it.",
    "XDG_RUNTIME_DIR": "Where a daemon that you have started yourself has its socket.",
    "NO_COLOR": "Set to anything: no colours. There are none where the output is no terminal.",
    "TERM": "What the terminal can draw.",
    "TRACEPARENT": "`guard`: the trace that the call belongs to, as W3C Trace Context has it.",
}
#: What `run` sets for its command.
_SET: Final = {
    "CUDA_VISIBLE_DEVICES": "The GPUs of the lease, by UUID; `CUDA_DEVICE_ORDER` is `PCI_BUS_ID`.",
    "NVIDIA_VISIBLE_DEVICES": "The same, for container engines.",
    "SUPEREZIO_CDI_DEVICES": "The same, as names of CDI devices.",
    "SUPEREZIO_LEASE": "The id of the lease.",
    "SUPEREZIO_TENSOR_SPLIT": "With --split: the proportions, for llama.cpp's --tensor-split.",
}
_FILES: Final = {
    SYSTEM_SOCKET: "The socket of the host's daemon.",
    "$XDG_RUNTIME_DIR/superezio/control.sock": "The socket of a daemon that you have started.",
    "/etc/superezio/models/NAME.toml": "What `superezio-model@NAME.service` runs.",
}
_EXAMPLES: Final = (
    ("What is there, and how is it?", ("superezioctl status", "superezioctl health")),
    (
        "Run a program on a GPU that has 8 GiB left, and wait for one up to a minute:",
        ("superezioctl run --vram 8GiB --wait 60s -- python train.py",),
    ),
    (
        "Which GPU would that be, and why not another?",
        ("superezioctl explain --vram 8GiB",),
    ),
    (
        "For a script:",
        ("superezioctl --json gpu list | jq '.gpus[].vram_leasable_bytes'",),
    ),
    ("Something does not work:", ("superezioctl doctor",)),
)


def render_manual() -> str:
    """Return the page."""
    page = Page("superezioctl", 1, "share the GPUs of this host")
    page.heading("SYNOPSIS")
    page.synopsis("`superezioctl` [*OPTIONS*] *COMMAND* ...")
    page.heading("DESCRIPTION")
    page.prose(_DESCRIPTION)
    page.heading("OPTIONS")
    page.paragraph("Of every command, before or after it:")
    _options(page, COMMON)
    page.heading("COMMANDS")
    for name in CATALOGUE:
        _command(page, name)
    _after_commands(page)
    page.see_also(("superezio", 7), ("supereziod", 8), ("superezio.toml", 5), ("superezio-rpc", 7))
    return page.text


def _after_commands(page: Page) -> None:
    page.heading("EXIT STATUS")
    page.meanings({str(code): text for code, text in EXIT_STATUS.items()})
    page.paragraph(
        "`run` and `guard` pass the exit code of their command through; of one that a signal killed"
        " it is 128 and the signal's number."
    )
    page.heading("ENVIRONMENT")
    page.meanings(_ENVIRONMENT)
    page.paragraph("`run` sets for its command, and `lease acquire --export` prints:")
    page.meanings(_SET)
    page.heading("FILES")
    page.meanings(_FILES)
    page.examples(_EXAMPLES)


def _command(page: Page, name: str) -> None:
    command = load(name)
    page.subheading(helptext.usage(name, command))
    page.paragraph(f"{CATALOGUE[name][1]}.")
    page.prose(command.description)
    for positional in command.positionals:
        page.tagged(*_positional(positional))
    _options(page, command.options)
    if command.examples:
        page.example(command.examples)


def _options(page: Page, options: Sequence[Option]) -> None:
    for option in options:
        page.tagged(_tag(option), _sentence(helptext.summary_of(option)))


def _tag(option: Option) -> str:
    names = ", ".join(f"`{each}`" for each in (option.short, option.name) if each)
    return f"{names} {helptext.value_of(option)}".rstrip()


def _positional(positional: Positional) -> tuple[str, str]:
    return positional.name, _sentence(positional.summary)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


if __name__ == "__main__":
    sys.stdout.write(render_manual())
