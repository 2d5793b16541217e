"""Who may write how much into the lane of full records, so that a flood leaves others' there.

A user has a quarter of the lane at once, and could write all of it anew once in half an hour. What
comes faster is recorded in short (see `short_records`). It is so only while something of others is
in the lane: whoever is alone there may write as fast as one can. So what a user has recorded stays
for more than 20 minutes, however fast one other user fails.
"""

from __future__ import annotations

from typing import Final

from superezio.flight.layout import UNIT_BYTES

_PERIOD_NS: Final = 1800 * 1_000_000_000
_BURST_NS: Final = _PERIOD_NS // 4
#: With so many users, those who may write a quarter again are forgotten.
_USERS: Final = 256


class LaneShares:
    """The shares of all users of a lane of so many bytes. Loop-owned.

    Places are those of the lane (see `flight.layout`): how many bytes it had taken in before.
    `end` is where the next record goes at first; what is there already counts as another's.
    """

    def __init__(self, lane_bytes: int, *, end: int) -> None:
        self._lane_bytes = lane_bytes
        self._unit_ns = UNIT_BYTES * _PERIOD_NS // lane_bytes
        #: When all that each has written is paid for.
        self._paid_ns: dict[int, int] = {}
        self._last_uid: int | None = None
        self._last_end = 0
        # That of the last one that wrote before: it is another than the last, whoever asks.
        self._other_end = end if end > lane_bytes else 0

    def has_room(self, uid: int, end: int, now_ns: int) -> bool:
        """Whether a user may write a record more, where the lane ends at the place `end`."""
        return self._paid_ns.get(uid, 0) - now_ns < _BURST_NS or self._is_alone(uid, end)

    def wrote(self, uid: int, begin: int, end: int, now_ns: int) -> None:
        """Note that a user has written what is between two places of the lane."""
        paid_ns = self._paid_ns.get(uid, 0)
        if paid_ns < now_ns:
            if not paid_ns and len(self._paid_ns) >= _USERS:
                self._forget(now_ns)
            paid_ns = now_ns
        elif paid_ns - now_ns > _BURST_NS and self._is_alone(uid, begin):
            # Who is not so for ever owes no more then than others may.
            paid_ns = now_ns + _BURST_NS
        self._paid_ns[uid] = paid_ns + (end - begin) // UNIT_BYTES * self._unit_ns
        if uid != self._last_uid:
            self._other_end, self._last_uid = max(self._last_end, self._other_end), uid
        self._last_end = end

    def _is_alone(self, uid: int, end: int) -> bool:
        of_others = self._other_end if uid == self._last_uid else self._last_end
        return end - of_others >= self._lane_bytes

    def _forget(self, now_ns: int) -> None:
        self._paid_ns = {uid: ns for uid, ns in self._paid_ns.items() if ns > now_ns}
