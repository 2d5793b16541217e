"""Whether nobody has more than its quota at a grant, and nobody is held to less."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from soak.truth import Asked, Held, Truth
from soak.users import GROUPS
from supereziod.leases.quotas import Quota

#: Whose quota it is: a user's or a group's, by number.
_Scope = tuple[str, int]


class QuotaJudge:
    """Sums up, each time anew, what each user and group has by the truth."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth

    def check_grant(self, held: Held) -> None:
        """No grant brings anybody above a quota that is configured."""
        uses, leases = self._uses()
        for scope, quota in self._quotas(held.asked.uid):
            if quota.vram_bytes is not None:
                over = uses[scope] - quota.vram_bytes
                assert over <= 0, f"{scope} has {over} bytes above its quota by {held.asked.name}"
            if quota.leases is not None:
                assert leases[scope] <= quota.leases, f"{scope} has {leases[scope]} leases"

    def check_refusal(self, asked: Asked, waiting: Iterable[Asked]) -> None:
        """Nobody is refused what its quotas leave it, all that wait for them included."""
        claims = [each for each in waiting if each is not asked]
        assert self._is_over(asked, claims, *self._uses()), (
            f"{asked.name} was refused what is within its quotas"
        )

    def check_turn(self, held: Held, ahead: Iterable[Asked]) -> None:
        """Nobody gets what those ahead wait for: the large would starve behind the small."""
        claims = list(ahead)
        assert not self._is_over(held.asked, claims, *self._uses(held)), (
            f"{held.asked.name} got what {[asked.name for asked in claims]} wait for of a quota"
        )

    @property
    def in_force(self) -> bool:
        """Whether there is any quota."""
        return self._truth.host.quotas.limit_anybody()

    def held_back(self, queue: Iterable[Asked], *, without: Held | None = None) -> set[str]:
        """Return who waits for a quota: those ahead have a claim on it, whatever they wait for."""
        if not self.in_force:
            return set()
        uses = self._uses(without)
        line = list(queue)
        return {
            asked.name
            for place, asked in enumerate(line)
            if self._is_over(asked, line[:place], *uses)
        }

    def _is_over(
        self, asked: Asked, claims: list[Asked], uses: Counter[_Scope], leases: Counter[_Scope]
    ) -> bool:
        for scope, quota in self._quotas(asked.uid):
            mine = [each for each in claims if scope in _scopes(each.uid)]
            need = uses[scope] + asked.need_bytes + sum(each.need_bytes for each in mine)
            if quota.vram_bytes is not None and need > quota.vram_bytes:
                return True
            if quota.leases is not None and leases[scope] + 1 + len(mine) > quota.leases:
                return True
        return False

    def _uses(self, without: Held | None = None) -> tuple[Counter[_Scope], Counter[_Scope]]:
        uses: Counter[_Scope] = Counter()
        leases: Counter[_Scope] = Counter()
        for held in self._truth.held.values():
            if held is not without:
                size = sum(held.reserved.values())
                for scope in _scopes(held.asked.uid):
                    uses[scope] += size
                    leases[scope] += 1
        return uses, leases

    def _quotas(self, uid: int) -> Iterator[tuple[_Scope, Quota]]:
        rules = self._truth.host.quotas
        yield ("user", uid), rules.by_uid.get(uid, rules.default)
        for gid in GROUPS[uid] & rules.by_gid.keys():
            yield ("group", gid), rules.by_gid[gid]


def _scopes(uid: int) -> list[_Scope]:
    return [("user", uid), *(("group", gid) for gid in GROUPS[uid])]
