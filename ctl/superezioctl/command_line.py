"""From the words of the command line to an exit code."""

from __future__ import annotations

import sys

from superezio.paths import default_socket_path
from superezioctl import exit_codes, streams
from superezioctl.arguments import COMMON, Arguments, Command, Reader, UsageError
from superezioctl.catalogue import CATALOGUE, families
from superezioctl.context import Context
from superezioctl.output import Output, OutputError, flush, put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def run(words: Sequence[str]) -> int:
    """Do what the words say, and return the exit code."""
    given = list(words)
    try:
        code = _dispatch(given)
        flush(sys.stdout)
    except UsageError as error:
        return _refuse(str(error), given)
    except BrokenPipeError:
        # Whoever read our output has enough of it; nothing may be flushed there at exit.
        streams.discard(sys.stdout)
        return exit_codes.PIPE_CLOSED
    except OutputError as error:
        streams.discard(sys.stdout)
        print(f"superezioctl: {error}", file=sys.stderr)  # noqa: T201 - there is no Output left
        return exit_codes.FAILED
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    return code


def _dispatch(words: list[str]) -> int:
    leading = Reader(COMMON)
    rest = leading.read_leading(words)
    if leading.values["version"]:
        rest = ["version", *rest[1:]]
    name = _find(rest)
    if name is None:
        return _help_without_command(rest, asked=leading.values["help"])
    command = load(name)
    reader = Reader((*command.options, *COMMON))
    reader.values |= {
        key: value for key, value in leading.values.items() if value != reader.values[key]
    }
    reader.read_all(rest[len(name.split()) :], command.positionals)
    if reader.values["help"]:
        from superezioctl import helptext  # noqa: PLC0415 - only help pays for help

        put(sys.stdout, helptext.of_command(name, command))
        return exit_codes.DONE
    positionals = [each.name for each in command.positionals]
    return _run(command, Arguments(reader.values, positionals=positionals))


def load(name: str) -> Command:
    """Return the command of that name, importing the module it lives in."""
    module = __import__(f"superezioctl.commands.{CATALOGUE[name][0]}", fromlist=["COMMANDS"])
    command: Command = module.COMMANDS[name]
    return command


def _find(words: Sequence[str]) -> str | None:
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in CATALOGUE:
            return name
    return None


def _run(command: Command, arguments: Arguments) -> int:
    context = Context(
        arguments=arguments,
        out=Output(json=arguments["json"]),
        socket_path=arguments["socket"] or default_socket_path(),
    )
    try:
        return command.run(context)
    except (UsageError, BrokenPipeError, OutputError):
        raise
    except Exception as error:
        from superezioctl import failures  # noqa: PLC0415 - paid for on failure only

        code = failures.report(error, context)
        if code is None:
            raise
        return code if command.failure_code is None else command.failure_code
    finally:
        context.close()


def _help_without_command(words: list[str], *, asked: bool) -> int:
    from superezioctl import helptext  # noqa: PLC0415 - only help pays for help

    wants_help = asked or "--help" in words or "-h" in words
    family = families().get(words[0]) if words else None
    if family is not None and (len(words) == 1 or wants_help):
        text = helptext.of_family(words[0], family)
    elif not words or words[0] == "help":
        text = helptext.of_everything()
        wants_help = wants_help or bool(words)
    else:
        raise UsageError(helptext.unknown(words))
    put(sys.stdout if wants_help else sys.stderr, text)
    return exit_codes.DONE if wants_help else exit_codes.USAGE


def _without_leading_options(words: list[str]) -> list[str]:
    try:
        return Reader(COMMON).read_leading(words)
    except UsageError:
        return [word for word in words if not word.startswith("-")]


def _refuse(message: str, words: list[str]) -> int:
    if "--json" in words:
        from superezioctl import failures  # noqa: PLC0415 - paid for on failure only

        print(failures.usage_document(message))  # noqa: T201 - there is no Output yet
    name = _find(_without_leading_options(words))
    hint = f"superezioctl {name} --help" if name else "superezioctl --help"
    print(f"superezioctl: {message}\nSee `{hint}`.", file=sys.stderr)  # noqa: T201 - as above
    failure_code = load(name).failure_code if name else None
    return exit_codes.USAGE if failure_code is None else failure_code
