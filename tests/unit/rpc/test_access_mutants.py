"""The tests of access, of its audit and of what is left unread see each of these faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
AUDIT_TESTS = HERE / "test_audit.py"
JUDGES = {
    "access": [HERE / "test_access.py"],
    "actors": [AUDIT_TESTS],
    "answering": [AUDIT_TESTS],
    "audit": [AUDIT_TESTS],
    "decoding": [AUDIT_TESTS],
    "dispatcher": [AUDIT_TESTS],
    "methods": [HERE / "test_methods.py"],
    "requests": [HERE / "test_access.py"],
    "sessions": [HERE / "test_sessions.py"],
    "buffers": [HERE / "test_buffers.py"],
}


def _mutant(name: str, module: str, old: str, new: str) -> Mutant:
    return Mutant(name, f"supereziod.rpc.{module}", old, new)


MUTANTS = (
    # roles and visibility
    _mutant("takes root for anybody", "access", "peer.uid in (0, self.own_uid)", "peer.uid in ()"),
    _mutant(
        "takes the daemon's own user for anybody",
        "access",
        "peer.uid in (0, self.own_uid)",
        "peer.uid == 0",
    ),
    _mutant("names no admins", "access", " or peer.uid in self.admin_uids", ""),
    _mutant(
        "has users administer",
        "access",
        "if not self.admin_gids.isdisjoint(peer.groups):",
        "if not (self.admin_gids | self.user_gids).isdisjoint(peer.groups):",
    ),
    _mutant(
        "lets everybody use it",
        "access",
        'return "user"\n        return "observer"',
        'return "user"\n        return "user"',
    ),
    _mutant("names no users", "access", "peer.uid in self.user_uids or ", ""),
    _mutant(
        "names no groups of users", "access", " or not self.user_gids.isdisjoint(peer.groups)", ""
    ),
    _mutant(
        "takes who is in both groups for a user",
        "access",
        "if not self.admin_gids.isdisjoint(peer.groups):",
        "if not self.admin_gids.isdisjoint(peer.groups - self.user_gids) and"
        " self.user_gids.isdisjoint(peer.groups):",
    ),
    _mutant(
        "caps the priority of admins as of users",
        "access",
        "return self.max_priority_admin",
        "return self.max_priority_user",
    ),
    _mutant(
        "lets observers ask for priority",
        "access",
        'if role == "user" else 0',
        'if role != "admin" else 0',
    ),
    _mutant(
        "sends everybody to the group of admins",
        "access",
        'self.admin_group if needs == "admin" else self.user_group',
        "self.admin_group",
    ),
    _mutant("takes an unknown name for root", "access", "unknown.append(name)", "found.add(0)"),
    _mutant("does not look at the role", "answering", "if line.rank < route.rank:", "if False:"),
    _mutant(
        "shows others' to users",
        "requests",
        'self.origin.role == "admin" or',
        'self.origin.role != "observer" or',
    ),
    _mutant("hides others' from admins", "requests", 'self.origin.role == "admin" or ', ""),
    _mutant("hides what is one's own", "requests", " or self.origin.peer.uid == uid", ""),
    _mutant(
        "shows others' sessions",
        "sessions",
        "if everyone or state.uid == uid:",
        "if True:",
    ),
    _mutant(
        "ends others' sessions",
        "sessions",
        "not (everyone or state.uid == uid)",
        "False",
    ),
    _mutant(
        "forgets to audit what is for admins",
        "methods",
        'audit = "always" if role == "admin" else "never"',
        'audit = "never"',
    ),
    # audit
    _mutant(
        "records no refusals",
        "audit",
        "        if isinstance(error, PermissionDeniedError):\n",
        "        if isinstance(error, PermissionDeniedError):\n            return\n"
        "        if isinstance(error, PermissionDeniedError):\n",
    ),
    _mutant(
        "records what only reads",
        "audit",
        'if act.audit != "others":\n            return act.audit == "always"',
        'if act.audit != "others":\n            return True',
    ),
    _mutant("records what is one's own", "audit", "and target.owner != request.uid", "and True"),
    _mutant(
        "leaves out what is shared",
        "audit",
        "target is not None and target.owner != request.uid",
        "target is not None and target.owner not in {None, request.uid}",
    ),
    _mutant(
        "takes what found nothing to do for done",
        "audit",
        'if _has_changed_something(result) else "unchanged"',
        'if True else "unchanged"',
    ),
    _mutant(
        "bounds what admins do",
        "audit",
        '{} if request.role == "admin" else rate.take(request.uid)',
        "rate.take(request.uid)",
    ),
    _mutant(
        "never bounds what is tried",
        "audit",
        '{} if request.role == "admin" else rate.take(request.uid)',
        "rate.take(request.uid) or {}",
    ),
    _mutant(
        "has attempts hide acts",
        "audit",
        'self._acts if outcome == "done" else self._attempts',
        "self._attempts",
    ),
    _mutant("does not tell how many it left out", "audit", "            **besides,\n", ""),
    _mutant(
        "never bounds what is turned away",
        "audit",
        "        besides = self._attempts.take(request.uid)\n",
        "        besides = self._attempts.take(request.uid) or {}\n",
    ),
    _mutant(
        "takes what is turned away for an act of an admin",
        "audit",
        "        besides = self._attempts.take(request.uid)\n",
        '        besides = {} if request.role == "admin" else self._attempts.take(request.uid)\n',
    ),
    _mutant(
        "tells of others' calls that were turned away",
        "audit",
        'if _audit_of(route, params) != "always":',
        'if _audit_of(route, params) not in {"always", "others"}:',
    ),
    _mutant(
        "tells of a look that came too fast",
        "audit",
        'if _audit_of(route, params) != "always":',
        'if route.audit != "always":',
    ),
    _mutant(
        "leaves out a look that was refused",
        "audit",
        "        if isinstance(error, PermissionDeniedError):\n",
        '        if isinstance(error, PermissionDeniedError) and act.audit != "refusals":\n',
    ),
    _mutant("cuts nothing", "audit", "text if len(text) <= size else", "text if True else"),
    _mutant(
        "forgets who asked when it ends",
        "audit",
        "request.act = replace(act, actor=self._actor(request))",
        "pass",
    ),
    _mutant(
        "takes any process of that pid for who asked",
        "actors",
        "if pidfd is not None and _has_ended(pidfd):",
        "if False:",
    ),
    _mutant(
        "takes nobody for somebody who logged in",
        "actors",
        " or int(text) == _NOBODY",
        "",
    ),
    _mutant(
        "knows the users of its start",
        "actors",
        "if version == self._read_of:",
        "if self._read_of is not None:",
    ),
    _mutant("says nothing of sudo", "actors", "self.login_uid != self.uid:", "False:"),
    _mutant(
        "forgets acts that are done",
        "answering",
        "            self.audit.done(request, request.act, result)\n",
        "            pass\n",
    ),
    _mutant(
        "forgets acts that fail",
        "answering",
        "            self.audit.failed(request, request.act, error)\n",
        "            pass\n",
    ),
    _mutant(
        "forgets acts that were turned away",
        "dispatcher",
        "            self._answering.audit.turned_away(request, route, what.params, error)\n",
        "            pass\n",
    ),
    _mutant(
        "looks for rights before it has an act",
        "dispatcher",
        '        if route.audit != "never":\n            self._answering',
        '        if route.audit != "never" and line.rank >= route.rank:\n'
        "            self._answering",
    ),
    _mutant(
        "does not look up who waits",
        "dispatcher",
        "            if request.act is not None:\n"
        "                self._answering.audit.waits(request, request.act)\n",
        "",
    ),
    _mutant(
        "forgets what a batch has no room for",
        "dispatcher",
        "meta=item.meta, method=name,",
        "meta=item.meta,",
    ),
    _mutant(
        "does not know what a call with bad params was of",
        "decoding",
        "meta=meta, method=name)\n        hands_out",
        "meta=meta)\n        hands_out",
    ),
    _mutant(
        "does not know what a call that is none was of",
        "decoding",
        'InvalidRequestError(f"not a JSON-RPC 2.0 request: {why}")\n'
        "    return Refusal(id=answer_to, error=error, method=method)",
        'InvalidRequestError(f"not a JSON-RPC 2.0 request: {why}")\n'
        "    return Refusal(id=answer_to, error=error)",
    ),
    # buffers
    _mutant(
        "never bounds a user",
        "buffers",
        "if of_user.bytes > self._max_per_uid_bytes:",
        "if False:",
    ),
    _mutant("never bounds all", "buffers", "if self._bytes > self._max_bytes:", "if False:"),
    _mutant(
        "closes the connection with least",
        "buffers",
        "key=self.buffers.__getitem__, reverse=True)",
        "key=self.buffers.__getitem__)",
    ),
    _mutant(
        "closes who has least of all",
        "buffers",
        "uid = max(self._by_uid,",
        "uid = min(self._by_uid,",
    ),
    _mutant(
        "counts what has been read",
        "buffers",
        "{buffer: buffer.kept_bytes for buffer in self.buffers}",
        "dict(self.buffers)",
    ),
    _mutant(
        "counts each note anew",
        "buffers",
        "kept_bytes - self.buffers.get(buffer, 0)",
        "kept_bytes",
    ),
    _mutant(
        "does not forget who reads again",
        "buffers",
        "        self._bytes -= of_user.forget(buffer)\n",
        "        of_user.forget(buffer)\n",
    ),
    _mutant(
        "frees nothing beyond the bound of a user",
        "buffers",
        "self._max_per_uid_bytes - self._max_per_uid_bytes // _FREED",
        "self._max_per_uid_bytes",
    ),
    _mutant(
        "closes all of a user's",
        "buffers",
        "            if of_user.bytes <= room:\n                break\n",
        "",
    ),
    _mutant(
        "keeps to the bounds of its start",
        "buffers",
        "        self._max_per_uid_bytes = max_per_uid_bytes\n"
        "        self._max_bytes = max_bytes\n\n",
        "\n",
    ),
    _mutant(
        "does not say why", "buffers", "        buffer.drop(why)\n", '        buffer.drop("")\n'
    ),
)


def _tests_of(mutant: Mutant) -> list[Path]:
    return JUDGES[mutant.module.rpartition(".")[2]]


mutants, test_passes, test_the_suite_kills_one_that = kept_list(MUTANTS, tests=_tests_of)
