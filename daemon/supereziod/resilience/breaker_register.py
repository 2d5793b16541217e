"""Which breaker a name means, and by which rules it goes: the configuration's, or its owner's.

Other rules for a breaker, from a caller or a reload, count at once and lose nothing; a half-open
one decides by those it began with (`CircuitBreaker.set_rules`).
"""

from __future__ import annotations

from collections.abc import Callable

from superezio import wire
from superezio.errors import InvalidParamsError
from superezio.resilience.breaker_rules import BreakerRules
from supereziod.resilience.breaker_book import BreakerBook
from supereziod.resilience.breaker_settings import BreakerSettings, own_rules
from supereziod.resilience.kept_breaker import KeptBreaker
from supereziod.resilience.sharing import Owned, SharedNames


class BreakerRegister:
    """The names of all breakers, and their rules. Loop-owned."""

    def __init__(
        self, settings: BreakerSettings, book: BreakerBook, *, clock: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._book = book
        self._clock = clock
        self.names = SharedNames("breaker", settings.audiences)
        self._make_shared(clock())

    def set_settings(self, settings: BreakerSettings) -> None:
        """Go by another configuration from now on. What is known of services stays.

        A breaker that is no longer shared is forgotten, and what is held of it returns.
        """
        now_ns = self._clock()
        self._settings = settings
        self._book.limits = settings.limits
        self.names.set_audiences(settings.audiences)
        self._book.holders.forget_ways()
        for kept in self._book:
            if kept.user is None and kept.owned.name not in settings.shared:
                self._book.forget(kept)
            else:
                self._book.set_rules(kept, self.rules_of(kept.owned, kept.given), now_ns)
        self._make_shared(now_ns)

    def _make_shared(self, now_ns: int) -> None:
        for name, rules in self._settings.shared.items():
            owned = Owned(None, name)
            if self._book.get(owned) is None:
                self._book.make(owned, rules, now_ns=now_ns)

    def rules_of(self, owned: Owned, given: wire.BreakerRules | None) -> BreakerRules:
        """Return the rules for a breaker; what a caller wanted may not go with other defaults."""
        default = self._settings.default
        if owned.owner is None:
            return self._settings.shared[owned.name]
        try:
            return default if given is None else own_rules(given, default)
        except ValueError:
            return default

    def make(self, owned: Owned, given: wire.BreakerRules | None, now_ns: int) -> KeptBreaker:
        """Begin a breaker, a user's own with the rules that a caller gave, if it gave any.

        Raises InvalidParamsError that names the rule at fault, and BusyError.
        """
        rules = self._own_rules(given)
        if owned.owner is not None:
            self._book.make_room(owned.owner, now_ns)
        return self._book.make(owned, rules, given=given, now_ns=now_ns)

    def give_rules(self, kept: KeptBreaker, given: wire.BreakerRules, now_ns: int) -> None:
        """Have a user's own go by other rules. Raises InvalidParamsError."""
        rules = self._own_rules(given)
        kept.given = given
        self._book.set_rules(kept, rules, now_ns)
        self._book.mark(kept)

    def _own_rules(self, given: wire.BreakerRules | None) -> BreakerRules:
        default = self._settings.default
        try:
            return default if given is None else own_rules(given, default)
        except ValueError as error:
            raise InvalidParamsError(f"rules.{error}") from None
