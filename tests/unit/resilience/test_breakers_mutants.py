"""The tests of shared breakers see each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
MODEL = [HERE / "test_breakers_model.py"]
EXAMPLES = [
    HERE / f"test_{name}.py"
    for name in (
        "breakers",
        "breaker_names",
        "breaker_rules",
        "breaker_restart",
        "breaker_reports",
        "event_rate",
    )
]

BREAKERS = "supereziod.resilience.breakers"
ADMINISTRATION = "supereziod.resilience.breaker_administration"
REGISTER = "supereziod.resilience.breaker_register"
REPORTS = "supereziod.resilience.breaker_reports"
BOOK = "supereziod.resilience.breaker_book"
KEPT = "supereziod.resilience.kept_breaker"
EVENTS = "supereziod.resilience.breaker_events"
HOLDERS = "supereziod.resilience.permit_holders"
RECORDS = "supereziod.resilience.breaker_records"
SETTINGS = "supereziod.resilience.breaker_settings"
PURE = "superezio.resilience.circuit_breaker"

#: Those that the model has to see: what is lost, and whose it is.
MODELLED = (
    Mutant(
        "lets anyone settle what is out",
        BREAKERS,
        "breaker.settle(params.permit, _OUTCOMES[outcome], now_ns, holder)",
        "breaker.settle(params.permit, _OUTCOMES[outcome], now_ns)",
    ),
    Mutant(
        "keeps what a connection held that ended",
        BOOK,
        "        for kept in tuple(holder.of):\n            self.expire(kept, now_ns)\n",
        "        for kept in ():\n            self.expire(kept, now_ns)\n",
    ),
    Mutant(
        "takes back what a connection held of one breaker alone",
        BOOK,
        "for kept in tuple(holder.of):",
        "for kept in tuple(holder.of)[:1]:",
    ),
    Mutant(
        "forgets who holds a permit that is settled",
        BREAKERS,
        "        holder.give_back(kept)\n",
        "",
    ),
    Mutant(
        "counts a permit that time took back as out",
        BOOK,
        "                permit.holder.give_back(kept)\n",
        "                pass\n",
    ),
    Mutant(
        "goes on with who may use what, once it was found",
        REGISTER,
        "        self._book.holders.forget_ways()\n",
        "",
    ),
    Mutant(
        "takes one user's name for all users'",
        "supereziod.resilience.sharing",
        "own = self._private[uid, name] = Owned(uid, name)",
        "own = self._private[uid, name] = Owned(1000, name)",
    ),
    Mutant(
        "lets those who share a breaker decide over it",
        ADMINISTRATION,
        "if owned.owner is None and not who.is_admin:",
        "if owned.owner is None and not who.asker:",
    ),
    Mutant(
        "lets anyone name another user",
        ADMINISTRATION,
        "if uid is not None and uid != who.asker.uid and not who.is_admin:\n            raise",
        "if uid is not None and uid != who.asker.uid and not who.is_admin:\n"
        "            return Owned(uid, name)\n            raise",
    ),
    Mutant(
        "never sets the timer for a half-open breaker",
        BREAKERS,
        "        if answer.transitions or now_ns + breaker.rules.permit_ttl_ns < kept.due_ns:",
        "        if now_ns + breaker.rules.permit_ttl_ns < kept.due_ns:",
    ),
    Mutant(
        "never sets the timer for a permit",
        BREAKERS,
        "        if answer.transitions or now_ns + breaker.rules.permit_ttl_ns < kept.due_ns:",
        "        if answer.transitions:",
    ),
    Mutant(
        "does not make up for what is due before a settle",
        BREAKERS,
        "        if now_ns >= kept.due_ns:\n            book.expire(kept, now_ns)\n"
        "        if holder is None:",
        "        if holder is None:",
    ),
    Mutant(
        "does not make up for what is due before an acquire",
        BREAKERS,
        "        if now_ns >= kept.due_ns:\n            book.expire(kept, now_ns)\n        limits",
        "        limits",
    ),
    Mutant(
        "sees no more due after the timer came once",
        BOOK,
        "kept.breaker.expire(now_ns))\n        self.arm(kept, now_ns)\n",
        "kept.breaker.expire(now_ns))\n",
    ),
    Mutant(
        "counts 429 as a failure",
        BREAKERS,
        '    "throttled": "ignore",',
        '    "throttled": "failure",',
    ),
    Mutant(
        "does not block for 429",
        BREAKERS,
        '        if outcome == "throttled":\n            moved +=',
        "        if outcome is None:\n            moved +=",
    ),
    Mutant(
        "leaves out 429 of calls that began before it opened",
        BREAKERS,
        '        if outcome == "throttled":\n',
        '        if outcome == "throttled" and settlement.effect == "settled":\n',
    ),
    Mutant(
        "takes milliseconds for nanoseconds",
        BREAKERS,
        "None if retry_after_ms is None else retry_after_ms * _MILLISECOND",
        "retry_after_ms",
    ),
    Mutant(
        "begins anew with each start",
        BREAKERS,
        "        if body is not None:\n",
        "        if body is None:\n",
    ),
    Mutant(
        "does not tell of what a restart brings about",
        BOOK,
        "            self.moved(kept, moved, now_ns)\n\n    def snapshot",
        "            self.arm(kept, now_ns)\n\n    def snapshot",
    ),
    Mutant(
        "writes down what was and not what is",
        BOOK,
        "        kept.record = None\n        self._changed = True\n",
        "        self._changed = True\n",
    ),
    Mutant(
        "does not notice that there is something to write",
        BOOK,
        "        kept.record = None\n        self._changed = True\n",
        "        kept.record = None\n",
    ),
    Mutant(
        "takes the clock of another boot for its own",
        BOOK,
        "kept.breaker.load(saved.record, now_ns, boot_id=self._boot_id)",
        "kept.breaker.load(saved.record, now_ns, boot_id=saved.record.boot_id)",
    ),
    Mutant(
        "tells of a transition by whatever request is worked on",
        EVENTS,
        "        if cause == correlation_id():\n",
        "        if True:\n",
    ),
    Mutant(
        "tells everyone of what is private",
        EVENTS,
        "            uid=owned.owner,\n",
        "",
    ),
    Mutant(
        "forgets the rules that a caller gave when it restarts",
        BOOK,
        "rules=kept.given,",
        "rules=None,",
    ),
)
EXEMPLIFIED = (
    Mutant(
        "begins anew with other rules",
        BOOK,
        "        self.moved(kept, kept.breaker.set_rules(rules, now_ns), now_ns)\n",
        "        kept.breaker = CircuitBreaker(rules, now_ns=now_ns)\n",
    ),
    Mutant(
        "lets a caller change the rules of a shared one",
        BREAKERS,
        "return rules != kept.given and kept.user is not None",
        "return rules != kept.given",
    ),
    Mutant(
        "sends all back at once",
        BREAKERS,
        "        wait_ns += int(min(wait_ns * _SPREAD, _MOST_SPREAD_NS) * self._spread())\n",
        "",
    ),
    Mutant(
        "sends some back too early",
        BREAKERS,
        "        wait_ns += int(",
        "        wait_ns -= int(",
    ),
    Mutant(
        "sends some back much too late",
        BREAKERS,
        "min(wait_ns * _SPREAD, _MOST_SPREAD_NS)",
        "wait_ns * _SPREAD",
    ),
    Mutant(
        "tells those who ask at the end to wait no time",
        BREAKERS,
        "wait_ms = milliseconds.rounded_up(wait_ns)\n        name",
        "wait_ms = wait_ns // _MILLISECOND\n        name",
    ),
    Mutant(
        "tells of each step of a user's own breaker, however fast",
        EVENTS,
        "        if besides is None:\n            return\n",
        "        besides = besides or {}\n",
    ),
    Mutant(
        "lets one user cut what is told of others in a shared one",
        "supereziod.resilience.event_rate",
        "        uid = by if owner is None else owner\n",
        "        uid = owner\n",
    ),
    Mutant(
        "cuts what an admin does to a shared one",
        "supereziod.resilience.breaker_events",
        "        if owned.owner is None and step.reason in _ORDERED:\n",
        "        if owned.owner is None and not step.reason:\n",
    ),
    Mutant(
        "tells of what it left out again and again",
        "supereziod.resilience.event_rate",
        "left_out, user.left_out = user.left_out, 0",
        "left_out = user.left_out",
    ),
    Mutant(
        "goes on with a breaker that was forgotten",
        BREAKERS,
        "            or kept.is_gone\n",
        "",
    ),
    Mutant(
        "tells all calls that a breaker is as it was at the first",
        KEPT,
        "        if breaker.state != state or breaker.rules is not rules:\n",
        "        if not state:\n",
    ),
    Mutant(
        "has no bound for breakers",
        BOOK,
        "if len(user.own) < self.limits.breakers_per_uid:",
        "if len(user.own) >= 0:",
    ),
    Mutant(
        "forgets one that is open to make room",
        BOOK,
        'if breaker.state != "closed" or breaker.out:\n            return False',
        "if breaker.out:\n            return False",
    ),
    Mutant(
        "forgets one that is being called to make room",
        BOOK,
        'if breaker.state != "closed" or breaker.out:\n            return False',
        'if breaker.state != "closed":\n            return False',
    ),
    Mutant(
        "makes room by the one that was used last",
        BOOK,
        "            kept.user.own.move_to_end(kept)\n        self.mark(kept)",
        "            kept.user.own.move_to_end(kept, last=False)\n        self.mark(kept)",
    ),
    Mutant(
        "has no bound for the permits of a connection",
        BREAKERS,
        "            holder.permits >= limits.permits_per_connection\n",
        "            holder.permits < 0\n",
    ),
    Mutant(
        "has no bound for the permits of a user",
        BREAKERS,
        "            or holder.user.permits >= limits.permits_per_uid\n",
        "            or holder.user.permits < 0\n",
    ),
    Mutant(
        "never forgets a name",
        BOOK,
        "        if self._is_idle(kept, now_ns):\n            self.forget(kept)\n",
        "",
    ),
    Mutant(
        "forgets what its owner decided",
        BOOK,
        'and breaker.state in {"closed", "open"}\n            and breaker.retry_after',
        "and breaker.retry_after_ns(now_ns) >= 0 and breaker.retry_after",
    ),
    Mutant(
        "forgets a shared one",
        BOOK,
        "            kept.user is not None\n            and now_ns - kept.used_ns",
        "            now_ns - kept.used_ns",
    ),
    Mutant(
        "keeps users who have nothing",
        HOLDERS,
        "            self._by_uid.pop(user.uid, None)",
        "            return",
    ),
    Mutant(
        "hands out the permits of a name that was forgotten again",
        BOOK,
        "self._range = (self._range + 1) % _RANGES",
        "self._range = self._range % _RANGES",
    ),
    Mutant(
        "loses all for one that makes no sense",
        RECORDS,
        "            found.append(saved)\n    return found",
        "            found.append(saved)\n    return found if len(found) == len(parts) else []",
    ),
    Mutant(
        "says nothing of what it lost",
        RECORDS,
        "    structlog.get_logger().warning(",
        "    structlog.get_logger().debug(",
    ),
    Mutant(
        "takes any owner that a file names",
        RECORDS,
        "owner: Annotated[int, Meta(ge=0)] | None",
        "owner: int | None",
    ),
    Mutant(
        "lets a caller have any window",
        SETTINGS,
        '    "window_calls": (1, 1000),\n',
        "",
    ),
    Mutant(
        "shares a name no longer and keeps its breaker",
        REGISTER,
        "                self._book.forget(kept)\n",
        "                continue\n",
    ),
    Mutant(
        "forgets to return what is held of one that goes",
        BOOK,
        "                self._take_back(kept, kept.breaker.drop(holder, now_ns))\n        del",
        "                kept.breaker.drop(holder, now_ns)\n        del",
    ),
    Mutant(
        "opens for less than was told when its rules change",
        PURE,
        "        self._quiet_until_ns = 0\n        self._open_wait_ns = min(",
        "        self._quiet_until_ns = 0\n        self._until_ns = now_ns\n"
        "        self._open_wait_ns = min(",
    ),
    Mutant(
        "changes the rules of a half-open breaker at once",
        PURE,
        "            self._next_rules = rules\n            return moved\n",
        "            pass\n",
    ),
    Mutant(
        "never comes to the rules that a half-open breaker is to have",
        PURE,
        "self.rules, self._next_rules = self._next_rules, None",
        "self._next_rules = None",
    ),
    Mutant(
        "forgets what was recorded when its window changes",
        PURE,
        "                self._window.fill(now_ns, counts)\n        self.rules",
        "        self.rules",
    ),
    Mutant(
        "promises when one that is held open opens",
        BREAKERS,
        'if state == "forced_open":',
        "if False:",
    ),
    Mutant(
        "does not remember who opened it",
        KEPT,
        "self.opened_by = self.opened_by if by is None else by",
        "self.opened_by = None",
    ),
    Mutant(
        "forgets who opened it when time opens it again",
        KEPT,
        "self.opened_by if by is None else by",
        "by",
    ),
    Mutant(
        "names who opened it for ever",
        KEPT,
        '        elif step.state != "half_open":\n            self.opened_by = None\n',
        "",
    ),
    Mutant(
        "forgets who opened it when it is half-open",
        KEPT,
        '        elif step.state != "half_open":\n',
        "        else:\n",
    ),
    Mutant(
        "takes a restart for why it opened",
        KEPT,
        "_OPENED_FOR.get(step.reason, self.opened_for)",
        "_OPENED_FOR.get(step.reason)",
    ),
    Mutant(
        "says why it opened once it is closed",
        KEPT,
        "            self.opened_for = None\n",
        "",
    ),
    Mutant(
        "holds reports against users for ever",
        KEPT,
        "            self.reports.clear()\n",
        "            pass\n",
    ),
    Mutant(
        "forgets over a restart who opened it",
        BOOK,
        "            kept.opened_by = saved.opened_by\n",
        "",
    ),
    Mutant(
        "tells of a user's own who caused it",
        EVENTS,
        "if owned.owner is None:",
        "if True:",
    ),
    Mutant(
        "takes another connection's permit for a report",
        REPORTS,
        "if permit is None or permit.holder is not holder:",
        "if permit is None:",
    ),
    Mutant(
        "takes calls that went well for reports",
        REPORTS,
        "took_ns <= breaker.rules.slow_call_duration_ns",
        "took_ns < 0",
    ),
    Mutant(
        "does not see who reports slow calls",
        REPORTS,
        'if outcome == "success" and took_ns',
        'if outcome == "success" and took_ns * 0',
    ),
    Mutant(
        "does not see who reports 429",
        REPORTS,
        'if outcome != "throttled":',
        "if True:",
    ),
    Mutant(
        "takes ignored calls for reports",
        REPORTS,
        ' or outcome == "ignore"',
        "",
    ),
    Mutant(
        "takes stale failures for reports",
        REPORTS,
        "permit.generation != breaker.generation or ",
        "",
    ),
    Mutant(
        "remembers reports without bound",
        REPORTS,
        "deque(maxlen=_REMEMBERED)",
        "deque()",
    ),
)
MUTANTS = MODELLED + EXEMPLIFIED


def judges(mutant: Mutant) -> list[Path]:
    """The model alone, where it is to see the fault; the examples are quicker and see more."""
    return MODEL if mutant in MODELLED else EXAMPLES


mutants, test_passes, test_the_tests_notice_breakers_that = kept_list(MUTANTS, tests=judges)
