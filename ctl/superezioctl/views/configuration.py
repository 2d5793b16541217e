"""The configuration as text: TOML for what is in force, a table for what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from superezio.toml_text import dotted, value_text
from superezio.wire import ConfigChange, ConfigDiff, ConfigOrigin, ConfigValue, ConfigValues
from superezioctl.output import Output
from superezioctl.views.text import user

_NOT_SET = "not set"


def show(out: Output, raw: bytes, *, origins: bool, with_head: bool) -> None:
    """Print what is in force, as TOML; where each value was set is a comment behind it."""
    found = msgspec.json.decode(raw, type=ConfigValues)
    lines = list(_toml(found.values, origins=origins))
    if with_head:
        for line in (*_head(found), ""):
            out.line(out.style(line, "dim"))
    elif not lines:
        out.line(out.style("# nothing is set here: all is as by default (--all)", "dim"))
    for text, comment in lines:
        out.line(f"{text}{out.style(comment, 'dim')}")


def _head(found: ConfigValues) -> Iterator[str]:
    files = ", ".join(found.config_files) or "no file"
    yield f"# In force in supereziod; read from {files} at {found.read_at}."
    if not found.values:
        yield "# Nothing is set: all is as by default (--all)."
    if found.restart_required:
        yield f"# Otherwise with the next restart: {', '.join(found.restart_required)}."
    if found.fault is not None:
        yield f"# {found.fault}"


def _toml(values: list[ConfigValue], *, origins: bool) -> Iterator[tuple[str, str]]:
    sections: dict[tuple[str, ...], list[ConfigValue]] = {}
    for each in values:
        sections.setdefault(tuple(each.path[:-1]), []).append(each)
    for number, (section, members) in enumerate(sections.items()):
        if number:
            yield "", ""
        if section:
            yield f"[{dotted(section)}]", ""
        for each in members:
            said = [*_set_since(each), *([_origin(each.origin)] if origins else [])]
            yield _assignment(each), f"  # {'; '.join(said)}" if said else ""


def _assignment(each: ConfigValue) -> str:
    key = dotted(each.path[-1:])
    if each.value is None:
        return f"#{key} ="
    return f"{key} = {value_text(each.value)}"


def _set_since(each: ConfigValue) -> Iterator[str]:
    """Yield who has set a value in the running daemon, and what is there to come back."""
    since = each.run_time
    if since is not None:
        who = f"set at run time by {user(since.uid)} at {since.at}"
        instead = "nothing" if since.configured is None else value_text(since.configured)
        yield f"{who}, until the next reload or restart; configured is {instead}"


def _origin(origin: ConfigOrigin) -> str:
    if origin.name is None:
        return "default"
    return origin.name if origin.line is None else f"{origin.name}:{origin.line}"


def show_changes(out: Output, raw: bytes) -> None:
    """Print each key that differs, and what would put it in force."""
    found = msgspec.json.decode(raw, type=ConfigDiff)
    files = ", ".join(found.config_files) or "no file: defaults"
    if found.changes:
        out.table(
            ("KEY", "IN FORCE", "IN THE FILES", "APPLIED BY", "SET IN"),
            list(map(_row, found.changes)),
            spare=(4,),
            cut=2,
        )
    else:
        out.line(f"the files say what is in force ({files})")
    if any(each.live for each in found.changes):
        out.line("`superezioctl reload` applies what is live")
    if any(not each.live for each in found.changes):
        out.line("`systemctl restart superezio` applies the rest, which no lease notices")
    for warning in found.warnings:
        out.note(f"superezioctl: warning: {warning}")


def _row(change: ConfigChange) -> tuple[str, ...]:
    return (
        change.key,
        _value(change.old),
        _value(change.new),
        "reload" if change.live else "restart",
        _origin(change.origin),
    )


def _value(value: bool | float | str | list[int | str] | None) -> str:  # noqa: FBT001 - a value
    return _NOT_SET if value is None else value_text(value)


def show_check(out: Output, raw: bytes) -> bool:
    """Print each mistake, then each doubt; return whether the files can be used."""
    found = json.loads(raw)
    for problem in found["problems"]:
        out.line(_problem(problem))
    for warning in found["warnings"]:
        out.note(f"superezioctl: warning: {_problem(warning)}")
    if found["good"]:
        files = ", ".join(found["config_files"]) or "no file: all is as by default"
        out.line(f"the configuration is good ({files})")
        return True
    many = len(found["problems"])
    out.note(f"superezioctl: the configuration is bad: {many} mistake{'s' * (many > 1)}")
    return False


def _problem(problem: dict[str, Any]) -> str:
    where = problem["name"] + (f":{problem['line']}" if problem["line"] else "")
    return ": ".join(filter(None, (where, problem["key"], problem["message"])))
