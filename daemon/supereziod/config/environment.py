"""Keys that the environment sets: SUPEREZIO__LEASES__GRACE=10s is `grace` of [leases].

Sections and keys are in capitals, with two underscores between them; a name that somebody chose
(`leases.quota.user.alice`) stands as it is. The value is as in TOML; what is no TOML is text, and
where text is wanted no quotes are needed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from superezio.toml_values import read_value
from supereziod.config.fields import NoSuchKeyError, find_field
from supereziod.config.setting import Origin, Problem, Setting, as_utf8, is_utf8

PREFIX: Final = "SUPEREZIO__"


def variables_in(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that set keys."""
    return {name: value for name, value in environ.items() if name.startswith(PREFIX)}


def read_variables(variables: Mapping[str, str], problems: list[Problem]) -> Iterator[Setting]:
    """Yield what they set, in the order of their names; what is wrong goes to `problems`."""
    for variable in sorted(variables):
        origin = Origin(place="environment", name=as_utf8(variable))
        if not (is_utf8(variable) and is_utf8(variables[variable])):
            problems.append(Problem(origin=origin, key="", message="is not UTF-8"))
            continue
        parts = variable.removeprefix(PREFIX).split("__")
        try:
            found = find_field(parts, fold=True)
        except NoSuchKeyError as error:
            problems.append(Problem(origin=origin, key=error.key, message=str(error)))
            continue
        try:
            value = read_value(found.name, found.type, _value(found.type, variables[variable]))
        except ValueError as error:
            problems.append(Problem(origin=origin, key=".".join(found.path), message=str(error)))
        else:
            yield Setting(path=found.path, value=value, origin=origin)


def _value(type_: Any, text: str) -> object:  # noqa: ANN401 - a type form
    value = _toml(text)
    if _takes_text(type_) and not isinstance(value, str):
        return text
    return value


def _toml(text: str) -> object:
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # no TOML, more digits than fit, nested without end
        return text
    # More than one line is more than a value.
    return table["value"] if len(table) == 1 else text


def _takes_text(type_: Any) -> bool:  # noqa: ANN401 - a type form
    plain = get_args(type_)[0] if get_origin(type_) is Annotated else type_
    arms = get_args(plain) if get_origin(plain) is UnionType else (plain,)
    return any(arm is str or get_origin(arm) is Literal for arm in arms)
