"""Help, written from what the commands declare."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import TYPE_CHECKING

from superezio.quantities import format_duration
from superezioctl.arguments import COMMON, Command, Option, Positional, did_you_mean
from superezioctl.catalogue import CATALOGUE, families

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH = 80
#: Where names would take more of a line than this, what they are stands below them.
_MOST_OF_NAMES = 0.6


def of_everything() -> str:
    """Return the help of superezioctl itself."""
    rows = [(name, summary) for name, (_, summary) in CATALOGUE.items()]
    return "\n".join(
        [
            "usage: superezioctl [OPTIONS] COMMAND ...",
            "",
            *_wrapped(
                "Share the GPUs of this host: see them, lease their VRAM, run commands on them."
            ),
            "",
            "commands:",
            *_columns(rows),
            "",
            "options, before or after the command:",
            *_options(COMMON),
            "",
            "exit codes:",
            *_wrapped(
                "0 done, 1 failed, 2 usage, 3 unhealthy, 4 refused (denied, limited, no capacity), "
                "5 no daemon, 124 timed out; `run` passes its command's code through and has 125 "
                "for its own failures, 126 and 127 for a command that cannot be executed or found.",
                indent=2,
            ),
            "",
            "examples:",
            "  superezioctl status",
            "  superezioctl run --vram 8GiB --wait 60s -- python train.py",
            "  superezioctl --json gpu list | jq '.gpus[].vram_leasable_bytes'",
            "",
            "`superezioctl COMMAND --help` says more.",
            "",
        ]
    )


def of_family(family: str, names: Sequence[str]) -> str:
    """Return the help of commands that share their first word."""
    rows = [(name, CATALOGUE[name][1]) for name in names]
    return "\n".join(
        [
            f"usage: superezioctl {family} COMMAND ...",
            "",
            "commands:",
            *_columns(rows),
            "",
            f"`superezioctl {family} COMMAND --help` says more.",
            "",
        ]
    )


def of_command(name: str, command: Command) -> str:
    """Return the help of one command."""
    used = _wrapped(f"usage: {usage(name, command)}", hanging=4)
    lines = [*used, "", *_wrapped(f"{CATALOGUE[name][1]}.")]
    for paragraph in filter(None, command.description.split("\n\n")):
        lines += ["", *_wrapped(" ".join(paragraph.split()))]
    if command.positionals:
        rows = [(positional.name, positional.summary) for positional in command.positionals]
        lines += ["", "arguments:", *_columns(rows)]
    if command.options:
        lines += ["", "options:", *_options(command.options)]
    lines += ["", "options of every command:", *_options(COMMON[:4])]
    lines += ["", "examples:", *(f"  {example}" for example in command.examples)]
    return "\n".join([*lines, ""])


def unknown(words: Sequence[str]) -> str:
    """Return what to say of words that are no command."""
    family = families().get(words[0])
    if family is not None:
        given = " ".join(words[:2])
        return f"there is no command {given!r}{did_you_mean(given, family)}"
    known = [*CATALOGUE, *families()]
    return f"there is no command {words[0]!r}{did_you_mean(words[0], known)}"


def usage(name: str, command: Command) -> str:
    """Return how a command is called."""
    required = [f"{o.name} {o.metavar}" for o in command.options if o.required]
    optional = ["[OPTIONS]"]
    words = [_placeholder(positional) for positional in command.positionals]
    return " ".join(["superezioctl", name, *required, *optional, *words])


def _placeholder(positional: Positional) -> str:
    text = f"{positional.name} ..." if positional.rest else positional.name
    return f"[{text}]" if positional.optional else text


def _options(options: Sequence[Option]) -> list[str]:
    return _columns([(words_of(option), summary_of(option)) for option in options])


def words_of(option: Option) -> str:
    """Return how an option is written."""
    name = f"{option.name} {value_of(option)}".rstrip()
    return f"{option.short}, {name}" if option.short else name


def value_of(option: Option) -> str:
    """Return how the value of an option is written: in brackets where it may be left out."""
    metavar = option.metavar or ""
    return metavar if option.implied is None else f"[{metavar}]"


def summary_of(option: Option) -> str:
    """Return what an option does, with its default."""
    if option.repeat:
        return f"{option.summary} (may be repeated)"
    if option.metavar is None or option.default in {None, ""}:
        return option.summary
    shown = option.default
    if isinstance(shown, float):
        # As it may be typed.
        shown = format_duration(shown).replace(" ", "")
    return f"{option.summary} (default: {shown})"


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    left = max(len(name) for name, _ in rows) + 4
    lines: list[str] = []
    if left > _MOST_OF_NAMES * _width():
        for name, summary in rows:
            lines += [f"  {name}", *_wrapped(summary, indent=6)]
        return lines
    for name, summary in rows:
        wrapped = textwrap.wrap(summary, _width() - left) or [""]
        lines.append(f"  {name:<{left - 2}}{wrapped[0]}")
        lines += [" " * left + part for part in wrapped[1:]]
    return lines


def _wrapped(text: str, *, indent: int = 0, hanging: int = 0) -> list[str]:
    """Return a paragraph in lines that begin with `indent` blanks, and `hanging` more later."""
    first = " " * indent
    return textwrap.wrap(
        text,
        _width(),
        initial_indent=first,
        subsequent_indent=first + " " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _width() -> int:
    """Return the width to write for: that of a terminal that is narrower than most."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return _WIDTH
    return min(columns, _WIDTH) or _WIDTH
