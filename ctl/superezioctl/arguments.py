"""Command lines, read by what each command declares.

Why not argparse: importing it and building one parser takes 18 ms, more than Python itself takes
to start, and a script that asks for the GPUs each second pays that each time.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Any

    from superezioctl.context import Context


class UsageError(Exception):
    """The command line cannot be understood; the message says where, and what would be."""


class Option:
    """`--name VALUE`, or without a metavar a flag.

    It has one value, unless it may `repeat`: a second one is a mistake, and `more` says how to have
    several. Of one that is `overridable`, as by somebody behind an alias, the last counts. A shell
    completes `offers`, which need not be all that may be given. What it was called `formerly` is
    still read, and told nowhere. Without a value, last or before another option, it has what is
    `implied`, if anything is.
    """

    def __init__(
        self,
        name: str,
        summary: str,
        *,
        metavar: str | None = None,
        short: str | None = None,
        convert: Callable[[str], object] = str,
        default: object = None,
        repeat: bool = False,
        required: bool = False,
        overridable: bool = False,
        more: str = "",
        offers: Sequence[str] = (),
        formerly: str | None = None,
        implied: str | None = None,
    ) -> None:
        self.name = name
        self.summary = summary
        self.metavar = metavar
        self.short = short
        self.convert = convert
        self.default = [] if repeat else (default if metavar is not None else False)
        self.repeat = repeat
        self.required = required
        self.overridable = overridable
        self.more = more
        self.offers = offers
        self.formerly = formerly
        self.implied = implied

    @property
    def key(self) -> str:
        """The name in `Arguments`: `--max-age` is `max_age`."""
        return self.name.removeprefix("--").replace("-", "_")


class Positional:
    """A word by its place. `rest` takes all that follows, whatever it looks like."""

    def __init__(
        self,
        name: str,
        summary: str,
        *,
        convert: Callable[[str], object] = str,
        optional: bool = False,
        rest: bool = False,
    ) -> None:
        self.name = name
        self.summary = summary
        self.convert = convert
        self.optional = optional
        self.rest = rest

    @property
    def key(self) -> str:
        """The name in `Arguments`."""
        return self.name.lower().replace("-", "_")


class Command:
    """One command: what it takes, and the function that does it and returns the exit code.

    `failure_code` stands for every failure of superezioctl itself where other codes belong to
    somebody else.
    """

    def __init__(
        self,
        run: Callable[[Context], int],
        *,
        options: Sequence[Option] = (),
        positionals: Sequence[Positional] = (),
        description: str = "",
        examples: Sequence[str] = (),
        failure_code: int | None = None,
    ) -> None:
        self.run = run
        self.options = options
        self.positionals = positionals
        self.description = description
        self.examples = examples
        self.failure_code = failure_code


class Arguments:
    """The values of a command line by key, after conversion.

    `positionals`: the names of those that are given by their place, as help has them.
    """

    def __init__(self, values: dict[str, Any], *, positionals: Collection[str] = ()) -> None:
        self._values = values
        self.positionals = positionals

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401 - as the option's `convert` made it
        return self._values[key]


def seconds(text: str) -> float:
    """Read a duration, or raise ValueError with an example."""
    from superezio.quantities import parse_duration  # noqa: PLC0415 - few commands need it

    return parse_duration(text)


def size(text: str) -> int:
    """Read a size, or raise ValueError with an example."""
    from superezio.quantities import parse_size  # noqa: PLC0415 - few commands need it

    return parse_size(text)


def positive(text: str) -> int:
    """Read a whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"cannot use {text!r}: it has to be a whole number from 1 up")
    return int(text)


