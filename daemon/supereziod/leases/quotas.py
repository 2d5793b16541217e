"""How much a user, and the members of a group together, may have leased at a time.

A user's leases count for the user, and for each group that the user was in, by the kernel's word,
when it connected to ask: a group's quota is one for all its members. All quotas that apply have to
hold. An admin is held to none, for who may raise a quota is not stopped by one, and takes nothing
from what the members of its groups share.

What is over its quota may still wait. It then keeps its place, but no GPU from those behind it.
Those behind who share a quota get of it what those ahead, for whatever they wait, leave over: the
large would starve behind the small otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from msgspec import Struct

from superezio.errors import QuotaExceededError
from superezio.quantities import format_size
from superezio.wire import Placement, QuotaList, QuotaUse
from supereziod.leases.capacity import Subject
from supereziod.leases.queue import HeldBack, LeaseQueue, Waiting


class Quota(Struct, frozen=True, kw_only=True):
    """What may be leased at a time: bytes of VRAM over all GPUs, and leases. None: no limit."""

    vram_bytes: int | None = None
    leases: int | None = None


class GroupQuota(Quota, frozen=True, kw_only=True):
    """The quota of a group, and the name it is configured under."""

    name: str


class QuotaRules(Struct, frozen=True, kw_only=True):
    """The quotas of a host. `default` is for users who have none of their own."""

    default: Quota = Quota()
    by_uid: dict[int, Quota] = {}
    by_gid: dict[int, GroupQuota] = {}

    def limit_anybody(self) -> bool:
        """Tell whether there is any quota at all."""
        return bool(self.by_uid or self.by_gid) or self.default != Quota()


class Breach(Struct, frozen=True, kw_only=True):
    """A quota that stands against a lease; `lasting`: it would if nothing else were leased."""

    message: str
    lasting: bool
    data: dict[str, Any]

    def error(self) -> QuotaExceededError:
        """Return what to tell whoever does not wait."""
        return QuotaExceededError(f"cannot lease: {self.message}", data=self.data)


class _Over(NamedTuple):
    """A quota that would be exceeded, and by what; `scope` is its kind and whose it is."""

    scope: tuple[str, str]
    resource: str
    limit: int
    has: int
    waits: int
    needs: int

    @property
    def is_lasting(self) -> bool:
        """Whether it would be exceeded if nothing else were leased."""
        return self.needs > self.limit


class _Use(Struct, kw_only=True):
    vram_bytes: int = 0
    leases: int = 0

    def add(self, vram_bytes: int, leases: int = 1) -> None:
        self.vram_bytes += vram_bytes
        self.leases += leases


class _Uses:
    """Sums by user and by group."""

    def __init__(self) -> None:
        self.by_uid: dict[int, _Use] = {}
        self.by_gid: dict[int, _Use] = {}

    def add(self, subject: Subject, vram_bytes: int) -> None:
        self.by_uid.setdefault(subject.uid, _Use()).add(vram_bytes)
        for gid in subject.shares:
            self.by_gid.setdefault(gid, _Use()).add(vram_bytes)

    def drop(self, subject: Subject, vram_bytes: int) -> None:
        _take(self.by_uid, subject.uid, vram_bytes)
        for gid in subject.shares:
            _take(self.by_gid, gid, vram_bytes)


class Quotas:
    """What is leased, by user and by group, beside what may be. Owned by the event loop.

    Leases count whether or not a quota applies to them, so that `set_rules` has all it needs.
    """

    def __init__(self, rules: QuotaRules | None = None) -> None:
        self.set_rules(rules or QuotaRules())
        self._uses = _Uses()
        self._leases: dict[str, tuple[Subject, int]] = {}

    def set_rules(self, rules: QuotaRules) -> None:
        """Hold what comes to other quotas. Leases that are over them stand."""
        self._rules = rules
        #: Whether there is any quota at all.
        self.in_force = rules.limit_anybody()

    def add(self, lease: str, subject: Subject, vram_bytes: int) -> None:
        """Count a lease."""
        self._leases[lease] = subject, vram_bytes
        self._uses.add(subject, vram_bytes)

    def remove(self, lease: str) -> None:
        """Count a lease no more."""
        subject, vram_bytes = self._leases.pop(lease)
        self._uses.drop(subject, vram_bytes)

    def change(self, lease: str, vram_bytes: int) -> None:
        """Count that many bytes for a lease from now on."""
        subject, _ = self._leases[lease]
        self.remove(lease)
        self.add(lease, subject, vram_bytes)

    def breach(
        self, subject: Subject, vram_bytes: int, *, ahead: _Uses | None = None
    ) -> Breach | None:
        """Return the quota that one more lease would break; None if none.

        `ahead` is what those ahead are to get of it.
        """
        over = self.over(subject, vram_bytes, ahead=ahead or _NOBODY)
        return None if over is None else _breach(over)

    def over(self, subject: Subject, vram_bytes: int, *, ahead: _Uses) -> _Over | None:
        """Return as figures what `breach` returns in words: quicker, for a walk past many.

        Of several it is one that no wait mends, if there is one.
        """
        if subject.exempt or not self.in_force:
            return None
        first: _Over | None = None
        for scope, quota, used, claimed in self._applying(subject, ahead):
            for resource, limit, has, waits, needs in (
                ("vram", quota.vram_bytes, used.vram_bytes, claimed.vram_bytes, vram_bytes),
                ("leases", quota.leases, used.leases, claimed.leases, 1),
            ):
                if limit is not None and has + waits + needs > limit:
                    over = _Over(scope, resource, limit, has, waits, needs)
                    if over.is_lasting:
                        return over
                    first = first or over
        return first

    def of(self, subject: Subject) -> QuotaList:
        """Return the quotas that apply to somebody, and what is leased of each now."""
        return QuotaList(
            exempt=subject.exempt,
            quotas=[
                QuotaUse(
                    scope="group" if kind == "group" else "user",
                    name=name if kind == "group" else str(subject.uid),
                    vram_limit_bytes=quota.vram_bytes,
                    vram_used_bytes=used.vram_bytes,
                    leases_limit=quota.leases,
                    leases_used=used.leases,
                )
                for (kind, name), quota, used, _ in self._applying(subject, _NOBODY)
            ],
        )

    def newcomer(
        self, subject: Subject, vram_bytes: int, *, queue: LeaseQueue, priority: int
    ) -> Breach | None:
        """Return the quota that a newcomer of that priority would break."""
        if subject.exempt or not self.in_force:
            return None
        line = self.line()
        for waiting in queue.ahead(priority=priority):
            line.holds_back(waiting)
        return line.breach(subject, vram_bytes)

    def line(self) -> QuotaLine:
        """Return what is to walk along the queue, once."""
        return QuotaLine(self)

    def limit_vram_of(self, subject: Subject) -> bool:
        """Tell whether there is a limit to the VRAM that somebody may have."""
        if subject.exempt or not self.in_force:
            return False
        applying = self._applying(subject, _NOBODY)
        return any(quota.vram_bytes is not None for _, quota, _, _ in applying)

    def _applying(
        self, subject: Subject, ahead: _Uses
    ) -> Iterator[tuple[tuple[str, str], Quota, _Use, _Use]]:
        uid, rules = subject.uid, self._rules
        own = rules.by_uid.get(uid, rules.default)
        uses, claims = self._uses, ahead
        yield (
            ("user", f"uid {uid}"),
            own,
            uses.by_uid.get(uid, _NOTHING),
            claims.by_uid.get(uid, _NOTHING),
        )
        if not rules.by_gid:
            return
        for gid in sorted(subject.groups & rules.by_gid.keys()):
            group = rules.by_gid[gid]
            yield (
                ("group", group.name),
                group,
                uses.by_gid.get(gid, _NOTHING),
                claims.by_gid.get(gid, _NOTHING),
            )


class QuotaLine:
    """One walk along the queue: who is over a quota, the claims of those ahead included."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self._claims = _Uses()

    def look(self, waiting: Waiting) -> Breach | None:
        """Return the quota that keeps the next in the queue back."""
        over = self._pass(waiting)
        return None if over is None else _breach(over)

    def breach(self, subject: Subject, vram_bytes: int) -> Breach | None:
        """Return the quota that one more lease would break, behind those that were looked at."""
        return self._quotas.breach(subject, vram_bytes, ahead=self._claims)

    @property
    def held_back(self) -> HeldBack | None:
        """What to ask of each in the queue; None where no quota is in force."""
        return self.holds_back if self._quotas.in_force else None

    def holds_back(self, waiting: Waiting) -> bool:
        """Tell whether the next in the queue is over a quota."""
        return self._pass(waiting) is not None

    def _pass(self, waiting: Waiting) -> _Over | None:
        subject = waiting.subject
        if subject is None:
            return None
        vram_bytes = waiting.request.total_bytes
        over = self._quotas.over(subject, vram_bytes, ahead=self._claims)
        # Also of one that waits for room alone: it would be over its quota once there is room.
        self._claims.add(subject, vram_bytes)
        return over


