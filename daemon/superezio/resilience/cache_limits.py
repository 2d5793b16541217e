"""What bounds a cache: in all, by namespace, and each value in time."""

from __future__ import annotations

from msgspec import Struct


class Quota(Struct, frozen=True):
    """How much a namespace may hold at most, and how much of it nobody else's growth evicts."""

    max_bytes: int
    max_entries: int
    guaranteed_bytes: int = 0
    guaranteed_entries: int = 0

    def __post_init__(self) -> None:
        """Refuse a quota that guarantees more than it allows.

        Raises ValueError.
        """
        if not 0 <= self.guaranteed_bytes <= self.max_bytes:
            raise ValueError("guaranteed_bytes has to be from 0 to max_bytes")
        if not 0 <= self.guaranteed_entries <= self.max_entries:
            raise ValueError("guaranteed_entries has to be from 0 to max_entries")


class Limits(Struct, frozen=True):
    """The bounds of a cache in all, and the quota of a namespace that has none of its own.

    `owner` is the quota of each owner over all its namespaces; its guaranteed part is for as many
    owners at a time as `max_promised` says, who come first. A user may have many holders.
    """

    max_bytes: int
    max_entries: int
    max_value_bytes: int
    quota: Quota
    max_fills: int = 65_536
    max_leads_per_holder: int = 1024
    max_leads_per_user: int = 65_536
    owner: Quota | None = None
    max_promised: int = 0

    def __post_init__(self) -> None:
        """Refuse bounds that make no sense.

        Raises ValueError.
        """
        if min(self.max_bytes, self.max_entries, self.max_value_bytes) < 0:
            raise ValueError("max_bytes, max_entries and max_value_bytes have to be 0 or more")
        if min(self.max_fills, self.max_leads_per_holder, self.max_leads_per_user) < 1:
            raise ValueError(
                "max_fills, max_leads_per_holder and max_leads_per_user have to be positive"
            )
        if self.quota.guaranteed_bytes or self.quota.guaranteed_entries:
            raise ValueError("only a namespace with a quota of its own is guaranteed a part")
        promised_bytes, promised_entries = self.promised
        if promised_bytes > self.max_bytes or promised_entries > self.max_entries:
            raise ValueError("what is promised to owners is more than there is")

    @property
    def promised(self) -> tuple[int, int]:
        """The bytes and the entries that are guaranteed to all owners who may be promised some."""
        if self.owner is None:
            return 0, 0
        return (
            self.owner.guaranteed_bytes * self.max_promised,
            self.owner.guaranteed_entries * self.max_promised,
        )


class Lifetime(Struct, frozen=True):
    """How long a value serves, in nanoseconds.

    It is fresh for `ttl_ns`, made shorter or longer at random by up to a tenth. From then on it
    is served for `grace_ns` while one caller refreshes it, and for `stale_if_error_ns` where a
    refresh ends in an error; both begin when it is no longer fresh.
    """

    ttl_ns: int
    grace_ns: int = 0
    stale_if_error_ns: int = 0

    def __post_init__(self) -> None:
        """Refuse times that make no sense.

        Raises ValueError.
        """
        if self.ttl_ns < 1 or self.grace_ns < 0 or self.stale_if_error_ns < 0:
            raise ValueError("ttl_ns has to be positive, grace_ns and stale_if_error_ns 0 or more")
