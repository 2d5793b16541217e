"""What a fuzzed input says: lines over several connections, and what happens in between.

An input is text to read, so that what failed can be looked at and made smaller by hand:

    @1 user             from here on over connection 1, which a process of that user makes
    {"jsonrpc": ...}    is sent, with its newline, as it stands
    @cut 7              what follows is sent in pieces of so many bytes
    @wait 1500          so many milliseconds pass
    @end                connection stops sending, and is answered what it has asked
    @close              it closes, with what it has asked unanswered

All else is sent, however it looks: a line is never refused here. In what is sent, `"$lease"` and
the like stand for the newest of its kind that any answer has brought (see `KINDS`).
"""

from __future__ import annotations

import re
from typing import Final, Literal

from msgspec import Struct

#: Who connects. A guest is in no group.
USERS: Final = ("guest", "user", "other", "admin")
#: What answers bring that other requests need, by the member of the result that has it.
KINDS: Final = {
    "lease": "id",
    "permit": "permit",
    "reservation": "reservation",
    "token": "token",
    "session": "session_id",
    "subscription": "subscription",
    "waiter": "waiter",
}
_STEP: Final = re.compile(
    rb"@(?:([1-4])(?: (guest|user|other|admin))?|(cut|wait) (\d{1,5})|(end|close))"
)
_MOST_WAIT_MS: Final = 20_000


class Speak(Struct, frozen=True):
    """What follows goes over a connection; it is made, by this user, if it is not there."""

    line: int
    user: str


class Send(Struct, frozen=True):
    """A line, without its end."""

    text: bytes


class Cut(Struct, frozen=True):
    """Send in pieces of so many bytes; 0: whole."""

    size: int


class Wait(Struct, frozen=True):
    """Let time pass."""

    ms: int


class End(Struct, frozen=True):
    """The connection in use ends in one of two ways."""

    how: Literal["end", "close"]


Step = Speak | Send | Cut | Wait | End


def parse(data: bytes) -> list[Step]:
    """Return the steps of an input, whatever it is."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [_step(line) for line in lines]


def _step(line: bytes) -> Step:
    found = _STEP.fullmatch(line)
    if found is None:
        return Send(line)
    number, user, verb, amount, end = found.groups()
    if number:
        return Speak(int(number), (user or b"user").decode())
    if verb == b"cut":
        return Cut(int(amount))
    if verb == b"wait":
        return Wait(min(int(amount), _MOST_WAIT_MS))
    return End("end" if end == b"end" else "close")


def fill_in(text: bytes, known: dict[str, str]) -> bytes:
    """Put in what is `known`, as JSON, of each kind; what is not known yet stays as it is."""
    if b'"$' not in text:
        return text
    for kind, value in known.items():
        text = text.replace(b'"$%s"' % kind.encode(), value.encode())
    return text
