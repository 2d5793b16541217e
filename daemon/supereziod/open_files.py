"""How many files the kernel lets the daemon have open, and how many it may come to need."""

from __future__ import annotations

import resource
from typing import Final

#: Databases, pipes to probes, the loop's own, and files of /proc for a moment.
_OWN: Final = 64


def allow_many_files() -> None:
    """Raise the soft limit, which is made for select(), to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_that_fit(*, connections: int, leases: int) -> int:
    """Return how many of so many connections can be taken in beside so many leases.

    Past the kernel's limit a client would be cut off without a word, and the daemon not know; one
    that the table has no room for is told so. Where all do not fit, each gets its part.
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = allowed - _OWN
    if allowed == resource.RLIM_INFINITY or room >= connections + leases:
        return connections
    return max(1, room * connections // (connections + leases))


def shortage_of_files(*, connections: int, leases: int) -> str | None:
    """Say that so many connections, and leases with a process each, cannot all be; else None."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + leases + _OWN
    if allowed == resource.RLIM_INFINITY or allowed >= needed:
        return None
    return (
        f"the limit of open files is {allowed:,}, and {connections:,} connections with"
        f" {leases:,} leases may need {needed:,}"
    )
