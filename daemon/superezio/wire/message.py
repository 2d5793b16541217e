"""What every message is made of, and the words that several subjects share."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Severity = Literal["info", "warning", "critical"]
Role = Literal["observer", "user", "admin"]


class Params(Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """Base of all parameters: by name, and an unknown name is an error that names it."""


class Result(Struct, kw_only=True, gc=False):
    """Base of all results: every member is always there, and clients ignore new ones."""


class NoParams(Params):
    """For methods that take nothing."""


class Meta(Struct, kw_only=True, omit_defaults=True, gc=False):
    """The extension member `meta` of a request. Unknown members are ignored."""

    correlation_id: str | None = None
    session_id: str | None = None
    traceparent: str | None = None
    deadline_ms: int | None = None
    idempotency_key: str | None = None


class Done(Result):
    """`done` is False when there was nothing to do."""

    done: bool
