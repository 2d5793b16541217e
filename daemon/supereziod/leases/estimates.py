"""What the leases on one GPU use where the driver does not say it by process: estimated.

Estimates are made from the rest: the use that neither processes nor released leases explain. What
was there before a lease is not its use, and what released leases have not given back is nobody's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from supereziod.leases.growth import Growth, advance
from supereziod.leases.returns import Return, Returns
from supereziod.leases.shares import Part, Pass, Share


class Estimates:
    """Whose the rest is, by how it has grown with each lease.

    The leases (`parts`), their holders (`shares`) and what is on its way back (`returns`) are those
    of the GPU's account, which changes them. `opaque`: the driver does not tell the use of
    processes.
    """

    def __init__(
        self,
        parts: Mapping[str, Part],
        shares: Mapping[str, Share],
        returns: Returns,
        *,
        growing_timeout_ns: int,
    ) -> None:
        self._parts = parts
        self._shares = shares
        self._returns = returns
        self._growing_timeout_ns = growing_timeout_ns
        self.opaque = False
        #: Of the rest, what nothing explained when leases began to be given back.
        self._quiet_bytes = 0

    def begin(
        self, taken: Pass | None, *, reserved_bytes: int, restored: bool, now_ns: int
    ) -> Growth:
        """Return the growth of a lease that is granted now, or is there again (`restored`)."""
        growth = Growth(
            reserved_bytes=reserved_bytes,
            base_bytes=0 if restored else self._rest_bytes(taken),
            started_ns=now_ns,
            has_grown=restored,
        )
        if self.opaque and not restored:
            growth.start(now_ns)
        return growth

    def adopt(self, taken: Pass, holder: str, strangers: Sequence[int]) -> None:
        """Let what `strangers` use be of the holder's newest lease here, which has just begun."""
        untold = self.untold_bytes(taken, strangers)
        share = self._shares.get(holder)
        newest = next(reversed(share.parts.values()), None) if share is not None else None
        if not untold or share is None or newest is None or newest.growth.phase == "frozen":
            return
        newest.growth.base_bytes = self._rest_bytes(taken) - untold
        newest.growth.follow(untold)
        share.sum_estimates()
        share.hidden = share.shown = True

    def observe(self, taken: Pass, now_ns: int) -> None:
        """Estimate what the driver does not tell: what released leases still use goes first."""
        if taken.uses:
            self.opaque = None in taken.uses.values()
        growths = [(part.growth, self._shares[part.holder].hidden) for part in self._parts.values()]
        left = [
            growth
            for growth, hidden in growths
            if not hidden and (growth.estimate_bytes or growth.phase == "frozen")
        ]
        for growth in left:
            growth.estimate_bytes = 0
        risen = self._unexplained_bytes(taken) - self._estimated_bytes() - self._quiet_bytes
        self._returns.spread(taken, risen, holders=self._shares)
        rest = self._rest_bytes(taken)
        for growth in left:
            growth.forget(rest)
        for growth, hidden in growths:
            if hidden and growth.phase == "idle":
                growth.start(now_ns)
            elif growth.phase == "growing" and not hidden and self._is_over(growth, now_ns):
                growth.forget(rest)
        advance(
            [growth for growth, hidden in growths if hidden and growth.phase == "growing"],
            [growth for growth, _ in growths],
            rest_bytes=rest,
            now_ns=now_ns,
            timeout_ns=self._growing_timeout_ns,
        )
        for share in self._shares.values():
            share.sum_estimates()

    def _is_over(self, growth: Growth, now_ns: int) -> bool:
        """Tell whether a lease without a process here has had its time, or needs no estimate."""
        return not self.opaque or now_ns - growth.started_ns >= self._growing_timeout_ns

    def leave(self, taken: Pass | None, part: Part) -> None:
        """Take in that a lease ends, which is still among the others."""
        if not self._returns:
            # An estimate stands though some of its processes have ended: more than there is.
            self._quiet_bytes = max(0, self._unexplained_bytes(taken) - self._estimated_bytes())
        self._uncount(part)

    def settle(self, taken: Pass, release: Return) -> None:
        """Wait for a release no more: what it has not given back was there before all leases."""
        rest = self._rest_bytes(taken)
        self._returns.drop(release)
        shift = self._rest_bytes(taken) - rest
        self._quiet_bytes += shift
        for part in self._parts.values():
            if part.growth.phase != "frozen":
                part.growth.base_bytes += shift

    def untold_bytes(self, taken: Pass, strangers: Collection[int]) -> int:
        """Return what these use where the driver does not tell it by process.

        It is what nothing else explains, if nobody else's use is untold there; else 0: whose it is
        cannot be said.
        """
        untold = [pid for pid, used in taken.uses.items() if used is None]
        if not untold or not all(pid in strangers for pid in untold):
            return 0
        return max(0, self._rest_bytes(taken) - self._estimated_bytes())

    def _unexplained_bytes(self, taken: Pass | None) -> int:
        if taken is None:
            return 0
        return taken.unexplained_bytes(holders=self._shares, returning=self._returns.pids)

    def _estimated_bytes(self) -> int:
        return sum(part.growth.estimate_bytes for part in self._parts.values())

    def _rest_bytes(self, taken: Pass | None) -> int:
        """Return what neither processes nor releases explain: what estimates are made from."""
        return self._unexplained_bytes(taken) - self._returns.found_bytes

    def _uncount(self, part: Part) -> None:
        """Take a part's estimate out of what was there before the leases that may still grow."""
        gone, leaves = part.growth, list(self._parts.values())
        if gone.phase != "frozen":
            leaves = leaves[leaves.index(part) + 1 :]
        for other in leaves:
            growth = other.growth
            if growth is not gone and growth.phase != "frozen":
                lowest = min(gone.base_bytes, growth.base_bytes)
                growth.base_bytes = max(lowest, growth.base_bytes - gone.estimate_bytes)
