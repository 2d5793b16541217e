"""Breakers as they are written down, to be found again after a restart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec
import structlog
from msgspec import Meta, Raw, Struct

from superezio import wire
from superezio.resilience.breaker_answers import BreakerRecord
from supereziod.resilience.sharing import Owned, is_name

_ENCODER: Final = msgspec.json.Encoder()


class SavedBreaker(Struct, frozen=True, kw_only=True):
    """One breaker. `rules` are what callers asked for, where it is a user's own."""

    owner: Annotated[int, Meta(ge=0)] | None
    name: str
    rules: wire.BreakerRules | None
    record: BreakerRecord
    opened_by: Annotated[int, Meta(ge=0)] | None = None
    opened_for: wire.BreakerOpenedFor | None = None
    called: bool = True

    @property
    def owned(self) -> Owned:
        """Whose it is, and its name."""
        return Owned(self.owner, self.name)


class _Saved(Struct, kw_only=True):
    breakers: list[Raw]


def encode_one(saved: SavedBreaker) -> bytes:
    """Return one breaker as it stands in the document."""
    return _ENCODER.encode(saved)


def join(encoded: Iterable[bytes]) -> bytes:
    """Return the document."""
    return b'{"breakers":[%b]}' % b",".join(encoded)


def decode(body: bytes) -> list[SavedBreaker]:
    """Return the breakers of a document. What makes no sense is left out, and said."""
    try:
        parts = msgspec.json.decode(body, type=_Saved).breakers
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _say_lost("all breakers begin anew: what was kept of them cannot be read", error)
        return []
    found = []
    for part in parts:
        try:
            saved = msgspec.json.decode(part, type=SavedBreaker)
            if not is_name(saved.name):
                raise msgspec.ValidationError("it has no name")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            _say_lost("a breaker begins anew: what was kept of it cannot be read", error)
        else:
            found.append(saved)
    return found


def _say_lost(message: str, error: msgspec.MsgspecError | UnicodeDecodeError) -> None:
    structlog.get_logger().warning("breaker.unreadable", message=f"{message}: {error}")
