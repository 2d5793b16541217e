"""The tests of the revoke ladder see each of these faults: a kept list."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

TESTS = [Path(__file__).with_name("test_revoking.py")]

BOOK = "supereziod.leases.book"
DRAINING = "supereziod.leases.draining"
MANAGER = "supereziod.leases.manager"
REVOKING = "supereziod.leases.revoking"
VIEWS = "supereziod.leases.views"

MUTANTS = (
    Mutant(
        "lets a second order lengthen the deadline",
        REVOKING,
        "if known is not None and known.deadline_ns <= order.deadline_ns:",
        "if known == order:",
    ),
    Mutant(
        "lets the latest deadline count",
        "supereziod.leases.live_lease",
        "return min(self.orders.values()",
        "return max(self.orders.values()",
    ),
    Mutant(
        "takes a refusal for the end of the order",
        REVOKING,
        '        words = "will end in time" if accept else "will not end"\n',
        '        words = "will end in time" if accept else "will not end"\n'
        "        if not accept:\n            self._deadlines.drop(lease.id)\n",
    ),
    Mutant(
        "lengthens the deadline for who answers",
        REVOKING,
        'order, answer="accepted" if accept else "refused", answer_message=message\n',
        'order, answer="accepted" if accept else "refused", answer_message=message,'
        " deadline_ns=order.deadline_ns + 10**10\n",
    ),
    Mutant(
        "gives no time to hear of an order after a restart",
        REVOKING,
        "deadline_ns=max(order.deadline_ns, grace_ns)",
        "deadline_ns=order.deadline_ns",
    ),
    Mutant(
        "makes a long deadline short at a restart",
        REVOKING,
        "deadline_ns=max(order.deadline_ns, grace_ns)",
        "deadline_ns=grace_ns",
    ),
    Mutant(
        "forgets orders at a restart",
        REVOKING,
        'if order.reason != "gpu_critical"',
        "if False",
    ),
    Mutant(
        "keeps the orders of heat over a restart",
        REVOKING,
        'if order.reason != "gpu_critical"',
        "if True",
    ),
    Mutant(
        "orders though it cannot record it",
        REVOKING,
        "                if must_record:\n                    raise\n",
        "                pass\n",
    ),
    Mutant(
        "drains nothing where nothing can be recorded",
        REVOKING,
        "                if must_record:\n                    raise\n",
        "                raise\n",
    ),
    Mutant(
        "withdraws every order with the heat",
        REVOKING,
        "if each != reason}",
        "if False}",
    ),
    Mutant(
        "does not tell the order that is left",
        REVOKING,
        "        elif before.reason == reason:\n            self._announce(lease, after)\n",
        "",
    ),
    Mutant(
        "lets strangers answer",
        MANAGER,
        "        lease = self._own(caller, params.lease)\n        self._revoker.answer(",
        "        lease = self._book.get(params.lease)\n        self._revoker.answer(",
    ),
    Mutant(
        "lets strangers revoke",
        MANAGER,
        "        lease = self._own(caller, params.lease)\n        reason: RevokeReason",
        "        lease = self._book.get(params.lease)\n        reason: RevokeReason",
    ),
    Mutant(
        "shows to all why a lease is revoked",
        VIEWS,
        "self._revocation(lease.order) if personal else None",
        "self._revocation(lease.order)",
    ),
    Mutant(
        "tells all priorities of a hot GPU at once",
        DRAINING,
        "if now_ns + self._step_ns < end_ns:",
        "if False:",
    ),
    Mutant(
        "tells the highest priority first",
        DRAINING,
        "lowest = min(",
        "lowest = max(",
    ),
    Mutant(
        "tells the oldest first",
        DRAINING,
        "        left.reverse()  # of one priority, the newest first\n",
        "",
    ),
    Mutant(
        "drains some too late",
        DRAINING,
        "if now_ns + self._step_ns < end_ns:",
        "if True:",
    ),
    Mutant(
        "gives the last ones no time",
        DRAINING,
        "max(_LEAST_S, (end_ns - now_ns) / _NS_PER_S)",
        "max(0, (end_ns - now_ns) / _NS_PER_S)",
    ),
    Mutant(
        "takes a GPU of unknown level for cool",
        DRAINING,
        'if found & {"critical", "unknown"}:',
        'if found & {"critical"}:',
    ),
    Mutant(
        "begins anew after each silence",
        DRAINING,
        'not in {"critical", "unknown"}:',
        'not in {"critical"}:',
    ),
    Mutant(
        "leaves orders standing when the GPU has cooled",
        DRAINING,
        '                self._revoker.withdraw(lease, "gpu_critical")\n',
        "                pass\n",
    ),
)

mutants, test_passes, test_the_suite_kills_one_that = kept_list(MUTANTS, tests=TESTS)
