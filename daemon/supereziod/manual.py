"""supereziod(8), made from the options: `python -m supereziod.manual`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Final

from superezio.paths import SYSTEM_RUNTIME_DIR, SYSTEM_SOCKET
from superezio.roff import Page
from supereziod.__main__ import EX_CONFIG, VARIABLE_PREFIX, command_line

_DESCRIPTION: Final = """\
`supereziod` watches the NVIDIA GPUs of a host, leases their VRAM to programs, says whether the
host is healthy, and has local programs share circuit breakers, rate limits and a cache for the
services they call. superezio(7) says what these words mean.

systemd owns its life: `superezio.socket` holds the socket, so that clients wait during a
restart, and `superezio.service` starts the daemon, is told when it is ready, restarts it when
it fails, and aborts it when its watchdog pings stop. They stop on purpose where a GPU stays
CRITICAL for longer than `watchdog.grace`. Leases stand through all of it, until the next boot.

In a terminal it logs to the terminal, and listens where it is told to. Without an NVIDIA driver
it runs with no GPUs and says so; a driver that is loaded later is found.
"""
_FILES: Final = {
    "/etc/superezio/superezio.toml": "The configuration, superezio.toml(5). It need not be there.",
    "/etc/superezio/conf.d/*.toml": "What is read after it, in the order of the names.",
    SYSTEM_SOCKET: "The socket of the host's daemon; superezio-rpc(7) says what it speaks.",
    f"{SYSTEM_RUNTIME_DIR}/leases.db": "The leases, until the next boot.",
    "/var/lib/superezio": "What outlives a boot: cordons, quarantines, what was spent, breakers"
    " and limits, how the last run ended, and the flight recorder. For the daemon alone.",
    "/run/superezio-overheat": "What `superezio-overheat.service` has stopped in this boot.",
}
_VARIABLES: Final = {
    "SUPEREZIO__SECTION__KEY": "A key of the configuration, in capitals with two underscores"
    " between its parts: `SUPEREZIO__LEASES__GRACE=10s`.",
    "RUNTIME_DIRECTORY, STATE_DIRECTORY": "Set by systemd: where socket and leases, and what"
    " outlives a boot, go where no option says.",
    "XDG_RUNTIME_DIR, XDG_STATE_HOME": "The same, for a daemon that a user has started.",
    "LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES": "Set by systemd: the socket that it hands over.",
    "NOTIFY_SOCKET": "Set by systemd: where readiness, status and watchdog pings go.",
    "JOURNAL_STREAM": "Set by systemd: the log goes to the journal, with each fact as a field.",
    "NO_COLOR": "Set to anything: no colours in a terminal.",
}
_SIGNALS: Final = {
    "SIGTERM, SIGINT": "Let requests in flight end, and stop. Leases stand.",
    "SIGHUP": "Read the configuration again, as `superezioctl reload` does. A bad file leaves the"
    " old one in force.",
    "SIGABRT": "End at once, with the stacks of all threads in the log. The watchdog sends it.",
}
EXIT_STATUS: Final = {
    0: "It has stopped as it was told to; with --check: the configuration is good.",
    1: "It failed, and the log says why.",
    2: "The command line cannot be understood.",
    EX_CONFIG: "The configuration is wrong: each mistake is told with file, line and key. A restart"
    " does not mend it, and systemd tries none.",
}
_EXAMPLES: Final = (
    (
        "Start it now and at boot, and look at it:",
        (
            "systemctl enable --now superezio.socket superezio.service",
            "systemctl status superezio.service",
        ),
    ),
    (
        "What its log says of this start, with what each line means:",
        ("journalctl -u superezio -b -x",),
    ),
    (
        "Check the configuration before it is put in force:",
        ("supereziod --check", "systemctl reload superezio.service"),
    ),
    (
        "Another daemon, with simulated GPUs, in a terminal:",
        (
            "trial=$(mktemp -d)",
            'supereziod --gpu-driver simulated --socket "$trial/socket" --state-dir "$trial"',
        ),
    ),
)


def render_manual() -> str:
    """Return the page."""
    page = Page("supereziod", 8, "watch the GPUs of a host and lease their VRAM")
    parser = command_line()
    page.heading("SYNOPSIS")
    page.synopsis(f"`supereziod` {' '.join(f'[{_tag(each)}]' for each in _options(parser))}")
    page.heading("DESCRIPTION")
    page.prose(_DESCRIPTION)
    page.heading("OPTIONS")
    for option in _options(parser):
        page.tagged(_tag(option), _sentence(option.help or ""))
    page.heading("SIGNALS")
    page.meanings(_SIGNALS)
    page.heading("EXIT STATUS")
    page.meanings({str(code): text for code, text in EXIT_STATUS.items()})
    _environment(page, parser)
    page.heading("FILES")
    page.meanings(_FILES)
    page.examples(_EXAMPLES)
    page.see_also(
        ("superezio", 7),
        ("superezioctl", 1),
        ("superezio.toml", 5),
        ("superezio-rpc", 7),
        ("systemd.service", 5),
        ("journalctl", 1),
    )
    return page.text


def _environment(page: Page, parser: argparse.ArgumentParser) -> None:
    page.heading("ENVIRONMENT")
    page.paragraph(
        "Each option may be a variable instead; the command line wins over the environment, and"
        " both win over the configuration. For the service set them with"
        " `systemctl edit superezio`, and those of the GPU driver for `superezio-overheat.service`,"
        " too."
    )
    for option in _options(parser):
        if option.dest not in {"help", "version"}:
            name = f"{VARIABLE_PREFIX}{option.dest.upper()}"
            page.tagged(f"`{name}`", f"As `{option.option_strings[-1]}`{_as_flag(option)}.")
    page.meanings(_VARIABLES)


def _options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    yield from parser._actions  # noqa: SLF001 - the only list of them there is


def _tag(option: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in option.option_strings)
    if option.choices is not None:
        return f"{names} {'|'.join(option.choices)}"
    return names if option.metavar is None else f"{names} *{option.metavar}*"


def _as_flag(option: argparse.Action) -> str:
    return " where it is 1" if option.nargs == 0 else ""


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


if __name__ == "__main__":
    sys.stdout.write(render_manual())
