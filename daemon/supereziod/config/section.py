"""What every section of the configuration is made of."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin

from msgspec import Meta, Struct, field


def key_of(name: str) -> str:
    """Return the key in the file of a field: the name without its unit."""
    return name.removesuffix("_bytes").removesuffix("_s")


class Section(Struct, frozen=True, kw_only=True, rename=key_of):
    """Base of all sections."""


def section_type(type_: Any) -> type[Section] | None:  # noqa: ANN401 - a type form
    """Return the section that a field of this type holds, if it does."""
    if get_origin(type_) is UnionType:
        type_ = next(arm for arm in get_args(type_) if arm is not NoneType)
    return type_ if isinstance(type_, type) and issubclass(type_, Section) else None


class Shared(Section, frozen=True):
    """Base of the sections of what several users share by its name."""

    everyone: Annotated[bool, Meta(description="Whether every user may use it, ...")] = False
    users: Annotated[list[str], Meta(description="... or these users (names or ids) ...")] = field(
        default_factory=list
    )
    groups: Annotated[
        list[str], Meta(description="... and the members of these groups (names or ids).")
    ] = field(default_factory=list)
