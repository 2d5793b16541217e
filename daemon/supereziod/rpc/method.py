"""What a method is: a name, its types, who may call it, and what answers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct

from superezio.wire import Params, Role
from supereziod.rpc.access import Visibility

#: What leaves a record for the audit. `always`: each call. `others`: a call that is about what
#: belongs to another user or is shared, and one that is refused for want of rights. `refusals`:
#: such a refusal alone, as what only reads is no act.
Audit = Literal["always", "others", "refusals", "never"]


class Method(Struct, frozen=True, kw_only=True):
    """One row of the table of methods.

    `handler` takes the request and its params. It returns a result of type `result`, or, where
    `may_wait`, an awaitable of one, which belongs to the request: it is cancelled with it.
    `hot` is for what is asked thousands of times a second. Such a handler returns its result as
    JSON, which a template may be the fastest way to. The request it is given is an object that is
    used again: it keeps no hold of it, calls no `note`, and starts no task or timer, which would.
    One that has to wait after all changes nothing and returns None: `waiting` is called then, with
    a request of its own, and returns an awaitable.
    `hands_out` tells of params whether the request, as it is answered, is given what it has to give
    back or to do. It must not be a notification then: nobody would know of it.
    `only_reads` tells of params that nothing is to be changed: of these `audit` is `refusals`.
    `errors` are the kinds a caller has to reckon with besides those of every method.
    """

    name: str
    params: type[Params]
    result: Any
    role: Role
    visibility: Visibility
    handler: Callable[..., Any]
    summary: str
    may_wait: bool = False
    hot: bool = False
    waiting: Callable[..., Any] | None = None
    errors: tuple[str, ...] = ()
    hands_out: Callable[[Any], bool] | None = None
    audit: Audit = "never"
    only_reads: Callable[[Any], bool] | None = None
