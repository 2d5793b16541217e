"""docs/superezio.toml, made from the schema: `python -m supereziod.config.example`."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import FieldInfo, fields

from superezio.quantities import format_duration
from superezio.toml_values import describe
from supereziod.config.changes import is_live
from supereziod.config.schema import Config
from supereziod.config.section import Section

_HEAD = """\
#:schema file:///usr/share/superezio/superezio.schema.json
# /etc/superezio/superezio.toml: every key, with its default.
#
# A file without any key is a good one: the defaults work on a new host. Files in conf.d/ beside
# this one (*.toml, in the order of their names) are read after it, and a key set later wins, key
# by key. The environment wins over the files: each key is a variable, too, in capitals with two
# underscores between its parts (SUPEREZIO__LEASES__GRACE=10s). The options of supereziod win over
# all. `superezioctl config check` tells every mistake, `superezioctl config show --origin` what is
# in force and where it was set, and `superezioctl config diff` what a reload would change. The
# first line lets an editor check and complete keys (such as Even Better TOML, or taplo).
#
# A duration is text ("250ms", "30s", "1m30s", "2h") or a number of seconds; a size is text
# ("512MiB", "8GiB", "10GB") or a number of bytes. Keys marked (live) change with
# `superezioctl reload`; the others with a restart, which no lease notices.
"""

_OVERRIDE = """
# What differs for one GPU, by its UUID (`superezioctl gpu show`): `reserve`, which a MIG instance
# may have too, and any key of gpu.thermal.
#
# [gpu.override."GPU-5c6a1b7e-0000-0000-0000-000000000000"]
# reserve = "1GiB"
# [gpu.override."GPU-5c6a1b7e-0000-0000-0000-000000000000".thermal]
# hot_enter_c = 8
"""

_QUOTA = """
# The same limits for one user, by name or number, in place of leases.quota.default; what is left
# out here has no limit. Those of a group are for the leases of all its members together, and each
# member is held to its own besides. A lease counts for the groups that its user was in when it
# connected. (live)
#
# What would exceed a quota waits where the acquire may wait (--wait), and is refused otherwise;
# what is larger than the quota itself is refused at once.
#
# [leases.quota.user.alice]
# vram = "16GiB"
# leases = 4
# [leases.quota.group.students]
# vram = "24GiB"
"""

_BREAKER = """
# A circuit breaker of that name is one for those who may use it: what one of them finds out about a
# service, all know. Rules are as in [breaker], but for those that are set here. Any other name is
# each user's own. Only an admin forces a shared one open, or resets it. Who may use it is believed:
# one user's failures, or one 429, open it for all. `superezioctl breaker show` says who it was.
#
# In this table, and in those of the cache and of limits, three keys say who may use it, of those
# who have the role user (access.user_groups): `everyone`, or the members of `groups` and the
# `users`, by name or number as text. Without any of them nobody may. (live)
#
# [breaker.shared.openai]
# everyone = false
# groups = ["ai"]
# users = ["alice", "1042"]
# failure_rate = 0.3
# open = "1m"
"""

_CACHE = """
# A namespace of the cache that those who may use it have together; any other name is each user's
# own. `guaranteed` and `guaranteed_entries` are what no other namespace's growth evicts. Only an
# admin clears a shared one.
#
# [cache.shared.embeddings]
# everyone = false
# groups = ["ai"]
# users = []
# size = "128MiB"
# entries = 100000
# guaranteed = "32MiB"
# guaranteed_entries = 25000
"""

_SHARED_LIMIT = """
# A limit that several users share by its name, as a program says it: who may use it, and a budget
# for each scope that has a table. `host` is one for all of them; each of `groups` has a `group`
# one; each user, session or key (which a request names) has one of its own. A request needs room
# in all that apply. Any other name is a limit of the user's own, who gives its rates.
# In each table: requests, tokens and money in so long, each with a `_burst` of which so much may
# come at once; `concurrency`; and caps on money, which count over restarts. (live)
#
# [limit.shared.openai]
# everyone = false
# groups = ["students"]
# users = ["alice"]
# [limit.shared.openai.host]
# requests = "500/1m"
# requests_burst = 50
# tokens = "90000/1m"
# money_per_month = "200.00"
# concurrency = 16
# [limit.shared.openai.user]
# money = "1.00/1h"
# money_per_day = "5.00"
"""


#: What is said of tables whose sections somebody names, by the table: prose, then an example.
TABLES: Final = {
    "gpu.override": _OVERRIDE,
    "leases.quota.user": _QUOTA,
    "breaker.shared": _BREAKER,
    "cache.shared": _CACHE,
    "limit.shared": _SHARED_LIMIT,
}


def render_example() -> str:
    """Return the text of the documented configuration file."""
    tables = "".join(TABLES.values())
    return _HEAD + "".join(_section("", Config())) + tables


def _section(path: str, section: Section) -> Iterator[str]:
    types = get_type_hints(type(section), include_extras=True)
    inner: list[tuple[str, Section]] = []
    keys: list[str] = []
    for field in fields(section):
        value = getattr(section, field.name)
        name = f"{path}.{field.encode_name}" if path else field.encode_name
        if isinstance(value, Section):
            inner.append((name, value))
        elif not isinstance(value, dict):
            keys += _key(name, field, types[field.name], value)
    if path and (keys or not inner):
        yield f"\n[{path}]\n"
    yield from keys
    for name, value in inner:
        yield from _section(name, value)


def _key(path: str, field: FieldInfo, type_: Any, value: object) -> Iterator[str]:  # noqa: ANN401
    mark = " (live)" if is_live(path) else ""
    text = _description(type_) + mark
    if value is None:
        text += f" Not set by default ({_kind(field.name, get_args(type_)[0])})."
    yield from (f"# {line}\n" for line in textwrap.wrap(text, 97))
    yield f"#{field.encode_name} = {_toml(field.name, value)}".rstrip() + "\n"


def _kind(name: str, type_: Any) -> str:  # noqa: ANN401 - a type form
    """Return what is to be written for a key that has no default."""
    if name.endswith("_bytes"):
        return 'a size, such as "16GiB"'
    if name.endswith("_s"):
        return 'a duration, such as "30s"'
    return describe(type_)


def _description(type_: Any) -> str:  # noqa: ANN401 - a type form
    if get_origin(type_) is Annotated:
        for meta in type_.__metadata__:
            if isinstance(meta, msgspec.Meta) and meta.description:
                return meta.description
    raise LookupError(f"no description: {type_}")


def _toml(name: str, value: object) -> str:
    if name.endswith("_s") and isinstance(value, float):
        return f'"{format_duration(value).replace(" ", "")}"'
    if name.endswith("_bytes") and isinstance(value, int) and value:
        return f'"{value >> 20}MiB"' if value % (1 << 20) == 0 else f'"{value >> 10}KiB"'
    return "" if value is None else msgspec.json.encode(value).decode()


if __name__ == "__main__":
    sys.stdout.write(render_example())
