"""What released leases have not given back on one GPU: spoken for until a pass shows it free."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import chain

from msgspec import Struct

from supereziod.leases.shares import Pass


class Return(Struct, kw_only=True):
    """A released lease whose VRAM has not been seen free.

    `held_bytes` stay spoken for. `expected_bytes` were in use by `pids` at the release;
    `residual_bytes` of them still are. `found_bytes` is what explains those: they are more where
    the processes went on and took more.
    """

    lease: str
    held_bytes: int
    expected_bytes: int
    residual_bytes: int
    found_bytes: int
    pids: frozenset[int]
    released_ns: int

    @property
    def is_back(self) -> bool:
        """Whether at least 75 % of what was in use is free."""
        return self.residual_bytes * 4 <= self.expected_bytes

    @property
    def spoken_bytes(self) -> int:
        """What stays spoken for."""
        return max(self.held_bytes, self.residual_bytes)


class Returns:
    """The releases on one GPU that no pass has settled, oldest first.

    `pids` are their processes: they account for nothing any more, unless they belong to a holder.
    """

    def __init__(self) -> None:
        self._by_lease: dict[str, Return] = {}
        self.pids: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        """Tell whether anything is on its way back."""
        return bool(self._by_lease)

    def add(self, release: Return) -> None:
        """Wait for what a lease gives back."""
        self._by_lease[release.lease] = release
        self._gather_pids()

    def drop(self, release: Return) -> None:
        """Wait for it no more."""
        del self._by_lease[release.lease]
        self._gather_pids()

    @property
    def spoken_bytes(self) -> int:
        """What stays spoken for, in all."""
        return sum([release.spoken_bytes for release in self._by_lease.values()])

    @property
    def residual_bytes(self) -> int:
        """What is still in use, in all."""
        return sum([release.residual_bytes for release in self._by_lease.values()])

    @property
    def found_bytes(self) -> int:
        """What explains that, in all."""
        return sum([release.found_bytes for release in self._by_lease.values()])

    def spread(self, taken: Pass, risen_bytes: int, *, holders: Collection[str]) -> None:
        """Find what has not come back: what their processes still use, then what nobody lists.

        Of the `risen_bytes` that no process explains, the newest release gets its part first, as
        that has had the least time.
        """
        for release in self._by_lease.values():
            listed = taken.listed_bytes(release.pids, holders=holders)
            release.residual_bytes = min(listed, release.expected_bytes)
            release.found_bytes = listed
            risen_bytes -= listed
        for release in reversed(self._by_lease.values()):
            missing = release.expected_bytes - release.residual_bytes
            unlisted = min(max(risen_bytes, 0), missing)
            release.residual_bytes += unlisted
            release.found_bytes += unlisted
            risen_bytes -= unlisted

    def settled(self, taken_ns: int, *, timeout_ns: int) -> Iterator[Return]:
        """Go over those that a pass of after the release shows free, or used after their time."""
        for release in tuple(self._by_lease.values()):
            since = taken_ns - release.released_ns
            if since <= 0 or not (release.is_back or since >= timeout_ns):
                continue
            yield release

    def _gather_pids(self) -> None:
        pids = (release.pids for release in self._by_lease.values())
        self.pids = frozenset(chain.from_iterable(pids))
