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

EX_CONFIG: Final = 78
_PREFIX: Final = "SUPEREZIO_"
_LEVELS: Final = ("debug", "info", "warning", "error", "critical")


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run the daemon until it is told to stop. Return its exit code."""
    given = _parse(argv, environ)
    # Nothing heavy before here: --help and a mistyped option answer at once.
    from supereziod.config import ConfigError, doubts  # noqa: PLC0415
    from supereziod.options import resolve  # noqa: PLC0415

    try:
        options = resolve(given, environ)
    except ConfigError as error:
        sys.stderr.write(f"supereziod: cannot use the configuration:\n{error}\n")
        return EX_CONFIG
    if given["check"]:
        for problem in doubts(options.loaded):
            # No error: a name may come later, and a daemon that runs goes on without.
            sys.stderr.write(f"supereziod: warning: {problem}\n")
        files = ", ".join(str(file) for file in options.loaded.files) or "no files, all defaults"
        sys.stdout.write(f"supereziod: the configuration is good ({files})\n")
        return 0
    from supereziod.app import run  # noqa: PLC0415

    return run(options)


def _parse(argv: Sequence[str] | None, environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return every option by name: from the command line, else its variable, else None."""
    parser = _parser()
    given = vars(parser.parse_args(argv))
    for action in parser._actions:  # noqa: SLF001 - the only list of them there is
        variable = _PREFIX + action.dest.upper()
        value = environ.get(variable)
        if action.dest not in given or given[action.dest] is not None or not value:
            continue
        if action.choices is not None and value not in action.choices:
            choices = ", ".join(action.choices)
            parser.error(f"{variable}: invalid choice: {value!r} (choose from {choices})")
        given[action.dest] = value
    if given["check"] in {"0", "no", "false"}:
        given["check"] = None
    return given


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="supereziod",
        description="Watches this host's NVIDIA GPUs and leases their VRAM.",
        epilog="Each option is also a variable: --gpu-driver is SUPEREZIO_GPU_DRIVER. The command"
        " line wins over the environment, and both win over the configuration.",
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
    add("--version", action="version", version=f"supereziod {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
