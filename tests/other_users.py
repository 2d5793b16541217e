"""Being another user for a moment, which the kernel notes of connections made meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

#: The primary group of users who are asked about by their supplementary ones alone.
NO_GROUP = 53000


@contextmanager
def being(uid: int, groups: Sequence[int] = (), *, gid: int = NO_GROUP) -> Iterator[None]:
    """Be a user with these groups; then root again, as the test has to be before."""
    own = os.getgroups()
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(own)
