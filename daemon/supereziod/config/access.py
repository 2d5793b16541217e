"""[access]: who may use the daemon, and who may administer it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from supereziod.config.section import Section


class Access(Section, frozen=True):
    user_groups: Annotated[
        list[str],
        Meta(
            description="Groups that may lease, and use breakers, limits and the cache (names or"
            " ids). Anybody may see the GPUs and how the host is."
        ),
    ] = field(default_factory=lambda: ["superezio"])
    admin_groups: Annotated[
        list[str], Meta(description="Groups that may administer, besides root.")
    ] = field(default_factory=lambda: ["superezio-admin"])
    users: Annotated[list[str], Meta(description="Users who may do the same.")] = field(
        default_factory=list
    )
    admins: Annotated[list[str], Meta(description="Users who may administer.")] = field(
        default_factory=list
    )
