"""The cache that stands in for the daemon's, in this process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from superezio import wire
from superezio.errors import FillFailedError, FillTimeoutError
from superezio.guarding.pending import Pending
from superezio.resilience.cache import Cache
from superezio.resilience.cache_answers import (
    Answer,
    Failed,
    Filled,
    Hit,
    Join,
    Lead,
    Outcome,
    Refused,
    Stale,
    TimedOut,
    Token,
    Value,
)
from superezio.resilience.cache_limits import Lifetime, Limits, Quota

_MS_NS: Final = 1_000_000
_MAX_BYTES: Final = 64 << 20
_MAX_VALUE_BYTES: Final = 8 << 20
_MAX_ENTRIES: Final = 10_000
#: The one holder of all tokens: what is in this process ends with it.
_HOLDER: Final = "this process"


class LocalCache:
    """Namespaces of one process, 64 MiB and 10,000 entries in all."""

    def __init__(self) -> None:
        self._cache = Cache(
            Limits(
                max_bytes=_MAX_BYTES,
                max_entries=_MAX_ENTRIES,
                max_value_bytes=_MAX_VALUE_BYTES,
                quota=Quota(_MAX_BYTES, _MAX_ENTRIES),
            )
        )
        self._tokens: dict[str, Token] = {}
        self._waiting: dict[int, tuple[Pending[wire.CacheAnswer], str]] = {}

    def get(
        self, params: wire.CacheGetParams, now_ns: int
    ) -> wire.CacheAnswer | Pending[wire.CacheAnswer]:
        answer = self._cache.get(
            params.namespace,
            params.key,
            holder=_HOLDER,
            now_ns=now_ns,
            wait_ns=params.wait_ms * _MS_NS,
            lead_ns=params.lead_ms * _MS_NS,
        )
        if isinstance(answer, Join):
            pending: Pending[wire.CacheAnswer] = Pending()
            self._waiting[answer.waiter] = (pending, params.namespace)
            return pending
        return self._answer(answer)

    def set(self, params: wire.CacheSetParams, now_ns: int) -> wire.CacheStored:
        value = Value.of(params.text if params.text is not None else params.data or b"")
        lifetime = Lifetime(
            params.ttl_ms * _MS_NS, params.grace_ms * _MS_NS, params.stale_if_error_ms * _MS_NS
        )
        if params.token is None:
            settled = self._cache.put(
                params.namespace, params.key, value, lifetime, now_ns=now_ns, tags=params.tags
            )
        elif (token := self._tokens.pop(params.token, None)) is None:
            return wire.CacheStored(accepted=False, stored=False)
        else:
            settled = self._cache.fill(
                token, value, lifetime, holder=_HOLDER, now_ns=now_ns, tags=params.tags
            )
        self._deliver(settled.outcomes)
        return wire.CacheStored(accepted=settled.accepted, stored=settled.stored)

    def fail(self, params: wire.CacheFailParams, now_ns: int) -> wire.CacheFailed:
        token = self._tokens.pop(params.token, None)
        if token is None:
            return wire.CacheFailed(accepted=False)
        to_next = params.pass_on and not self._cache.has_stand_in(token, now_ns=now_ns)
        if params.error is None or to_next:
            settled = self._cache.abandon(token, holder=_HOLDER, now_ns=now_ns)
        else:
            settled = self._cache.fail(token, params.error, holder=_HOLDER, now_ns=now_ns)
        self._deliver(settled.outcomes)
        if settled.stale is None:
            return wire.CacheFailed(accepted=settled.accepted)
        old = _with_value("stale", settled.stale.value, settled.stale.age_ns)
        return wire.CacheFailed(
            accepted=settled.accepted, text=old.text, data=old.data, age_ms=old.age_ms
        )

    def leave(self, pending: Pending[wire.CacheAnswer]) -> None:
        """Let one go that does not wait any more, if it does here."""
        for waiter, (waiting, _) in self._waiting.items():
            if waiting is pending:
                del self._waiting[waiter]
                self._cache.leave(waiter)
                return

    def turn(self, now_ns: int) -> None:
        """Answer who has waited enough, replace those that are too late."""
        if self._waiting:
            self._deliver(self._cache.expire(now_ns))

    def next_ns(self) -> int | None:
        """Return when `turn` has something to do."""
        return self._cache.next_deadline_ns() if self._waiting else None

    def _answer(self, answer: Answer) -> wire.CacheAnswer:
        match answer:
            case Hit(value, age_ns):
                return _with_value("hit", value, age_ns)
            case Stale(value, age_ns, token):
                stale = _with_value("stale", value, age_ns)
                stale.token = None if token is None else self._handed_out(token)
                return stale
            case Lead(token):
                return wire.CacheAnswer(status="lead", token=self._handed_out(token))
            case Refused() | Join():
                return wire.CacheAnswer(status="miss")

    def _handed_out(self, token: Token) -> str:
        text = str(token.generation)
        self._tokens[text] = token
        return text

    def _deliver(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            pending, namespace = self._waiting.pop(outcome.waiter)
            match outcome.answer:
                case Filled(value):
                    pending.resolve(_with_value("filled", value, 0))
                case Failed(error):
                    pending.fail(FillFailedError(str(error), data={"namespace": namespace}))
                case TimedOut():
                    pending.fail(
                        FillTimeoutError(
                            "another caller was still fetching the value when the wait ended",
                            data={"namespace": namespace},
                        )
                    )
                case Lead() | Stale() as answer:
                    pending.resolve(self._answer(answer))


def _with_value(status: wire.CacheStatus, value: Value, age_ns: int) -> wire.CacheAnswer:
    content = value.content
    return wire.CacheAnswer(
        status=status,
        text=content if isinstance(content, str) else None,
        data=content if isinstance(content, bytes) else None,
        age_ms=age_ns // _MS_NS,
    )