def withhold(placement: Placement, breach: Breach | None) -> Placement:
    """Return the placement as it is under a quota: it grants nothing, and says which quota."""
    if breach is None or placement.decision == "never":
        return placement
    for reason in placement.gpus:
        if reason.chosen:
            reason.chosen = False
            reason.code = "fits"
            reason.message = "has room, but a quota stands against it"
    placement.decision = "never" if breach.lasting else "wait"
    placement.chosen = []
    placement.reserved = {}
    placement.split_ratio = []
    placement.tensor_split = None
    placement.quota = placement.summary = breach.message
    return placement


_NOTHING = _Use()
_NOBODY = _Uses()


def _take(uses: dict[int, _Use], key: int, vram_bytes: int) -> None:
    use = uses[key]
    use.add(-vram_bytes, -1)
    if not use.leases:
        del uses[key]


def _breach(over: _Over) -> Breach:
    (kind, name), resource, limit, has, waits, needs = over
    say: Callable[[int], str] = format_size if resource == "vram" else _leases
    whose = f"the quota of {'group ' if kind == 'group' else ''}{name} is {say(limit)}"
    if over.is_lasting:
        message = f"{whose}, and {say(needs)} can never be had within it"
    elif waits:
        message = (
            f"{whose}, of which {say(has)} are leased and {say(waits)} asked for before"
            f" these {say(needs)}"
        )
    else:
        message = f"{whose}, of which {say(has)} are leased, and this needs {say(needs)}"
    return Breach(
        message=message,
        lasting=over.is_lasting,
        data={
            "scope": kind,
            "name": name,
            "resource": resource,
            "limit": limit,
            "used": has,
            "needed": needs,
        },
    )


def _leases(count: int) -> str:
    return "1 lease" if count == 1 else f"{count} leases"
