"""What bounds the cache for its callers, and what they ask for, held to that."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from superezio.errors import InvalidParamsError
from superezio.resilience.cache_answers import Value
from superezio.resilience.cache_limits import Lifetime, Limits
from superezio.wire import CacheSetParams

_MS: Final = 1_000_000
#: Of a leader's message that is handed on.
_MESSAGE_LENGTH: Final = 500


class CacheRules(Struct, frozen=True, kw_only=True):
    """The bounds. `limits` are those of the pure part; the rest is for callers.

    Times are in nanoseconds, lengths in characters.
    """

    limits: Limits
    namespaces_per_uid: int = 64
    waiters_per_uid: int = 2048
    key_length: int = 512
    tags: int = 16
    tag_length: int = 128
    max_ttl_ns: int = 30 * 86_400 * 1_000_000_000
    max_wait_ns: int = 3600 * 1_000_000_000
    max_lead_ns: int = 3600 * 1_000_000_000

    def check_key(self, key: str) -> None:
        """Raise InvalidParamsError for what is no key."""
        if not 0 < len(key) <= self.key_length:
            raise InvalidParamsError(
                f"key has to be 1 to {self.key_length} characters long, not {len(key)}: a digest of"
                " what is longer does as well"
            )

    def check_tag(self, tag: str) -> None:
        """Raise InvalidParamsError for what is no tag."""
        if not 0 < len(tag) <= self.tag_length:
            raise InvalidParamsError(
                f"a tag has to be 1 to {self.tag_length} characters long, not {len(tag)}"
            )

    def check_tags(self, tags: list[str]) -> None:
        """Raise InvalidParamsError for tags that a value cannot have."""
        if len(tags) > self.tags:
            raise InvalidParamsError(f"a value may have up to {self.tags} tags, not {len(tags)}")
        for tag in tags:
            self.check_tag(tag)

    def wait_ns(self, wait_ms: int) -> int:
        """Return how long a caller waits, which is no longer than it may.

        Raises InvalidParamsError.
        """
        return _time("wait_ms", wait_ms, least=0, most_ns=self.max_wait_ns)

    def lead_ns(self, lead_ms: int) -> int:
        """Return how long a caller may lead. Raises InvalidParamsError."""
        return _time("lead_ms", lead_ms, least=1, most_ns=self.max_lead_ns)

    def lifetime(self, params: CacheSetParams) -> Lifetime:
        """Return how long a value serves. Raises InvalidParamsError."""
        most_ns = self.max_ttl_ns
        return Lifetime(
            _time("ttl_ms", params.ttl_ms, least=1, most_ns=most_ns),
            _time("grace_ms", params.grace_ms, least=0, most_ns=most_ns),
            _time("stale_if_error_ms", params.stale_if_error_ms, least=0, most_ns=most_ns),
        )

    def cut_ttl_ms(self, ttl_ms: int) -> int | None:
        """Return how long a value is fresh, where that is less than `ttl_ms`."""
        return self.max_ttl_ns // _MS if ttl_ms * _MS > self.max_ttl_ns else None


def value_of(params: CacheSetParams) -> Value:
    """Return the value that is to be set.

    Raises InvalidParamsError where there is none, or more than one.
    """
    if (params.text is None) == (params.data is None):
        raise InvalidParamsError("a value is either text, or data in base64: give one of them")
    if params.text is None:
        return Value.of(params.data or b"")
    return Value.of(params.text)


def message_of(error: str) -> str:
    """Return what is handed on of a leader's message: one line, printable, and not too long."""
    line = " ".join(error[: 2 * _MESSAGE_LENGTH].split())
    shown = "".join(each if each.isprintable() else "?" for each in line[:_MESSAGE_LENGTH])
    return shown + (" ..." if len(line) > _MESSAGE_LENGTH else "")


def _time(name: str, ms: int, *, least: int, most_ns: int) -> int:
    if ms < least:
        raise InvalidParamsError(f"{name} has to be {least} or more, not {ms}")
    return min(ms * _MS, most_ns)
