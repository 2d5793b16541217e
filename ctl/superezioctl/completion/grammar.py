"""The table of commands as completion needs it: which words may stand where.

A value is `=` and words where these are known beforehand, else the name of where candidates come
from: the daemon (`candidates.SOURCES`), or `files`, `pids`, `users`, `command` (a command line of
its own) and `none`, which a shell knows itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from superezioctl.arguments import COMMON, OneOf, Option, Positional
from superezioctl.catalogue import CATALOGUE, families
from superezioctl.command_line import load

#: By the metavar of an option or the name of a positional.
_SOURCES = {
    "GPU": "gpus",
    "LEASE": "leases",
    "METHOD": "methods",
    "BREAKER": "breakers",
    "NAMESPACE": "namespaces",
    "PATH": "files",
    "FILE": "files",
    "PID": "pids",
    "USER": "users",
    "COMMAND": "command",
}
#: By the command, and the option or positional of it, where a metavar does not tell.
_SOURCES_IN = {
    ("config show", "KEY"): "keys",
    ("guard", "NAME"): "breakers",
    ("guard", "--namespace"): "namespaces",
    ("model check", "NAME"): "models",
    ("model run", "NAME"): "models",
    ("limit show", "NAME"): "limits",
    ("limit reset", "NAME"): "limits",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Flag:
    """An option. `value` is None for one that takes none."""

    names: tuple[str, ...]
    summary: str
    value: str | None
    metavar: str
    repeat: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A word by its place; `rest` is for all that follow, too."""

    name: str
    summary: str
    value: str
    rest: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Syntax:
    """One command: its name, of one word or two, and what may follow."""

    name: str
    summary: str
    flags: tuple[Flag, ...]
    words: tuple[Word, ...]


def commands() -> list[Syntax]:
    """Return every command there is."""
    return [_syntax(name) for name in CATALOGUE]


def common() -> tuple[Flag, ...]:
    """Return the options of every command, before its name or after it."""
    return tuple(map(_flag, COMMON))


def first_words() -> dict[str, str]:
    """Return the words a command line may begin with, and what they do."""
    found: dict[str, str] = {}
    for name, (_, summary) in CATALOGUE.items():
        first, _, second = name.partition(" ")
        found[first] = summary if not second else f"{first} commands"
    return found


def second_words() -> dict[str, dict[str, str]]:
    """Return the words that may follow a first one which is no command by itself."""
    return {
        first: {name.partition(" ")[2]: CATALOGUE[name][1] for name in names}
        for first, names in families().items()
    }


def _syntax(name: str) -> Syntax:
    command = load(name)
    return Syntax(
        name=name,
        summary=CATALOGUE[name][1],
        flags=tuple(_flag(option, name) for option in command.options),
        words=tuple(_word(positional, name) for positional in command.positionals),
    )


def _flag(option: Option, command: str = "") -> Flag:
    return Flag(
        names=(option.name, option.short) if option.short else (option.name,),
        summary=option.summary,
        value=None if option.metavar is None else _value_of(option, option.metavar, command),
        metavar=option.metavar or "",
        repeat=option.repeat,
    )


def _word(positional: Positional, command: str) -> Word:
    return Word(
        name=positional.name,
        summary=positional.summary,
        value=_SOURCES_IN.get((command, positional.name))
        or _value(positional.name, positional.convert),
        rest=positional.rest,
    )


def _value_of(option: Option, metavar: str, command: str) -> str:
    if option.offers:
        return "=" + " ".join(option.offers)
    return _SOURCES_IN.get((command, option.name)) or _value(metavar, option.convert)


def _value(name: str, convert: object) -> str:
    if isinstance(convert, OneOf):
        return "=" + " ".join(convert.choices)
    return _SOURCES.get(name, "none")
