"""Which limits there are, who may use them, and how a connection gets to one. All of it bounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final

from superezio.errors import InvalidParamsError, PermissionDeniedError
from superezio.resilience.rate_limiter import Budget, Scope
from superezio.wire import LimitRates
from supereziod.resilience.limit_accounts import Account, Connection, Holder, Way
from supereziod.resilience.limit_answers import needs_rates, no_limit, too_many
from supereziod.resilience.limit_memory import Remembered
from supereziod.resilience.limit_rules import LimitBounds, LimitRules, private_rules
from supereziod.resilience.named_limit import NamedLimit
from supereziod.resilience.sharing import Asker, Audience, Owned, SharedNames
from supereziod.resilience.spend import SpendBook

_WAYS_AT_MOST: Final = 64
_FOUND_AT_MOST: Final = 256
_KEY_LENGTH: Final = 128
#: So many limits and budgets are swept without a pause: about a millisecond.
_SWEPT_AT_ONCE: Final = 1000


class LimitRegistry:
    """The limits by name, the users' accounts, and the connections that hold something."""

    def __init__(
        self,
        *,
        shared: Mapping[str, LimitRules],
        names: SharedNames,
        bounds: LimitBounds,
        book: SpendBook,
        remembered: Remembered,
        currency: str,
        clock: Callable[[], int],
    ) -> None:
        self._shared = dict(shared)
        self._names = names
        self.bounds = bounds
        self.book = book
        self._remembered = remembered
        self._currency = currency
        self._clock = clock
        self.limits: dict[Owned, NamedLimit] = {}
        self.holders: dict[str, Holder] = {}
        self._accounts: dict[int, Account] = {}
        self._keys = 0
        #: What is still to be swept in this round, and how much of it.
        self._round: list[tuple[NamedLimit, int]] = []
        for owned, rates in list(remembered.rates.items()):
            if owned.owner is not None:
                self._make_private(owned, rates, self.account(owned.owner))
        for name in self._shared:
            self._make_shared(name)

    # --- the way of a request -------------------------------------------------------------------

    def find_way(self, connection: Connection, name: str, rates: LimitRates | None) -> Way:
        """Return the way of a connection to the limit that it calls `name`.

        Raises InvalidParamsError, NotFoundError, PermissionDeniedError or BusyError.
        """
        peer = connection.peer
        owned = self._names.find(name, peer)
        named = self.limits.get(owned)
        if named is None:
            if rates is None:
                raise needs_rates(name)
            named = self._new_private(owned, rates, self.account(peer.uid))
        holder = self._holder(connection)
        named.used_ns = now_ns = self._clock()
        groups = named.groups_of(peer.groups)
        fixed = tuple(named.budget(now_ns, each) for each in named.fixed_scopes(peer.uid, groups))
        way = Way(named, holder, fixed)
        if len(holder.ways) >= _WAYS_AT_MOST:
            holder.ways.clear()
        holder.ways[name] = way
        return way

    def has(self, asker: Asker, name: str) -> bool:
        """Return whether there is a limit that `asker` calls `name`.

        Raises InvalidParamsError or PermissionDeniedError.
        """
        return self._names.find(name, asker) in self.limits

    def varying_budgets(self, way: Way, session: str, key: str | None) -> tuple[Budget, ...]:
        """Return the budgets of a request, where they depend on its session or key.

        Raises InvalidParamsError or BusyError.
        """
        found = way.found.get((session, key))
        if found is None:
            check_key(key)
            scopes = list(way.named.varying_scopes(session, key))
            for scope in scopes:
                self._claim(way.named, scope, way.holder.account)
            now_ns = self._clock()
            found = (*way.fixed, *(way.named.budget(now_ns, scope) for scope in scopes))
            if len(way.found) >= _FOUND_AT_MOST:
                way.found.clear()
            way.found[session, key] = found
        return found

    def take_rates(self, named: NamedLimit, rates: LimitRates) -> bool:
        """Let a private limit go by the rates that its user gives now; return whether it does.

        A shared one has its own.
        """
        if named.owned.owner is None or rates == named.rates:
            return False
        named.set_rules(private_rules(rates, longest_block_ns=self.bounds.longest_block_ns))
        named.rates = rates
        named.apply_rules(self._clock())
        return True

    def account(self, uid: int) -> Account:
        """Return the account of a user."""
        account = self._accounts.get(uid)
        if account is None:
            account = self._accounts[uid] = Account(uid)
        return account

    # --- what is asked by name ------------------------------------------------------------------

    def resolve(self, asker: Asker, name: str, uid: int | None, *, is_admin: bool) -> NamedLimit:
        """Return the limit that `asker` calls `name`, or with `uid` that of another user.

        Where that user has none of its own, an admin gets the shared one. Raises
        NotFoundError or PermissionDeniedError.
        """
        if uid is not None and uid != asker.uid and not is_admin:
            raise PermissionDeniedError(
                f"cannot look at the limits of uid {uid}: only an admin can. Without a uid it is"
                " your own limit, or the shared one.",
                data={"needs": "admin"},
            )
        if uid is not None:
            owned = Owned(uid, name)
            if is_admin and owned not in self.limits and name in self._shared:
                owned = Owned(None, name)
        elif is_admin and name in self._shared:
            owned = Owned(None, name)
        else:
            owned = self._names.find(name, asker)
        named = self.limits.get(owned)
        if named is None:
            raise no_limit(name)
        return named

    @property
    def reservations(self) -> int:
        """How many are open, of all limits."""
        return sum(each.reservations + each.slot_reservations for each in self._accounts.values())

    def shared(self) -> list[NamedLimit]:
        """Return the limits that are shared now."""
        return [self.limits[Owned(None, name)] for name in sorted(self._shared)]

    def visible_to(self, asker: Asker, *, is_admin: bool) -> list[NamedLimit]:
        """Return what `asker` may see: own limits and those shared with it; an admin sees all."""
        return [
            named
            for owned, named in sorted(self.limits.items(), key=_by_name)
            if (owned.owner is not None or owned.name in self._shared)
            and (is_admin or self._names.may_see(owned, asker))
        ]

    # --- changes --------------------------------------------------------------------------------

    def configure(
        self,
        shared: Mapping[str, LimitRules],
        audiences: Mapping[str, Audience],
        bounds: LimitBounds,
    ) -> list[NamedLimit]:
        """Go by another configuration from now on; return the limits that it may concern.

        What is owed stays owed. Whoever waits for a limit that is shared no more, waits for
        nothing.
        """
        self._names.set_audiences(audiences)
        self._shared = dict(shared)
        self.bounds = bounds
        self.forget_ways()
        now_ns = self._clock()
        for name in self._shared:
            if Owned(None, name) not in self.limits:
                self._make_shared(name)
        changed = []
        for named in self.limits.values():
            rules = self._shared.get(named.owned.name, LimitRules(scopes={}))
            if named.owned.owner is None and rules != named.rules:
                named.set_rules(rules)
                named.apply_rules(now_ns)
                changed.append(named)
        return changed

    def forget_ways(self) -> None:
        """Have every way found anew: budgets may be others from now on."""
        for holder in self.holders.values():
            holder.ways.clear()

    def sweep(self) -> bool:
        """Forget some of what loses nothing by being forgotten; return whether to go on soon.

        A private limit is forgotten that nobody has used for long, and that owes nothing.
        """
        now_ns = self._clock()
        if not self._round:
            self._round = [(each, each.size) for each in self.limits.values()]
        left = _SWEPT_AT_ONCE
        forgotten = False
        while self._round and left > 0:
            named, size = self._round.pop()
            if size > left:
                self._round.append((named, size - left))
            forgotten |= self._sweep_one(named, now_ns, at_most=min(size, left))
            left -= size + 1
        if forgotten:
            self.forget_ways()
        if not self._round:
            for account in [each for each in self._accounts.values() if not each]:
                del self._accounts[account.uid]
        return bool(self._round)

    def close_holder(self, connection: str) -> Holder | None:
        """Forget a connection; return what it held."""
        holder = self.holders.pop(connection, None)
        if holder is not None:
            holder.ways.clear()
            del holder.account.holders[holder]
        return holder

    # --- making and forgetting ------------------------------------------------------------------

    def _holder(self, connection: Connection) -> Holder:
        holder = self.holders.get(connection.id)
        if holder is None:
            account = self.account(connection.peer.uid)
            holder = self.holders[connection.id] = Holder(account, connection.limit_ways)
            account.holders[holder] = None
        return holder

    def _make_shared(self, name: str) -> None:
        owned = Owned(None, name)
        self.limits[owned] = named = NamedLimit(
            owned,
            self._shared[name],
            book=self.book,
            currency=self._currency,
            restart=self._remembered.take(owned),
            unknown=self._remembered.unknown,
        )
        for scope in self.book.scopes(name):
            if scope.kind in ("session", "key"):
                # Whose it is was not kept; it counts for all.
                named.claimed[scope] = None
                self._keys += 1

    def _new_private(self, owned: Owned, rates: LimitRates, account: Account) -> NamedLimit:
        bounds = self.bounds
        if account.names >= bounds.names_per_uid and not self._forget_a_name(account):
            raise too_many(
                f"limits of uid {account.uid} are in use", "names_per_uid", account.names
            )
        if len(self.limits) >= bounds.names and not self._forget_a_name(account):
            raise too_many("limits are in use on this host", "names", len(self.limits))
        return self._make_private(owned, rates, account)

    def _make_private(self, owned: Owned, rates: LimitRates, account: Account) -> NamedLimit:
        rules = private_rules(rates, longest_block_ns=self.bounds.longest_block_ns)
        named = self.limits[owned] = NamedLimit(
            owned,
            rules,
            book=self.book,
            currency=self._currency,
            rates=rates,
            restart=self._remembered.take(owned),
            unknown=self._remembered.unknown,
        )
        named.used_ns = self._clock()
        account.names += 1
        return named

    def _forget_a_name(self, account: Account) -> bool:
        """Forget the oldest limit of a user's own that owes nothing and is not in use."""
        now_ns = self._clock()
        for owned, named in self.limits.items():
            if owned.owner == account.uid and named.is_idle(now_ns):
                del self.limits[owned]
                account.names -= 1
                self.forget_ways()
                return True
        return False

    def _claim(self, named: NamedLimit, scope: Scope, account: Account) -> None:
        if scope in named.claimed:
            return
        bounds = self.bounds
        if account.keys >= bounds.keys_per_uid:
            raise too_many(
                f"keys and sessions of uid {account.uid} have a budget",
                "keys_per_uid",
                account.keys,
                wait=True,
            )
        if self._keys >= bounds.keys:
            raise too_many(
                "keys and sessions of this host have a budget", "keys", self._keys, wait=True
            )
        named.claimed[scope] = account
        account.keys += 1
        self._keys += 1

    def _sweep_one(self, named: NamedLimit, now_ns: int, *, at_most: int) -> bool:
        """Forget what is idle of a limit, or all of it; return whether ways may lead to it."""
        forgotten = named.forget_idle(now_ns, at_most=at_most)
        named.rate_overshoots.forget_idle(now_ns)
        if named.spend_overshoots:
            named.spend_overshoots.forget_old()
        self._unclaim(named, at_most=at_most)
        owner = named.owned.owner
        is_old = now_ns - named.used_ns >= self.bounds.forget_after_ns
        # One that has a budget left is used: `forget_idle` has seen to that.
        if owner is None or not is_old:
            return forgotten
        if self.limits.get(named.owned) is named:
            del self.limits[named.owned]
            self.account(owner).names -= 1
        return True

    def _unclaim(self, named: NamedLimit, *, at_most: int) -> None:
        for scope in list(islice(named.claimed, at_most)):
            account = named.claimed.pop(scope)
            if named.limiter.has_budget(scope) or named.has_spent(scope):
                named.claimed[scope] = account
                continue
            named.forget_scope(scope)
            self._keys -= 1
            if account is not None:
                account.keys -= 1


def check_key(key: str | None) -> None:
    """Raise InvalidParamsError for what is no key: it is remembered, and told of in events."""
    if key is not None and not (0 < len(key) <= _KEY_LENGTH and key.isprintable()):
        raise InvalidParamsError(
            f"key has to be 1 to {_KEY_LENGTH} characters, none of which is a control character"
        )


def _by_name(item: tuple[Owned, NamedLimit]) -> tuple[str, int]:
    owned = item[0]
    return owned.name, -1 if owned.owner is None else owned.owner
