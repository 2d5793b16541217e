from __future__ import annotations

import pytest

from superezioctl.arguments import (
    COMMON,
    Option,
    Positional,
    Reader,
    UsageError,
    one_of,
    positive,
    size,
    whole,
)
from superezioctl.commands.events import FAMILIES, TYPES
from supereziod.rpc.vocabulary import EVENT_TYPES

OPTIONS = (
    Option("--vram", "how much", metavar="SIZE", convert=size, required=True),
    Option("--name", "a name", metavar="NAME", short="-n", default="x"),
    Option("--gpu", "a GPU", metavar="GPU", repeat=True),
    Option("--all", "everything"),
    Option("--help", "help", short="-h"),
)


def read(*words: str, positionals: tuple[Positional, ...] = ()) -> dict[str, object]:
    reader = Reader(OPTIONS)
    reader.read_all(words, positionals)
    return reader.values


def test_values_are_read_and_the_others_have_defaults() -> None:
    assert read("--vram", "1GiB") == {
        "vram": 1 << 30,
        "name": "x",
        "gpu": [],
        "all": False,
        "help": False,
    }


def test_values_may_follow_an_equals_sign_and_repeat() -> None:
    values = read("--vram=1GiB", "-n", "y", "--gpu", "0", "--gpu=1", "--all")
    assert (values["name"], values["gpu"], values["all"]) == ("y", ["0", "1"], True)


def test_a_second_value_is_refused_and_not_lost() -> None:
    with pytest.raises(UsageError, match=r"--vram is given twice, and takes one value$"):
        read("--vram", "1GiB", "--vram=2GiB")
    assert read("--vram", "1GiB", "--vram", "1024MiB")["vram"] == 1 << 30


def test_what_an_alias_gives_may_be_given_anew() -> None:
    reader = Reader(COMMON)
    reader.read_all(["--timeout", "1s", "--timeout", "2s", "--socket=a", "--socket=b"], ())
    assert (reader.values["timeout"], reader.values["socket"]) == (2.0, "b")


def test_options_may_stand_after_positionals() -> None:
    values = read("a", "--vram", "1GiB", positionals=(Positional("WHAT", "what"),))
    assert values["what"] == "a"


def test_the_rest_is_taken_as_it_stands() -> None:
    command = (Positional("COMMAND", "what to run", rest=True),)
    assert read("--vram", "1B", "--", "ls", "-l", positionals=command)["command"] == ["ls", "-l"]
    assert read("--vram", "1B", "ls", "--all", positionals=command)["command"] == ["ls", "--all"]
    assert read("--vram", "1B", "ls", "--", "-x", positionals=command)["command"] == [
        "ls",
        "--",
        "-x",
    ]


def test_after_two_dashes_nothing_is_an_option() -> None:
    pair = (Positional("A", "first"), Positional("B", "second", optional=True))
    values = read("--vram", "1B", "--", "--all", "-x", positionals=pair)
    assert (values["a"], values["b"], values["all"]) == ("--all", "-x", False)
    assert read("--vram", "1B", "-", positionals=pair)["a"] == "-"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--vram", "1B", "--nam", "y"], "unknown option --nam: did you mean --name"),
        (["--vram", "1B", "--zzzz"], "unknown option --zzzz$"),
        (["--vram"], "--vram needs a value: --vram SIZE"),
        (["--vram", "much"], "--vram: cannot read 'much'"),
        (["--vram", "1B", "--all=yes"], "--all takes no value"),
        (["--vram", "1B", "word"], "unexpected argument 'word'"),
        ([], "--vram SIZE is missing: how much"),
    ],
)
def test_mistakes_are_named(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(*words)


def test_a_missing_positional_is_named_unless_help_is_wanted() -> None:
    what = (Positional("WHAT", "what it is"),)
    with pytest.raises(UsageError, match="WHAT is missing: what it is"):
        read("--vram", "1B", positionals=what)
    assert read("-h", positionals=what)["help"]


def test_numbers_and_choices() -> None:
    assert (positive("3"), whole("-3"), one_of("a", "b")("b")) == (3, -3, "b")
    for convert, text in ((positive, "0"), (positive, "x"), (whole, "x"), (one_of("a"), "b")):
        with pytest.raises(ValueError, match="it has to be"):
            convert(text)


def test_the_types_of_events_that_are_completed_are_the_daemons() -> None:
    assert set(TYPES) == set(EVENT_TYPES)
    assert "lease." in FAMILIES
