"""A namespace of the cache: its quota, what it holds, who fills its keys, and its counters."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from superezio.resilience.cache_answers import Value
from superezio.resilience.cache_counters import Counters
from superezio.resilience.cache_limits import Quota
from superezio.resilience.ends import Ends
from superezio.resilience.fills import Pending

if TYPE_CHECKING:
    from superezio.resilience.owners import Owner

#: What an entry takes at most besides its key, its value and its tags: measured where keys come
#: and go, which leaves gaps in the tables, and rounded up.
ENTRY_OVERHEAD_BYTES: Final = 1152
#: What each tag of an entry takes besides its text, where no other entry has it.
TAG_OVERHEAD_BYTES: Final = 448


class Tagged:
    """The entries of a namespace that have a tag, up to its deletion.

    Then all of them are outdated at once, however many they are, though each takes its room until
    it has gone. What gets the tag later is in another one.
    """

    __slots__ = ("entries", "is_deleted", "tag")

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.entries: dict[str, Entry] = {}
        self.is_deleted = False

    @property
    def count(self) -> int:
        """How many entries there are."""
        return len(self.entries)

    def next_to_go(self) -> Entry:
        """Return one that goes before the others: its place here is gone already."""
        return self.entries.popitem()[1]


class Entry:
    """A value that is kept, with what it takes and until when it serves."""

    __slots__ = (
        "dead_at_ns",
        "fresh_until_ns",
        "grace_until_ns",
        "is_guaranteed",
        "key",
        "number",
        "size",
        "space",
        "stored_ns",
        "tagged",
        "tags",
        "value",
    )

    def __init__(
        self,
        space: Namespace,
        key: str,
        value: Value,
        *,
        tags: tuple[str, ...],
        stored_ns: int,
        fresh_until_ns: int,
        grace_ns: int,
        stale_if_error_ns: int,
    ) -> None:
        self.space = space
        self.key = key
        self.value = value
        self.tags = tags
        self.size = entry_bytes(key, value, tags)
        self.stored_ns = stored_ns
        self.fresh_until_ns = fresh_until_ns
        self.grace_until_ns = fresh_until_ns + grace_ns
        self.dead_at_ns = fresh_until_ns + max(grace_ns, stale_if_error_ns)
        self.is_guaranteed = False
        self.number = 0
        #: What it is in by its tags, while it is kept.
        self.tagged: tuple[Tagged, ...] = ()

    @property
    def is_outdated(self) -> bool:
        """Whether all with one of its tags were deleted: it is not served, and has to go."""
        return any(each.is_deleted for each in self.tagged)


class Namespace:
    """The entries of one namespace in the order of their use, and the fills of its keys.

    `guaranteed` are those that no other namespace's growth evicts, `shared` the others, which are
    first to go. One that has an `owner` shares that one's guaranteed part with its others.
    """

    __slots__ = (
        "cleared",
        "counters",
        "ends",
        "guaranteed",
        "guaranteed_bytes",
        "name",
        "owner",
        "pending",
        "quota",
        "shared",
        "tagged",
        "used_bytes",
    )

    def __init__(self, name: str, quota: Quota, owner: Owner | None = None) -> None:
        self.name = name
        self.quota = quota
        self.owner = owner
        self.counters = Counters()
        self.guaranteed: OrderedDict[str, Entry] = OrderedDict()
        self.guaranteed_bytes = 0
        self.shared: OrderedDict[str, Entry] = OrderedDict()
        self.used_bytes = 0
        self.tagged: dict[str, Tagged] = {}
        #: What was deleted by tag and has still to go.
        self.cleared: deque[Cleared] = deque()
        self.ends = Ends()
        self.pending = Pending(name, self.counters)

    def succeed(self) -> Namespace:
        """Return one that holds nothing, in the place of this one, which counts alone from now."""
        successor = Namespace(self.name, self.quota, self.owner)
        successor.counters, successor.pending = self.counters, self.pending
        self.counters, self.quota = Counters(), Quota(0, 0)
        return successor

    @property
    def count(self) -> int:
        """How many entries there are."""
        return len(self.guaranteed) + len(self.shared)

    @property
    def guaranteed_count(self) -> int:
        """How many of them no other's growth evicts."""
        return len(self.guaranteed)

    def oldest_guaranteed(self) -> Entry:
        """Return what was used least recently of the guaranteed part. There has to be one."""
        return next(iter(self.guaranteed.values()))

    def next_to_go(self) -> Entry:
        """Return what goes first of one that was cleared. There has to be one."""
        return self.least_recently_used()

    def find(self, key: str) -> Entry | None:
        """Return the entry of a key, whether it may still serve or not."""
        return self.shared.get(key) or self.guaranteed.get(key)

    def least_recently_used(self) -> Entry:
        """Return the entry that goes first where the quota is full. There has to be one."""
        return next(iter((self.shared or self.guaranteed).values()))


#: What was deleted in one step, and goes a few at a time.
Cleared = Namespace | Tagged


def entry_bytes(key: str, value: Value, tags: Iterable[str] = ()) -> int:
    """Return what an entry counts against all bounds, in bytes."""
    size = ENTRY_OVERHEAD_BYTES + _text_bytes(key) + len(value.data)
    for tag in tags:
        size += TAG_OVERHEAD_BYTES + _text_bytes(tag)
    return size


def _text_bytes(text: str) -> int:
    """Return the most that Python takes for a text: one wide character makes all of them wide."""
    return len(text) if text.isascii() else 4 * len(text)
