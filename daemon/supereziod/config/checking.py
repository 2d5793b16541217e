"""What `supereziod --check`, and a daemon that cannot start, say of a configuration."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from supereziod.config.doubts import doubts
from supereziod.config.loader import DEFAULT_FILE, DROP_INS, Loaded
from supereziod.config.reading_rights import SERVICE_USER, unreadable_to_service
from supereziod.config.setting import ConfigError, Problem
from supereziod.observability.journald import is_journal

#: sd-daemon(3): how a line on standard error says that it is an error.
_ERROR = "<3>"


def tell(loaded: Loaded, environ: Mapping[str, str], *, as_json: bool) -> bool:
    """Print whether it can be used, and what somebody may have meant otherwise; return whether."""
    unread = _unreadable_to_service(loaded)
    problems = [each for each in unread if _is_services(Path(each.origin.name))]
    found = [*doubts(loaded), *(each for each in unread if each not in problems)]
    if as_json:
        sys.stdout.write(_document(problems, found, [str(file) for file in loaded.files]))
        return not problems
    for problem in found:
        # No error: a name may come later, and a daemon that runs goes on without.
        sys.stderr.write(f"supereziod: warning: {problem}\n")
    if problems:
        sys.stderr.write(refusal(ConfigError(problems), environ))
        return False
    files = ", ".join(str(file) for file in loaded.files) or "no files, all defaults"
    sys.stdout.write(f"supereziod: the configuration is good ({files})\n")
    return True


def _unreadable_to_service(loaded: Loaded) -> list[Problem]:
    """Return what root may read here, and the service may not."""
    own, drop_ins = DEFAULT_FILE.parent, DEFAULT_FILE.parent / DROP_INS
    paths = [file for file in loaded.files if own in file.parents]
    if len(paths) == len(loaded.files) and drop_ins.is_dir():
        paths.insert(0, drop_ins)
    return unreadable_to_service(paths, user=SERVICE_USER)


def _is_services(path: Path) -> bool:
    """Whether the service itself reads it, and does not start where it may not.

    Another file beside them may be meant for it, or not.
    """
    drop_ins = DEFAULT_FILE.parent / DROP_INS
    return path in {DEFAULT_FILE, drop_ins} or path.parent == drop_ins


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
