"""What `supereziod --check`, and a daemon that cannot start, say of a configuration."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import msgspec

from supereziod.config.doubts import doubts
from supereziod.config.loader import DEFAULT_FILE, DROP_INS, Loaded
from supereziod.config.reading_rights import unreadable_to_service
from supereziod.config.setting import ConfigError, Problem
from supereziod.observability.journald import is_journal

#: sd-daemon(3): how a line on standard error says that it is an error.
_ERROR = "<3>"


def tell_good(loaded: Loaded, *, as_json: bool) -> None:
    """Print that it can be used, and what somebody may have meant otherwise."""
    found = [*doubts(loaded), *_unreadable_to_service(loaded)]
    if as_json:
        sys.stdout.write(_document([], found, [str(file) for file in loaded.files]))
        return
    for problem in found:
        # No error: a name may come later, and a daemon that runs goes on without.
        sys.stderr.write(f"supereziod: warning: {problem}\n")
    files = ", ".join(str(file) for file in loaded.files) or "no files, all defaults"
    sys.stdout.write(f"supereziod: the configuration is good ({files})\n")


def _unreadable_to_service(loaded: Loaded) -> list[Problem]:
    """Return what root may read here, and the service may not: it would refuse these files."""
    own = DEFAULT_FILE.parent
    files = [file for file in loaded.files if own in file.parents]
    return unreadable_to_service([*(each for each in (own / DROP_INS,) if each.is_dir()), *files])


def bad_document(error: ConfigError) -> str:
    """Return the JSON document of a configuration that cannot be used."""
    return _document(error.problems, [], None)


def refusal(error: ConfigError, environ: Mapping[str, str], *, fd: int = 2) -> str:
    """Return what to print on `fd`; each line is marked as an error where it is the journal."""
    text = f"supereziod: cannot use the configuration:\n{error}\n"
    if not is_journal(fd, environ):
        return text
    return "".join(f"{_ERROR}{line}\n" for line in text.splitlines())


def _document(problems: list[Problem], warnings: list[Problem], files: list[str] | None) -> str:
    found = {
        "good": not problems,
        "config_files": files,
        "problems": [_told(each) for each in problems],
        "warnings": [_told(each) for each in warnings],
    }
    return msgspec.json.encode(found).decode() + "\n"


def _told(problem: Problem) -> dict[str, object]:
    origin = problem.origin
    return {
        "place": origin.place,
        "name": origin.name,
        "line": origin.line,
        "key": problem.key,
        "message": problem.message,
    }
