"""The catalog as systemd reads it: `python -m supereziod.catalog.page` writes it."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping
from typing import Final

from supereziod.catalog import daemon, gpus, leases, overheat, services
from supereziod.catalog.explained import Explained
from supereziod.observability.journald import message_id

#: By the field EVENT of the line, of which MESSAGE_ID is made.
CATALOG: Final[Mapping[str, Explained]] = {
    **daemon.EXPLAINED,
    **gpus.EXPLAINED,
    **leases.EXPLAINED,
    **services.EXPLAINED,
    **overheat.EXPLAINED,
}
_HEAD: Final = """\
# What `journalctl -x` says of the lines of superezio. Made by `make docs` from
# daemon/supereziod/catalog; changes belong there.
"""


def render_catalog() -> str:
    """Return all entries, in the order of the table."""
    return "\n".join([_HEAD, *(_entry(event, each) for event, each in CATALOG.items())])


def _entry(event: str, explained: Explained) -> str:
    commands = "\n".join(f"    {command}" for command in explained.commands)
    return f"""\
# {event}
-- {message_id(event)}
Subject: {explained.subject}
Defined-By: superezio
Documentation: man:superezio(7)

{_filled(explained.meaning)}

{_filled(explained.action)}

{commands}
"""


def _filled(text: str) -> str:
    return textwrap.fill(text, 78, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    sys.stdout.write(render_catalog())
