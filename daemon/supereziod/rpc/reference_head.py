"""The first part of the reference: what holds for all methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import cleandoc
from textwrap import fill
from typing import Any, Final

from superezio import PROTOCOL
from superezio.errors import BY_KIND
from superezio.paths import SYSTEM_SOCKET
from superezio.quantities import format_size
from supereziod.rpc.access import ROLES
from supereziod.rpc.limits import Limits
from supereziod.rpc.markdown import cut, json_block, table
from supereziod.rpc.method import Method
from supereziod.rpc.openrpc import COMMON_ERRORS
from supereziod.rpc.turns import TURN_NS
from supereziod.rpc.vocabulary import ERROR_DATA

#: Exchanges by name. One is `request` and `answer`, or a `notification`.
Examples = Mapping[str, Mapping[str, Any]]

_HEAD: Final = """\
<!-- Made by `make docs`. -->
# The socket API

`supereziod` listens on the Unix stream socket `{socket}`, or where
`$SUPEREZIO_SOCKET` says; a daemon started in a terminal by a user on
`$XDG_RUNTIME_DIR/superezio/control.sock`. It speaks
[JSON-RPC 2.0](https://www.jsonrpc.org/specification), one JSON text a line, so that `socat` and
`jq` are clients:

```console
$ echo '{{"jsonrpc":"2.0","id":1,"method":"gpu.list"}}' |
    socat - UNIX-CONNECT:{socket} | jq
```

`superezioctl rpc METHOD [PARAMS]` makes one call, and [python.md](python.md) has the client for
Python. `rpc.discover` returns what this page says of methods and types as an OpenRPC document. In
the examples lines are folded, and long arrays are cut short.

## On the wire

- A line is UTF-8, ends with `\\n`, and has up to {max_frame} ([limits](#limits)). A longer one is
  answered with `frame_too_large`, one that is not JSON with `parse_error`, both with id null; the
  connection goes on. Empty lines are ignored.
- `id` is a string, a number or null. `params` are by name, or by position in the order of the
  tables below; a parameter that is not in the table is refused.
- A request without `id` is a notification: it is carried out and never answered, not even with an
  error. `breaker.acquire`, `limit.acquire`, and `cache.get` with `fill` are not carried out without
  one, as nobody would hear what they hand out.
- A batch, an array of up to {max_batch} requests, is answered with one array when all of it is
  done.
- Answers come as they are ready, not in the order of the requests. Of the methods that *may wait*
  several may be in flight; an `id` that is in flight must not be used again.
- When a client closes its connection, what it has in flight is cancelled, its places in the queue
  included. A client that only ends its sending side still gets its answers.
- Whatever a card, the driver or the caller's role does not give is null: never 0, never left out.
  Units are in the names: `_bytes`, `_c` (degrees Celsius), `_w`, `_j`, `_mhz`, `_percent`, `_s`,
  `_ms`. Times are ISO 8601, in UTC.

## The member `meta`

A request may carry a further member, the object `meta`. Its members are optional, and unknown ones
are ignored.

{meta}
## Who may call what

The kernel names the peer of a connection (uid, groups, pid), and the configuration its role:
*observer* is anyone, *user* a member of the group `superezio`, *admin* root and members of
`superezio-admin`. A role may do what those before it may. What a method shows of others is

- *public*: all there is, for nothing in it is personal;
- *masked*: their entries, with the personal members null;
- *own*: nothing.

An admin sees everything. `superezioctl access` prints the table for the caller.

## Errors

{error_example}
Match on `data.kind`, never on the message. `data.kind` and `data.correlation_id` are always there;
`data.retry_after_ms`, where it stands, says when the same call may succeed. Any method may be
answered with these, and further kinds are named with the method:

{common}.

{errors}
## Limits

{limits}

Who goes over one gets `busy` with its name in `data.limit` (`frame_too_large` for a line,
`invalid_request` for a batch). A client that does not read its answers has its connection closed.

## Compatibility

`protocol` in `system.info` is {protocol}. Within one protocol, results and parameters only gain
members, and a client ignores what it does not know; methods, kinds of errors, types of events and
codes are added to and never renamed.

## Methods

{index}
"""

_META: Final = {
    "correlation_id": "found again in errors, events, leases and the journal. Up to 64 letters, "
    "digits and any of `. _ : -`; another one is replaced",
    "session_id": "the [session](#sessionopen) that the request is counted to",
    "deadline_ms": "how long the answer is of use, from when the request is read. After that it is "
    "`deadline_exceeded`, and what was begun is cancelled",
    "idempotency_key": "of `lease.acquire`, up to 128 characters, per uid: the same key with the "
    "same parameters is the same lease again; with others it is `conflict`",
    "traceparent": "the header of W3C Trace Context: its trace-id finds the request, too",
}


def head(methods: tuple[Method, ...], examples: Examples) -> str:
    """Return the reference up to the list of methods."""
    limits = Limits()
    return _HEAD.format(
        socket=SYSTEM_SOCKET,
        max_frame=format_size(limits.max_frame_bytes),
        max_batch=limits.max_batch,
        meta=table(("member", "meaning"), [(f"`{name}`", text) for name, text in _META.items()]),
        error_example=json_block(cut(examples["no_capacity"]["answer"])),
        common=", ".join(f"`{kind}`" for kind in COMMON_ERRORS),
        errors=_errors(),
        limits=_limits(limits),
        protocol=PROTOCOL,
        index=table(
            ("method", *ROLES, "summary"),
            [(_link(each), *_marks(each), each.summary) for each in methods],
        ),
    )


def _limits(limits: Limits) -> str:
    return fill(
        "Keys of `[limits]` in [superezio.toml](superezio.toml) set them. By default there may be"
        f" {limits.connections:,} connections, {limits.connections_per_uid:,} of a uid;"
        f" {limits.in_flight:,} requests in flight, {limits.in_flight_per_uid:,} of a uid and"
        f" {limits.in_flight_per_connection:,} of a connection;"
        f" {limits.requests_per_second:,} requests a second of a uid; and"
        f" {limits.subscriptions_per_uid} subscriptions of a uid and"
        f" {limits.subscriptions_per_connection} of a connection. Costly requests are not refused,"
        " but wait: what a user asks for, over however many connections, is worked on for"
        f" {TURN_NS // 1_000_000} ms before the others have their turn.",
        width=100,
    )


def _errors() -> str:
    return table(
        ("kind", "code", "meaning", "further `data`"),
        [
            (
                f"`{kind}`",
                str(cls.code),
                " ".join(cleandoc(cls.__doc__ or "").split()),
                ", ".join(f"`{name}`" for name in ERROR_DATA.get(kind, ())),
            )
            for kind, cls in BY_KIND.items()
        ],
    )


def _link(method: Method) -> str:
    return f"[`{method.name}`](#{method.name.replace('.', '')})"


def _marks(method: Method) -> Iterator[str]:
    allowed = False
    for role in ROLES:
        allowed = allowed or role == method.role
        yield "yes" if allowed else ""
