"""What one caller, and all together, may take of the daemon."""

from __future__ import annotations

import sys
from typing import Final, Protocol

from msgspec import Struct

from superezio.framing import MAX_FRAME_BYTES
from superezio.resilience.rate_limiter import Gcra
from supereziod.rpc.turns import Turn

_SECOND_NS: Final = 1_000_000_000
_ACCOUNTS_BEFORE_SWEEP: Final = 1024
#: 20,000 at once allow 50 to be paid ahead, which leaves little of asking.
_BURST_PER_REQUEST_AHEAD: Final = 400


class Limits(Struct, frozen=True, kw_only=True):
    """The limits of the control plane. The daemon's own connection is outside all of them."""

    max_frame_bytes: int = MAX_FRAME_BYTES
    max_batch: int = 1000
    connections: int = 10_000
    #: Kept free for admins out of `connections`, so that a full table can still be looked into.
    connections_reserved: int = 64
    #: Not applied to admins.
    connections_per_uid: int = 6_000
    in_flight: int = 20_000
    #: Not applied to admins. One acquire may be waited for by many requests with its key.
    in_flight_per_uid: int = 5_000
    in_flight_per_connection: int = 256
    subscriptions_per_connection: int = 16
    #: Not applied to admins. Every event is looked at, and sent, once for each subscription.
    subscriptions_per_uid: int = 256
    #: Events kept for a subscriber that does not read; older ones are counted as lost.
    events_per_subscription: int = 1024
    #: Answers that are sent at once. A connection that leaves any of them is not read from.
    write_high_water_bytes: int = 256 * 1024
    #: A connection with more than this unread is closed.
    write_buffer_bytes: int = 8 << 20
    #: A connection that reads nothing for so long, with answers waiting, is closed.
    stall_timeout_s: float = 60.0
    #: Requests of one connection that are worked on before the others get their turn, if the
    #: time of its user's turn has not passed before (see `turns`).
    requests_per_turn: int = 256
    requests_per_second: int = 20_000
    requests_burst: int = 20_000
    #: With more than this unread over all of a user's connections, those with most are closed.
    write_buffer_per_uid_bytes: int = 64 << 20
    #: The same of all users together, of the user who has most.
    write_buffer_all_bytes: int = 256 << 20
    #: With more than this of requests that wait, whole or in part, over all of a user's
    #: connections, those with most are closed.
    read_buffer_per_uid_bytes: int = 64 << 20
    #: The same of all users together, of the user who has most.
    read_buffer_all_bytes: int = 256 << 20


class RequestRate:
    """A limit on requests a second, asked some requests ahead.

    What is paid ahead is taken off the burst, which is so never exceeded: a quarter of a percent,
    and nothing of a small one.
    """

    __slots__ = ("_ahead", "_gcra", "burst", "paid")

    def __init__(self, *, requests_per_second: int, requests_burst: int) -> None:
        self._gcra = Gcra(limit=1, period_ns=_SECOND_NS, burst=1)
        #: Requests that are paid for: each may be taken with no further question.
        self.paid = 0
        self.set_rate(requests_per_second=requests_per_second, requests_burst=requests_burst)

    def set_rate(self, *, requests_per_second: int, requests_burst: int) -> None:
        """Grant at another rate from now on; what is owed stays owed."""
        self.burst = requests_burst
        self._ahead = 1 + requests_burst // _BURST_PER_REQUEST_AHEAD
        self._gcra.set_rate(limit=requests_per_second, burst=requests_burst - self._ahead + 1)
        self.paid = min(self.paid, self._ahead - 1)

    def acquire(self, now_ns: int, cost: int = 1) -> int:
        """Take `cost` requests and return 0, or nothing and return the nanoseconds to wait."""
        if cost == 1:
            if self.paid:
                self.paid -= 1
                return 0
            if not self._gcra.acquire(now_ns, self._ahead):
                self.paid = self._ahead - 1
                return 0
        return self._gcra.acquire(now_ns, cost)

    def available(self, now_ns: int) -> int:
        """Return a cost that would pass now."""
        return self._gcra.available(now_ns)

    def is_full(self, now_ns: int) -> bool:
        """Whether the whole burst is there."""
        return self._gcra.is_full(now_ns)


class Boundless:
    """The rate of the daemon's own connection."""

    __slots__ = ("paid",)

    def __init__(self) -> None:
        self.paid = 0

    def acquire(self, now_ns: int, cost: int = 1) -> int:  # noqa: ARG002 - as a limiter's
        """Grant it."""
        return 0

    def available(self, now_ns: int) -> int:  # noqa: ARG002 - as a limiter's
        """Return more than anyone asks for at once."""
        return sys.maxsize


class Account:
    """What one uid holds and has used."""

    __slots__ = ("connections", "in_flight", "rate", "turn", "uid")

    def __init__(self, uid: int, rate: RequestRate) -> None:
        self.uid = uid
        self.rate = rate
        self.turn = Turn()
        self.connections = 0
        self.in_flight = 0


class Accounts:
    """The accounts of all uids. One that is forgotten had its whole burst back."""

    def __init__(self, *, requests_per_second: int, requests_burst: int) -> None:
        self._requests_per_second = requests_per_second
        self._requests_burst = requests_burst
        self._by_uid: dict[int, Account] = {}
        self._sweep_at = _ACCOUNTS_BEFORE_SWEEP

    def __len__(self) -> int:
        return len(self._by_uid)

    def of(self, uid: int, now_ns: int) -> Account:
        """Return the account of `uid`."""
        account = self._by_uid.get(uid)
        if account is None:
            if len(self._by_uid) >= self._sweep_at:
                self._sweep(now_ns)
            rate = RequestRate(
                requests_per_second=self._requests_per_second, requests_burst=self._requests_burst
            )
            account = self._by_uid[uid] = Account(uid, rate)
        return account

    def set_rate(self, *, requests_per_second: int, requests_burst: int) -> None:
        """Give all uids another rate."""
        self._requests_per_second = requests_per_second
        self._requests_burst = requests_burst
        for account in self._by_uid.values():
            account.rate.set_rate(
                requests_per_second=requests_per_second, requests_burst=requests_burst
            )

    def _sweep(self, now_ns: int) -> None:
        self._by_uid = {
            uid: account
            for uid, account in self._by_uid.items()
            if account.connections or not account.rate.is_full(now_ns)
        }
        self._sweep_at = max(_ACCOUNTS_BEFORE_SWEEP, 2 * len(self._by_uid))


class Counted(Protocol):
    """A connection that counts its requests."""

    requests: int


class Traffic:
    """Counters of the control plane since the daemon started."""

    __slots__ = ("_lines", "_past_requests", "connections", "in_flight", "refused_connections")

    def __init__(self) -> None:
        self.connections = 0
        self.in_flight = 0
        self.refused_connections = 0
        self._past_requests = 0
        self._lines: set[Counted] = set()

    def begin(self, line: Counted) -> None:
        """Count what comes in over a connection, too: it is looked up when it is asked for."""
        self._lines.add(line)

    def end(self, line: Counted) -> None:
        """Keep the count of a connection that is gone."""
        self._lines.discard(line)
        self._past_requests += line.requests

    @property
    def requests(self) -> int:
        """How many requests there have been."""
        return self._past_requests + sum(line.requests for line in self._lines)
