"""The tests of the limits that programs share see each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
SERVICE = "supereziod.resilience.limits"
RESERVATIONS = "supereziod.resilience.limit_reservations"
WAITS = "supereziod.resilience.limit_waits"
SIGNALS = "supereziod.resilience.limit_signals"
REGISTRY = "supereziod.resilience.limit_registry"
NAMED = "supereziod.resilience.named_limit"
MEMORY = "supereziod.resilience.limit_memory"
WRITING = "supereziod.resilience.limit_writing"
VIEWS = "supereziod.resilience.limit_views"
SPEND = "supereziod.resilience.spend"
OVERSHOOT = "supereziod.resilience.overshoot"
COMMITS = "supereziod.resilience.spend_commits"

MUTANTS = (
    Mutant(
        "lets a plain request pass those who wait",
        SERVICE,
        "            way.waiting\n            or params.requests",
        "            params.requests",
    ),
    Mutant(
        "looks at no bound before a user has as many as it may",
        SERVICE,
        "self._least_bound = min(self._per_connection, self._per_uid)",
        "self._least_bound = self._per_uid",
    ),
    Mutant(
        "grants beyond the burst",
        SERVICE,
        "            if tat_ns - now_ns > rate.burst_ns:\n",
        "            if tat_ns - now_ns > rate.burst_ns + rate.unit_ns:\n",
    ),
    Mutant(
        "charges nothing where the whole burst is there",
        SERVICE,
        "            rate.tat_ns = now_ns + rate.unit_ns\n",
        "            rate.tat_ns = now_ns\n",
    ),
    Mutant(
        "does not write down what the hot path grants",
        RESERVATIONS,
        "return self._changed or self.number != self._written",
        "return self._changed",
    ),
    Mutant(
        "takes a plain request for any",
        SERVICE,
        "            or params.requests != 1\n",
        "",
    ),
    Mutant(
        "does not keep a plain reservation",
        SERVICE,
        "        way.open[number] = way\n",
        "",
    ),
    Mutant(
        "forgets budgets of plain reservations",
        SERVICE,
        "        sole.users += 1\n",
        "",
    ),
    Mutant(
        "settles over any connection",
        SERVICE,
        "        holder = self._holders.get(request.origin.id)\n",
        "        holder = next(\n"
        "            (h for h in self._holders.values() if h.find(params.reservation)), None\n"
        "        )\n",
    ),
    Mutant(
        "keeps the reservations of a connection that ends",
        SERVICE,
        "        for number, held in list(holder.all_open()):\n",
        "        for number, held in ():\n",
    ),
    Mutant(
        "keeps the waiters of a connection that ends",
        WAITS,
        "        for waiter, named in list(holder.waiting.items()):\n",
        "        for waiter, named in ():\n",
    ),
    Mutant(
        "keeps a waiter whose request is cancelled",
        WAITS,
        "        future.add_done_callback(lambda _: self.stop(named, waiter))\n",
        "",
    ),
    Mutant(
        "keeps what it granted to a request that was cancelled",
        WAITS,
        "            named.limiter.settle(now_ns, reservation, NOTHING)\n            return\n",
        "            return\n",
    ),
    Mutant(
        "looks at nobody when a slot is free",
        SERVICE,
        "        if named.waiting:\n            self._waits.arm(named)\n        return answer",
        "        return answer",
    ),
    Mutant(
        "lets one caller keep the others out for ever",
        OVERSHOOT,
        "                rate.owe_at_most(now_ns, longest_ns)\n",
        "",
    ),
    Mutant(
        "gives back what a signal has counted",
        SIGNALS,
        "                    named.final_by_scope[budget.scope] = number\n",
        "                    pass\n",
    ),
    Mutant(
        "gives nothing back of a plain reservation",
        RESERVATIONS,
        "taken_ns = now_ns if number > final else -1",
        "taken_ns = -1",
    ),
    Mutant(
        "spends without a look at the cap",
        SERVICE,
        "        if named.is_capped and micros >= 0:\n"
        "            self._reservations.check_spend(way, budgets, micros)\n",
        "",
    ),
    Mutant(
        "grants to waiters without a look at the cap",
        WAITS,
        "                self._reservations.check_spend(way, reservation.budgets, micros)\n",
        "                pass\n",
    ),
    Mutant(
        "does not commit what was settled beyond the reservation",
        NAMED,
        "            self._book.owe([*self._rows(scope for scope, _ in changed), *rows])\n",
        "            pass\n",
    ),
    Mutant(
        "does not count money that was not reserved",
        NAMED,
        "            spends = self._not_reserved(budgets)\n",
        "            return\n",
    ),
    Mutant(
        "lets pass what names no money when a cap is reached",
        SERVICE,
        "if named.is_capped and micros >= 0:",
        "if micros > 0:",
    ),
    Mutant(
        "trusts what was said last though a life has begun since",
        "supereziod.resilience.limit_memory",
        "final = kept.final and self._ended_in_order",
        "final = kept.final",
    ),
    Mutant(
        "writes the first slice of much alone",
        WRITING,
        "                    yield None\n",
        "                    return\n",
    ),
    Mutant(
        "does not tell that limits begin with nothing",
        "supereziod.resilience.limit_memory",
        'self.unknown = self.unknown or ("sudden_end" if same_boot else "another_boot")',
        "pass",
    ),
    Mutant(
        "takes no slot unless it is named",
        NAMED,
        "self.default_slots = 1 if has_slots else 0",
        "self.default_slots = 0",
    ),
    Mutant(
        "takes no slot of a plain request where slots came later",
        "superezio.resilience.budget",
        "if self.blocked_until_ns or self.limit.concurrency is not None:",
        "if self.blocked_until_ns:",
    ),
    Mutant(
        "forgets what was spent when an idle key is forgotten",
        NAMED,
        "        self._caps.pop(scope, None)\n",
        "        self._caps.clear()\n",
    ),
    Mutant(
        "lets whoever names another user look",
        REGISTRY,
        "        if uid is not None and uid != asker.uid and not is_admin:\n",
        "        if uid is not None and uid == -1:\n",
    ),
    Mutant(
        "goes by a caller's rates for a shared limit",
        REGISTRY,
        "        if named.owned.owner is None or rates == named.rates:\n",
        "        if rates == named.rates:\n",
    ),
    Mutant(
        "uses budgets that were forgotten",
        REGISTRY,
        "        if forgotten:\n            self.forget_ways()\n        if not self._round:\n",
        "        if not self._round:\n",
    ),
    Mutant(
        "gives a fresh burst after a sudden end",
        MEMORY,
        "        if not (same_boot and final):\n            self.empty_at_ns = self._now_ns\n",
        "        if not same_boot:\n            self.empty_at_ns = self._now_ns\n",
    ),
    Mutant(
        "takes a corrupt snapshot for none",
        MEMORY,
        "            self.is_lost = True\n            self.empty_at_ns = self._now_ns\n",
        "            self.is_lost = True\n",
    ),
    Mutant(
        "forgets in the second restart what nobody asked for",
        WRITING,
        "        yield from not_taken\n",
        "",
    ),
    Mutant(
        "forgets what a request takes up between two slices",
        WRITING,
        "    yield from not_applied\n",
        "    yield from named.limiter.not_applied()\n",
    ),
    Mutant(
        "lets anybody reset what is shared",
        VIEWS,
        "        if owner is None and not is_admin:\n",
        "        if owner is None and owner == 0:\n",
    ),
    Mutant(
        "opens an earlier window when the clock goes back",
        SPEND,
        "        if now_s >= self._next_day_s:\n",
        "        if now_s >= self._next_day_s or now_s < self._next_day_s - 86_400:\n",
    ),
    Mutant(
        "forgets what it could not write",
        SPEND,
        "            self._owed[name, scope, kind] = window\n            self._is_new = True\n",
        "            self._is_new = True\n",
    ),
    Mutant(
        "forgets over a restart what it could not write",
        SPEND,
        "            self._stopgap.put(_DOCUMENT, debts)\n",
        "",
    ),
    Mutant(
        "never writes what an earlier life owed",
        SPEND,
        "            self._owed[name, scope, kind] = window\n            if kind == _FOUND:",
        "            if kind == _FOUND:",
    ),
    Mutant(
        "goes on owing what was written",
        SPEND,
        "            self._stopgap.drop(_DOCUMENT)\n",
        "            pass\n",
    ),
    Mutant(
        "forgets a limit of one's own that is in use",
        NAMED,
        "        if self.limiter.budget_count:\n            self.used_ns = now_ns\n",
        "",
    ),
    Mutant(
        "keeps limits of users' own for ever",
        REGISTRY,
        "        if owner is None or not is_old:\n",
        "        if owner != -1:\n",
    ),
    Mutant(
        "sweeps all at once",
        REGISTRY,
        "        while self._round and left > 0:\n",
        "        while self._round:\n",
    ),
    Mutant(
        "keeps what signals made final for ever",
        NAMED,
        "            self.final_by_scope.pop(scope, None)\n",
        "            pass\n",
    ),
    Mutant(
        "cuts a list and does not say so",
        VIEWS,
        "        return replace(state, left_out=left_out) if left_out else state\n",
        "        return state\n",
    ),
    Mutant(
        "keeps the room of what could not be committed",
        COMMITS,
        "self._reservations.close(grant.holder, grant.number, self._clock(), NOTHING)",
        "pass",
    ),
    Mutant(
        "tells of money before it is on the disk",
        COMMITS,
        "            self._disk.sync(lambda fault: self._end(grants, fault))\n",
        "            self._end(grants, None)\n",
    ),
    Mutant(
        "waits for the disk with each grant",
        COMMITS,
        "        if not self._is_busy:\n            self._is_busy = True\n"
        "            self._disk.soon(self._begin)\n",
        "        self._disk.soon(self._begin)\n",
    ),
    Mutant(
        "forgets those who came while the disk was busy",
        COMMITS,
        "        if self._new:\n            self._begin()\n        else:\n"
        "            self._is_busy = False\n",
        "        self._is_busy = False\n",
    ),
    Mutant(
        "grants what did not get to the disk",
        COMMITS,
        "        elif fault is None and not future.done():\n",
        "        elif not future.done():\n",
    ),
    Mutant(
        "tells of what ended with its connection",
        COMMITS,
        "        if grant.holder.find(grant.number) is None:\n",
        "        if grant.number < 0:\n",
    ),
    Mutant(
        "ends what keeps a slot to make room",
        RESERVATIONS,
        "        if reservation.cost.concurrency:\n",
        "        if reservation.cost.concurrency > 99:\n",
    ),
    Mutant(
        "gives no room over a new connection where others have all",
        RESERVATIONS,
        "account.oldest_open.take(holders) or account.oldest_priced.take(holders)",
        "holder.oldest_open.take((holder,))",
    ),
    Mutant(
        "ends what is to be paid before what costs nothing",
        RESERVATIONS,
        "kept = holder.priced if limit_of(reservation).is_capped else holder.open",
        "kept = holder.open",
    ),
    Mutant(
        "lets a user keep slots without end",
        RESERVATIONS,
        "            if count >= bounds.slot_reservations_per_uid:\n",
        "            if count < 0:\n",
    ),
    Mutant(
        "takes one that is settled for the oldest",
        "supereziod.resilience.limit_accounts",
        "            if number in self._kept_of(holder):\n",
        "            if number:\n",
    ),
    Mutant(
        "lets one caller's word empty a cap of others",
        OVERSHOOT,
        "min(micros, max(0, cap * share // WHOLE - overshot.spent(kind, keys[kind])))",
        "micros",
    ),
    Mutant(
        "counts as one's own what others have too",
        OVERSHOOT,
        "    return scope.kind not in _OWN_KINDS\n",
        "    return scope.kind == 0\n",
    ),
    Mutant(
        "counts in full in no budget what was overshot",
        NAMED,
        "if more > 0 and is_shared(scope) else None",
        "if more > 0 else None",
    ),
    Mutant(
        "lets who has overshot a cap go on",
        RESERVATIONS,
        "            named.check_overshoot(way.holder.account.uid, budgets)\n",
        "            pass\n",
    ),
    Mutant(
        "forgets over a restart what was overshot",
        NAMED,
        "                rows.extend(self.spend_overshoots.rows(uid, scope))\n",
        "",
    ),
    Mutant(
        "lets one caller push a rate again and again",
        "superezio.resilience.overshoot",
        "min(push_ns, max(0, most_ns - owed_ns))",
        "min(push_ns, most_ns)",
    ),
    Mutant(
        "gives a caller's word all of the rate in the long run",
        "superezio.resilience.overshoot",
        "        owed_ns = -(-max(0, self._until_ns - now_ns) * share // WHOLE)\n",
        "        owed_ns = max(0, self._until_ns - now_ns) - (now_ns and 0)\n",
    ),
)

mutants, test_passes, test_kills_one_that = kept_list(
    MUTANTS,
    tests=[
        HERE / "test_limits.py",
        HERE / "test_limit_spend.py",
        HERE / "test_limits_model.py",
    ],
)
