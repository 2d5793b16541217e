"""The tests of the cache service see each of these faults: a kept list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
MODEL = [HERE / "test_caches_model.py"]
ALL = [HERE / "test_lead_tokens.py", HERE / "test_caches.py", *MODEL]

CACHES = "supereziod.resilience.caches"
WAITS = "supereziod.resilience.cache_waits"
NAMESPACES = "supereziod.resilience.cache_namespaces"
KNOWN = "supereziod.resilience.known_namespaces"
TOKENS = "supereziod.resilience.lead_tokens"
RULES = "supereziod.resilience.cache_rules"
ALARM = "supereziod.resilience.alarm"

#: Who leads, who waits and who may read: the judge has to see these, without the examples.
JUDGED = (
    Mutant(
        "loses a lead that comes to a request that is gone",
        WAITS,
        "            elif isinstance(outcome.answer, Lead):\n",
        "            elif wait is outcome:\n",
    ),
    Mutant(
        "loses a lead that comes to a second request that is gone",
        WAITS,
        "                left.extend(settled.outcomes)\n",
        "                for each in settled.outcomes:\n"
        "                    if not (wait := self._waits[each.waiter]).future.done():\n"
        "                        self._tell(wait, each)\n",
    ),
    Mutant(
        "answers a request that is gone",
        WAITS,
        "if wait is not None and not wait.future.done():",
        "if wait is not None:",
    ),
    Mutant(
        "lets a request that was cancelled wait on",
        WAITS,
        "        if self._forget(waiter) is not None:\n            self._cache.leave(waiter)\n",
        "        self._forget(waiter)\n",
    ),
    Mutant(
        "never counts down who waits",
        WAITS,
        "            self._waiting[uid] -= 1\n",
        "            pass\n",
    ),
    Mutant(
        "tells nobody that the leader is gone",
        CACHES,
        "self._deliver(self._cache.drop(connection, self._clock()))",
        "self._cache.drop(connection, self._clock())",
    ),
    Mutant(
        "does not hear of connections that end",
        CACHES,
        "        if connection in self._uids:\n",
        "        if connection not in self._uids:\n",
    ),
    Mutant(
        "remembers every connection there was",
        CACHES,
        "            del self._uids[connection]\n",
        "            pass\n",
    ),
    Mutant(
        "keeps an error from those who wait",
        CACHES,
        "            settled = self._cache.fail(token, error, holder=caller.connection,"
        " now_ns=now_ns)\n        self._deliver(settled.outcomes)\n",
        "            settled = self._cache.fail(token, error, holder=caller.connection,"
        " now_ns=now_ns)\n",
    ),
    Mutant(
        "lets all users have one namespace of a name",
        KNOWN,
        'else f"{owned.owner}:{owned.name}"',
        'else f"0:{owned.name}"',
    ),
    Mutant(
        "bounds each namespace of a user and not all together",
        KNOWN,
        'return full.partition(":")[0] or None',
        "return None",
    ),
    Mutant(
        "lets a user lead as much as it has connections for",
        CACHES,
        "return self._uids[holder]",
        "return holder",
    ),
    Mutant(
        "lets one more wait than may",
        CACHES,
        "self._waits.count(uid) >= self._rules.waiters_per_uid",
        "self._waits.count(uid) > self._rules.waiters_per_uid",
    ),
    Mutant(
        "lets a user have one namespace more than may be",
        KNOWN,
        "        if len(names) < self._per_uid:\n            return\n        until_ns",
        "        if len(names) <= self._per_uid:\n            return\n        until_ns",
    ),
    Mutant(
        "shows what others have",
        NAMESPACES,
        "list(self._known) if caller.is_admin else",
        "list(self._known) if caller else",
    ),
    Mutant(
        "shows what is shared to those who do not share it",
        NAMESPACES,
        "if caller.is_admin or self._names.may_see(owned, caller.peer)",
        "if owned",
    ),
    Mutant(
        "gives a token out with a plain get",
        CACHES,
        "        if not params.fill:\n",
        "        if not params.fill and params.key != 'k':\n",
    ),
)

#: Of these the examples tell.
TOLD = (
    Mutant(
        "looks for what is shared where no quota is",
        KNOWN,
        'return f":{owned.name}" if owned.owner is None else',
        'return f"{owned.name}" if owned.owner is None else',
    ),
    Mutant(
        "lets a token count over any connection",
        TOKENS,
        "connection.encode(), namespace.encode()",
        'b"", namespace.encode()',
    ),
    Mutant(
        "lets a token count for any key",
        TOKENS,
        "namespace.encode(), key.encode())",
        'namespace.encode(), b"")',
    ),
    Mutant(
        "seals tokens with what anybody knows",
        TOKENS,
        "os.urandom(32) if secret is None else secret",
        'b"supereziod"',
    ),
    Mutant(
        "sets no timer",
        ALARM,
        "        if due_ns is None or (",
        "        if True or (",
    ),
    Mutant(
        "waits for the first deadline alone",
        ALARM,
        "(self._timer is not None and self._due_ns <= due_ns)",
        "self._timer is not None",
    ),
    Mutant(
        "gives a large value to all in one lap",
        WAITS,
        "while self._filled and size < _BYTES_A_LAP:",
        "while self._filled:",
    ),
    Mutant(
        "forgets those whose lap is the next",
        WAITS,
        "            self._later = loop.call_soon(self._tell_filled, context=Context())\n",
        "            loop.call_soon(self._filled.clear)\n",
    ),
    Mutant(
        "lets those wait on to whom it is shared no more",
        CACHES,
        "        self._waits.check_again(self._namespaces.owned)\n",
        "",
    ),
    Mutant(
        "keeps what was one's own under a name that is shared",
        NAMESPACES,
        "            self._cache.clear(full_name(owned))\n",
        "            pass\n",
    ),
    Mutant(
        "lets anybody clear what is shared",
        NAMESPACES,
        "if caller.is_admin and params.namespace in self._shared:",
        "if params.namespace in self._shared:",
    ),
    Mutant(
        "lets anybody clear what is another's",
        NAMESPACES,
        "if caller.is_admin and params.uid is not None:",
        "if params.uid is not None:",
    ),
    Mutant(
        "leaves what is shared no more to the next who share that name",
        NAMESPACES,
        '            self._cache.clear(f":{name}")\n',
        "",
    ),
    Mutant(
        "raises one part before it lowers another",
        NAMESPACES,
        '            self._cache.declare(f":{name}", _smaller(self._shared[name].quota,'
        " changed[name]))\n",
        "            pass\n",
    ),
    Mutant(
        "guarantees what there is not",
        NAMESPACES,
        "        self._check_parts(each.quota for each in shared.values())\n",
        "",
    ),
    Mutant(
        "never gives the place of an empty namespace to another",
        KNOWN,
        "                del names[name]\n",
        "                pass\n",
    ),
    Mutant(
        "gives the place of a namespace to another while it is fetched for",
        NAMESPACES,
        "return not (usage.entries or usage.fills)",
        "return not usage.entries",
    ),
    Mutant(
        "looks through a user's namespaces each time",
        KNOWN,
        "        if until_ns <= now_ns:\n",
        "        if until_ns:\n",
    ),
    Mutant(
        "keeps a value for as long as it is told to",
        RULES,
        "return min(ms * _MS, most_ns)",
        "return ms * _MS",
    ),
    Mutant(
        "hands a leader's message on whatever is in it",
        RULES,
        'each if each.isprintable() else "?"',
        "each",
    ),
    Mutant(
        "hands a leader's message on however long it is",
        RULES,
        "for each in line[:_MESSAGE_LENGTH])",
        "for each in line)",
    ),
    Mutant(
        "counts a request twice that has to wait",
        CACHES,
        "answer = self._cache.get_at_once(\n            namespace, params.key,",
        "self._cache.peek(namespace, params.key, now_ns=now_ns)\n"
        "        answer = self._cache.get_at_once(\n            namespace, params.key,",
    ),
    Mutant(
        "gives an error for a lead that is given up",
        CACHES,
        "        if params.error is None or to_next:\n",
        "        if params.error == '' or to_next:\n",
    ),
    Mutant(
        "tells all who wait that the leader was turned away",
        CACHES,
        "to_next = params.pass_on and not",
        "to_next = False and not",
    ),
    Mutant(
        "keeps the old value from one that was turned away",
        CACHES,
        "to_next = params.pass_on and not self._cache.has_stand_in(token, now_ns=now_ns)",
        "to_next = params.pass_on",
    ),
    Mutant(
        "tells nobody that the time is up",
        CACHES,
        "self._deliver(self._cache.expire(self._clock()))",
        "self._cache.expire(self._clock())",
    ),
)

MUTANTS = JUDGED + TOLD


def _judges(mutant: Mutant) -> Sequence[Path]:
    return MODEL if mutant in JUDGED else ALL


mutants, test_passes, test_the_tests_notice_a_cache_that = kept_list(MUTANTS, tests=_judges)