def whole(text: str) -> int:
    """Read a whole number, below zero too."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"cannot use {text!r}: it has to be a whole number") from None


class OneOf:
    """A reader of one of some words."""

    def __init__(self, choices: tuple[str, ...]) -> None:
        self.choices = choices

    def __call__(self, text: str) -> str:
        """Return the word, or raise ValueError that names those there are."""
        if text not in self.choices:
            known = ", ".join(self.choices)
            raise ValueError(f"cannot use {text!r}: it has to be one of {known}")
        return text


def one_of(*choices: str) -> OneOf:
    """Return a reader of one of these words."""
    return OneOf(choices)


class Reader:
    """Reads words against declarations, collecting values."""

    def __init__(self, options: Sequence[Option]) -> None:
        self._options = {option.name: option for option in options}
        self._options |= {option.short: option for option in options if option.short}
        self._former = {option.formerly: option for option in options if option.formerly}
        self.values: dict[str, Any] = {
            option.key: list(option.default) if isinstance(option.default, list) else option.default
            for option in options
        }
        self._given: set[str] = set()

    def read_leading(self, words: Sequence[str]) -> list[str]:
        """Read the options before the first word that is none; return the words from there on."""
        left = list(words)
        while left and left[0].startswith("-") and left[0] not in {"-", "--"}:
            self._read_option(left)
        return left

    def read_all(self, words: Sequence[str], positionals: Sequence[Positional]) -> None:
        """Read options and positionals in any order; `--` ends the options."""
        left = list(words)
        expected = list(positionals)
        only_words = False
        while left:
            if not only_words:
                left = self.read_leading(left)
                if left[:1] == ["--"]:
                    only_words = True
                    left.pop(0)
            if left:
                self._read_word(left, expected)
        self._check_complete(expected)

    def _read_word(self, left: list[str], expected: list[Positional]) -> None:
        if not expected:
            raise UsageError(f"unexpected argument {left[0]!r}")
        positional = expected.pop(0)
        if positional.rest:
            self.values[positional.key] = [
                self._convert(positional.name, positional.convert, word) for word in left
            ]
            left.clear()
        else:
            self.values[positional.key] = self._convert(
                positional.name, positional.convert, left.pop(0)
            )

    def _read_option(self, left: list[str]) -> None:
        name, equals, value = left.pop(0).partition("=")
        option = self._options.get(name) or self._former.get(name)
        if option is None:
            raise UsageError(f"unknown option {name}{did_you_mean(name, self._options)}")
        if option.metavar is None:
            if equals:
                raise UsageError(f"{name} takes no value")
            self.values[option.key] = True
            return
        if not equals:
            if option.implied is not None and (not left or left[0].startswith("-")):
                value = option.implied
            elif left:
                value = left.pop(0)
            else:
                raise UsageError(f"{name} needs a value: {name} {option.metavar}")
        converted = self._convert(name, option.convert, value)
        if option.repeat:
            self.values[option.key].append(converted)
        else:
            self._refuse_another(option, converted)
            self.values[option.key] = converted
        self._given.add(option.name)

    def _refuse_another(self, option: Option, value: object) -> None:
        """Raise UsageError where a value would be lost without a word."""
        if option.overridable or option.name not in self._given:
            return
        if value != self.values[option.key]:
            more = f": {option.more}" if option.more else ""
            raise UsageError(f"{option.name} is given twice, and takes one value{more}")

    def _convert(self, name: str, convert: Callable[[str], object], text: str) -> object:
        try:
            return convert(text)
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from None

    def _check_complete(self, expected: list[Positional]) -> None:
        if self.values.get("help"):
            return
        for positional in expected:
            if not positional.optional:
                raise UsageError(f"{positional.name} is missing: {positional.summary}")
            self.values[positional.key] = [] if positional.rest else None
        for option in set(self._options.values()):
            if option.required and option.name not in self._given:
                raise UsageError(f"{option.name} {option.metavar} is missing: {option.summary}")


def did_you_mean(word: str, known: Sequence[str] | dict[str, Any]) -> str:
    """Return `: did you mean X?` for the known word that is nearest, or nothing."""
    from difflib import get_close_matches  # noqa: PLC0415 - paid for by those who mistype

    near = get_close_matches(word, list(known), n=1)
    return f": did you mean {near[0]}?" if near else ""


#: Options of every command, before or after its name.
COMMON = (
    Option("--json", "print exactly one JSON document (commands that follow: one a line)"),
    Option(
        "--socket",
        "the daemon's socket (default: $SUPEREZIO_SOCKET)",
        metavar="PATH",
        overridable=True,
    ),
    Option(
        "--timeout",
        "how long to wait for an answer",
        metavar="DURATION",
        convert=seconds,
        default=10.0,
        overridable=True,
    ),
    Option(
        "--correlation-id",
        "the id to find this in logs and events by",
        metavar="ID",
        overridable=True,
    ),
    Option("--help", "say what a command does and takes", short="-h"),
    Option("--version", "print the version of superezioctl"),
)
