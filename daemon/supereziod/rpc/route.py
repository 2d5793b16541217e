"""A method as the request path needs it: plain attributes, and what keeps a call from it."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from copy import copy
from typing import Any, Final

from superezio.errors import DeadlineExceededError, InvalidRequestError, ShuttingDownError
from superezio.wire import Meta, Params
from supereziod.observability.plain_lane import MethodMarks
from supereziod.resilience.sharing import is_name
from supereziod.rpc.method import Method
from supereziod.rpc.requests import RequestContext

#: What a caller may use to mark a repeated request.
_IDEMPOTENCY_KEY: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
#: A longer deadline is none: it is past the life of any daemon, and of a timer's integers.
MAX_DEADLINE_MS: Final = 7 * 86_400_000


#: By the family of methods, the member of params that says what they are about.
_SUBJECTS: Final = {"breaker": "name", "limit": "name", "cache": "namespace"}


class Route:
    """What the request path needs of a method."""

    __slots__ = (
        "_subject", "audit", "handler", "hot", "marks", "may_wait", "name", "only_reads", "rank",
        "role", "waiting",
    )  # fmt: skip

    def __init__(self, method: Method, rank: int, marks: MethodMarks) -> None:
        self.marks = marks
        self.name = method.name
        self.handler = method.handler
        self.may_wait = method.may_wait
        self.hot = method.hot and (method.waiting is not None or not method.may_wait)
        self.waiting = method.waiting or _never_waits
        self.role = method.role
        self.audit = method.audit
        self.only_reads = method.only_reads
        self.rank = rank
        subject = _SUBJECTS.get(method.name.partition(".")[0], "")
        #: The member of params that has the name of what is asked for.
        self._subject = subject if subject in method.params.__struct_fields__ else None

    def about(self, params: Params) -> str:
        """Return the breaker, limit or namespace that is asked for; "" where that is none."""
        name = "" if self._subject is None else getattr(params, self._subject)
        return name if name and is_name(name) else ""

    def for_rank(self, rank: int) -> Route:
        """Return the same for a role; it is no matter of the hot path if that may not use it."""
        if rank >= self.rank:
            return self
        twin = copy(self)
        twin.hot = False
        return twin

    def close(self) -> None:
        """Refuse whatever comes from now on: the daemon is stopping."""
        self.handler = _shutting_down
        self.may_wait = False


def check_meta(meta: Meta) -> None:
    """Raise where a request cannot be done as its `meta` says."""
    key = meta.idempotency_key
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequestError(
            "meta.idempotency_key has to be 1 to 128 letters, digits or any of . _ : -"
        )
    deadline_ms = meta.deadline_ms
    if deadline_ms is None:
        return
    if deadline_ms <= 0:
        raise DeadlineExceededError("the deadline had passed before the request was read")
    if deadline_ms > MAX_DEADLINE_MS:
        raise InvalidRequestError(f"meta.deadline_ms may be up to {MAX_DEADLINE_MS}")


def _never_waits(_request: RequestContext, _params: Params) -> Awaitable[Any]:
    raise TypeError("a hot handler returned None, and there is none that waits")


def _shutting_down(_request: RequestContext, _params: Params) -> None:
    raise ShuttingDownError("the daemon is stopping: reconnect and ask again")
