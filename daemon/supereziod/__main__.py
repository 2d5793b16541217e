"""Arguments -> configuration -> daemon -> exit code.

Exit codes: 0 stopped as asked, 1 failed, 2 usage, 78 bad configuration (EX_CONFIG).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from superezio import __version__
from supereziod import hangups, standard_streams

EX_CONFIG: Final = 78
VARIABLE_PREFIX: Final = "SUPEREZIO_"
_LEVELS: Final = ("debug", "info", "warning", "error", "critical")


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run the daemon until it is told to stop. Return its exit code."""
    standard_streams.settle()
    given, by_variable = _parse(argv, environ)
    if given["overheat"]:
        from supereziod.overheat.service import run as respond  # noqa: PLC0415 - no daemon's part

        return respond(given, environ)
    # Nothing heavy before here: --help and a mistyped option answer at once.
    from supereziod.config import ConfigError  # noqa: PLC0415
    from supereziod.options import resolve  # noqa: PLC0415

    # From before the files are read: what changes in them by then, and is told, is not missed.
    hangups.hold()
    try:
        options = resolve(given, environ, by_variable=by_variable)
    except ConfigError as error:
        from supereziod.config import checking  # noqa: PLC0415 - a daemon that starts has no use

        if given["check"] and given["json"]:
            sys.stdout.write(checking.bad_document(error))
        else:
            sys.stderr.write(checking.refusal(error, environ))
        hangups.forget()
        return EX_CONFIG
    if given["check"]:
        from supereziod.config import checking  # noqa: PLC0415 - as above

        good = checking.tell(options.loaded, environ, as_json=given["json"] is not None)
        hangups.forget()
        return 0 if good else EX_CONFIG
    from supereziod.app import run  # noqa: PLC0415

    return run(options)


def _parse(
    argv: Sequence[str] | None, environ: Mapping[str, str]
) -> tuple[dict[str, str | None], dict[str, str]]:
    """Return every option by name: from the command line, else its variable, else None.

    And the variable of each that one set.
    """
    parser = command_line()
    given = vars(parser.parse_args(argv))
    by_variable = {}
    for action in parser._actions:  # noqa: SLF001 - the only list of them there is
        variable = VARIABLE_PREFIX + action.dest.upper()
        value = environ.get(variable)
        if action.dest not in given or given[action.dest] is not None or not value:
            continue
        if action.choices is not None and value not in action.choices:
            choices = ", ".join(action.choices)
            parser.error(f"{variable}: invalid choice: {value!r} (choose from {choices})")
        given[action.dest] = value
        by_variable[action.dest] = variable
    for flag in ("check", "json", "overheat"):
        if given[flag] in {"0", "no", "false"}:
            given[flag] = None
    return given, by_variable


def command_line() -> argparse.ArgumentParser:
    """Return what reads the command line, and knows its options."""
    parser = argparse.ArgumentParser(
        prog="supereziod",
        description="Watches this host's NVIDIA GPUs and leases their VRAM.",
        epilog="Each option is also a variable: --gpu-driver is SUPEREZIO_GPU_DRIVER. Any key of"
        " the configuration is one, too, with two underscores: SUPEREZIO__LEASES__GRACE=10s. The"
        " command line wins over the environment, and both win over the configuration.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--config",
        metavar="FILE",
        help="configuration, with conf.d/*.toml beside it (/etc/superezio/superezio.toml if there)",
    )
    add("--socket", metavar="PATH", help="where to listen, unless systemd hands a socket over")
    add("--runtime-dir", metavar="DIR", help="for leases, until the next boot (beside the socket)")
    add("--state-dir", metavar="DIR", help="for what outlives a boot")
    add("--gpu-driver", choices=("nvml", "simulated"), help="real GPUs or simulated ones")
    add("--scenario", metavar="FILE", help="what happens to the simulated GPUs")
    add("--log-format", choices=("auto", "journald", "json", "console"), help="form of the log")
    add("--log-level", choices=_LEVELS, help="log from this level on")
    add(
        "--check",
        action="store_const",
        const="1",
        help="validate the configuration and the scenario, start nothing; exit code 0 or 78",
    )
    add(
        "--json",
        action="store_const",
        const="1",
        help="with --check: print what was found as one JSON document",
    )
    add(
        "--overheat",
        action="store_const",
        const="1",
        help="what superezio-overheat.service runs: where the daemon failed because a GPU is too"
        " hot, stop the models, and start all again when it is cool",
    )
    add("--version", action="version", version=f"supereziod {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
