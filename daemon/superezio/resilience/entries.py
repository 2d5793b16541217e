"""The entries of all namespaces within their quotas and the total: which go to make room.

A new entry goes to the part that is guaranteed to its namespace, which no other namespace's growth
touches, and what was used least recently there moves on to the part that all share: the total less
all guaranteed parts. There the least recently used entry goes first, whoever's it is, unless its
namespace's own part has room for it again.

The namespaces of one owner have their guaranteed part together. It is taken off the part that all
share only while the owner holds something, and for so many owners at a time as it was promised to:
those that came first.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import islice
from typing import Final

from superezio.resilience.cache_counters import Cause
from superezio.resilience.cache_limits import Limits, Quota
from superezio.resilience.ends import Ends
from superezio.resilience.namespaces import Cleared, Entry, Namespace, Tagged
from superezio.resilience.owners import Owner

_NOTHING: Final = Quota(0, 0)
#: How many expired or deleted entries go at a time, though there may be many more: each store
#: adds one, so that none of them takes long and what is over still grows less.
MOST_AT_ONCE: Final = 64


class Entries:
    """Bounded by bytes and by entries at every moment; the expired go before the live.

    Expired is what may not be served any more: past its time to live, its grace and the time for
    which it stands in for an error. Of many that expire together a few go with each store, and
    the others as room is needed: of a namespace or an owner that is full, before any live one. What
    was cleared or deleted by tag goes so, too, and before the expired.
    """

    def __init__(self, limits: Limits) -> None:
        self.used_bytes = 0
        self._max_bytes = limits.max_bytes
        self._max_entries = limits.max_entries
        self._max_promised = limits.max_promised
        self._set_aside = limits.promised
        self._promised = 0
        self._declared_bytes = 0
        self._declared_entries = 0
        self._guaranteed_bytes = 0
        self._guaranteed_entries = 0
        self._shared: OrderedDict[Entry, None] = OrderedDict()
        self._shared_bytes = 0
        self._kept: dict[int, Entry] = {}
        self._ends = Ends()
        self._last_number = 0
        self._now_ns = 0
        self._cleared: deque[Cleared] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    def set_quota(self, space: Namespace, quota: Quota) -> None:
        """Give a namespace another quota, and evict what it or the total no longer holds.

        Raises ValueError where the guaranteed parts together would be more than the total.
        """
        more_bytes = quota.guaranteed_bytes - space.quota.guaranteed_bytes
        more_entries = quota.guaranteed_entries - space.quota.guaranteed_entries
        owners_bytes, owners_entries = self._set_aside
        guaranteed_bytes = self._declared_bytes + more_bytes + owners_bytes
        guaranteed_entries = self._declared_entries + more_entries + owners_entries
        if guaranteed_bytes > self._max_bytes or guaranteed_entries > self._max_entries:
            raise ValueError(
                f"cannot guarantee that much to {space.name}: all namespaces together would have "
                f"{guaranteed_bytes} bytes and {guaranteed_entries} entries guaranteed, of a total "
                f"of {self._max_bytes} bytes and {self._max_entries} entries"
            )
        self._declared_bytes += more_bytes
        self._declared_entries += more_entries
        self._guaranteed_bytes += more_bytes
        self._guaranteed_entries += more_entries
        space.quota = quota
        self._make_room_in_quota(space, 0, 0)
        self._make_room_in_guaranteed(space, 0, 0)
        self._trim_shared()

    def touch(self, entry: Entry) -> None:
        """Make an entry the one that was used last."""
        if entry.is_guaranteed:
            entry.space.guaranteed.move_to_end(entry.key)
        else:
            entry.space.shared.move_to_end(entry.key)
            self._shared.move_to_end(entry)
        if entry.space.owner is not None:
            entry.space.owner.touch(entry)

    def store(self, entry: Entry, now_ns: int) -> bool:
        """Keep an entry and return True, or return False where no eviction would make it fit.

        There must be none of that key.
        """
        self.drop_expired(now_ns)
        space, size, owner = entry.space, entry.size, entry.space.owner
        new = self._new_promise(owner)
        part = new or _part_of(space)
        guaranteed = size <= part.guaranteed_bytes and part.guaranteed_entries > 0
        if not all(_may_fit(size, each.quota) for each in (space, owner) if each is not None):
            return False
        if not (guaranteed or self._fits_shared(size, new)):
            return False
        self._make_room_in_quota(space, size, 1)
        if owner is not None:
            self._make_room_of_owner(owner, size, 1)
            self._promise(owner)
        self._add_end(entry)
        if entry.tags:
            self._tag(entry)
        space.used_bytes += size
        self.used_bytes += size
        if guaranteed:
            self._make_room_in_guaranteed(owner or space, size, 1)
            self._guarantee(entry)
        else:
            self._share(entry)
        self._trim_shared()
        return True

    def find(self, space: Namespace, key: str) -> Entry | None:
        """Return the entry of a key, be it an expired one; one that was deleted by tag goes."""
        entry = space.find(key)
        if entry is not None and space.cleared and entry.is_outdated:
            self.remove(entry, "deleted")
            return None
        return entry

    def remove(self, entry: Entry, cause: Cause) -> None:
        """Let an entry go, and count why: one that was deleted by tag goes for that alone."""
        space = entry.space
        if space.cleared and entry.is_outdated:
            cause = "deleted"
        self._unlink(entry)
        del self._kept[entry.number]
        if entry.tagged:
            _untag(entry)
        space.used_bytes -= entry.size
        self.used_bytes -= entry.size
        counters = space.counters
        setattr(counters, cause, getattr(counters, cause) + 1)
        self._settle(space)

    def delete_tag(self, space: Namespace, tag: str) -> int:
        """Let all of a namespace that have a tag go as deleted, and return how many had it.

        Of many, most are outdated and go later, as those of a namespace that was cleared: till then
        they count as held, as the expired do, and with another tag that they have.
        """
        tagged = space.tagged.pop(tag, None)
        if tagged is None:
            return 0
        count = tagged.count
        for _ in range(min(count, MOST_AT_ONCE)):
            self.remove(tagged.next_to_go(), "deleted")
        if tagged.count:
            tagged.is_deleted = True
            for cleared in (self._cleared, space.cleared):
                cleared.append(tagged)
            if space.owner is not None:
                _forget_empty(space.owner.cleared)
                space.owner.cleared.append(tagged)
        return count

    def clear(self, space: Namespace) -> Namespace:
        """Let all of a namespace go as deleted, and return what is in its place from now on.

        Of many, most are only found no more: they take their room until they go, a few with each
        store and with each `drop_expired`, and before any other.
        """
        count = space.count
        for entry in [*islice(space.shared.values(), MOST_AT_ONCE)]:
            self.remove(entry, "deleted")
        # What is guaranteed to the namespace alone is free for it at once.
        most = None if space.owner is None else max(0, MOST_AT_ONCE - count + space.count)
        for entry in [*islice(space.guaranteed.values(), most)]:
            self.remove(entry, "deleted")
        if not space.count:
            return space
        space.counters.deleted += space.count
        self._cleared.append(space)
        if space.owner is not None:
            _forget_empty(space.owner.cleared)
            space.owner.cleared.append(space)
        return space.succeed()

    @property
    def clearing(self) -> bool:
        """Whether something that was cleared, or deleted by tag, has still to go."""
        _forget_empty(self._cleared)
        return bool(self._cleared)

    def drop_expired(self, now_ns: int) -> None:
        """Let some go that may not be served any more: the deleted, then those that ended first."""
        self._now_ns = now_ns
        for _ in range(MOST_AT_ONCE):
            if not self._drop_one(self._ends, self._cleared):
                return

    def _drop_one(self, ends: Ends, cleared: deque[Cleared]) -> bool:
        """Let one of a group go that was cleared or ended first; return whether there was one."""
        _forget_empty(cleared)
        if cleared:
            self.remove(cleared[0].next_to_go(), "deleted")
            return True
        entry = ends.first_dead(self._now_ns, self._kept)
        if entry is None:
            return False
        self.remove(entry, "expired")
        return True

    def _tag(self, entry: Entry) -> None:
        among = entry.space.tagged
        groups = []
        for tag in entry.tags:
            tagged = among.get(tag)
            if tagged is None:
                tagged = among[tag] = Tagged(tag)
            tagged.entries[entry.key] = entry
            groups.append(tagged)
        entry.tagged = tuple(groups)

    def _add_end(self, entry: Entry) -> None:
        self._last_number += 1
        entry.number = self._last_number
        self._kept[entry.number] = entry
        end = (entry.dead_at_ns, entry.number)
        self._ends.add(end)
        entry.space.ends.add(end)
        if entry.space.owner is not None:
            entry.space.owner.ends.add(end)

    def _settle(self, space: Namespace) -> None:
        """Forget what is over when something of a namespace has gone."""
        _forget_empty(space.cleared)
        owner = space.owner
        if owner is not None:
            owner.ends.tidy(owner.count, self._kept)
            if not owner.count:
                self._take_back(owner)
        space.ends.tidy(space.count, self._kept)
        self._ends.tidy(len(self._kept), self._kept)

    def _make_room_in_quota(self, space: Namespace, size: int, entries: int) -> None:
        quota = space.quota
        while (
            space.used_bytes + size > quota.max_bytes or space.count + entries > quota.max_entries
        ):
            if not self._drop_one(space.ends, space.cleared):
                self.remove(space.least_recently_used(), "quota")

    def _make_room_of_owner(self, owner: Owner, size: int, entries: int) -> None:
        quota = owner.quota
        while (
            owner.used_bytes + size > quota.max_bytes or owner.count + entries > quota.max_entries
        ):
            if not self._drop_one(owner.ends, owner.cleared):
                self.remove(owner.least_recently_used(), "quota")

    def _make_room_in_guaranteed(self, whose: Namespace | Owner, size: int, entries: int) -> None:
        quota = whose.quota
        while (
            whose.guaranteed_bytes + size > quota.guaranteed_bytes
            or whose.guaranteed_count + entries > quota.guaranteed_entries
        ):
            oldest = whose.oldest_guaranteed()
            if self._fits_shared(oldest.size):
                self._unlink(oldest)
                self._share(oldest)
            else:
                self.remove(oldest, "total")

    def _fits_shared(self, size: int, besides: Quota | None = None) -> bool:
        """Whether an entry would fit if it were alone in the part that all share.

        That is less the guaranteed part of `besides`, where that is about to be promised.
        """
        part = besides or _NOTHING
        return (
            size <= self._max_bytes - self._guaranteed_bytes - part.guaranteed_bytes
            and self._max_entries > self._guaranteed_entries + part.guaranteed_entries
        )

    def _new_promise(self, owner: Owner | None) -> Quota | None:
        """Return what an owner that stores something is promised with that, if anything."""
        if owner is None or owner.promised or self._promised >= self._max_promised:
            return None
        return owner.quota

    def _promise(self, owner: Owner) -> None:
        if self._new_promise(owner) is not None:
            owner.promised = True
            self._promised += 1
            self._guaranteed_bytes += owner.quota.guaranteed_bytes
            self._guaranteed_entries += owner.quota.guaranteed_entries

    def _take_back(self, owner: Owner) -> None:
        if owner.promised:
            owner.promised = False
            self._promised -= 1
            self._guaranteed_bytes -= owner.quota.guaranteed_bytes
            self._guaranteed_entries -= owner.quota.guaranteed_entries

    def _guarantee(self, entry: Entry) -> None:
        entry.is_guaranteed = True
        entry.space.guaranteed[entry.key] = entry
        entry.space.guaranteed_bytes += entry.size
        if entry.space.owner is not None:
            entry.space.owner.add(entry)

    def _share(self, entry: Entry) -> None:
        entry.is_guaranteed = False
        entry.space.shared[entry.key] = entry
        self._shared[entry] = None
        self._shared_bytes += entry.size
        if entry.space.owner is not None:
            entry.space.owner.add(entry)

    def _unlink(self, entry: Entry) -> None:
        space = entry.space
        if space.owner is not None:
            space.owner.discard(entry)
        if entry.is_guaranteed:
            del space.guaranteed[entry.key]
            space.guaranteed_bytes -= entry.size
        else:
            del space.shared[entry.key]
            del self._shared[entry]
            self._shared_bytes -= entry.size

    def _trim_shared(self) -> None:
        most_bytes = self._max_bytes - self._guaranteed_bytes
        most_entries = self._max_entries - self._guaranteed_entries
        expired = MOST_AT_ONCE
        while self._shared_bytes > most_bytes or len(self._shared) > most_entries:
            # One that has expired may be of another's guaranteed part, and make no room here.
            if expired and self._drop_one(self._ends, self._cleared):
                expired -= 1
                continue
            oldest = next(iter(self._shared))
            if self._has_guaranteed_room(oldest):
                self._unlink(oldest)
                self._guarantee(oldest)
                oldest.space.guaranteed.move_to_end(oldest.key, last=False)
                if oldest.space.owner is not None:
                    oldest.space.owner.make_oldest(oldest)
            else:
                self.remove(oldest, "total")

    def _has_guaranteed_room(self, entry: Entry) -> bool:
        whose, quota = entry.space.owner or entry.space, _part_of(entry.space)
        return (
            whose.guaranteed_bytes + entry.size <= quota.guaranteed_bytes
            and whose.guaranteed_count < quota.guaranteed_entries
        )


def _untag(entry: Entry) -> None:
    for tagged in entry.tagged:
        tagged.entries.pop(entry.key, None)
        if not tagged.entries and entry.space.tagged.get(tagged.tag) is tagged:
            del entry.space.tagged[tagged.tag]


def _part_of(space: Namespace) -> Quota:
    """Return the quota whose guaranteed part the entries of a namespace may be in."""
    if space.owner is None:
        return space.quota
    return space.owner.quota if space.owner.promised else _NOTHING


def _may_fit(size: int, quota: Quota) -> bool:
    return size <= quota.max_bytes and quota.max_entries > 0


def _forget_empty(cleared: deque[Cleared]) -> None:
    """Forget those of which nothing is left, up to the first of which something is."""
    while cleared and not cleared[0].count:
        cleared.popleft()
