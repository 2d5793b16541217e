"""What users see of each other's things, and can do to them: real users, in one booted machine.

One user has something of each kind; then others of each role look at it, and touch it. What has to
be is in access_views.py, as tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
from msgspec import Struct

from system.access_matrix import MATRIX, may_call
from system.access_views import (
    GIB,
    LEASE_MASKED,
    LEASE_PUBLIC,
    LOOKS,
    MARK,
    MOVES,
    OWN,
    PROCESS_MASKED,
    PROCESS_PUBLIC,
    RULED,
    TOUCHES,
    WAITER_MASKED,
    WAITER_PUBLIC,
    Look,
    Touch,
)
from system.callers import Caller, Json, kind_of
from system.installation import PREFIX, Installation, install
from system.machine import Machine
from system.service import UNIT, Service

OWNER, OTHERS, ADMINS = "anna", ("ben", "vera"), ("dora", "root")
ROLE = {"anna": "user", "ben": "user", "vera": "observer", "dora": "admin", "root": "admin"}
CONFIG = """\
[gpu]
process_interval_busy = "500ms"
process_interval_idle = "500ms"
[breaker.shared.of-anna]
users = ["anna"]
[breaker.shared.of-a-group]
groups = ["ai"]
[breaker.shared.of-all]
everyone = true
[limit.shared.of-a-group]
groups = ["ai"]
[limit.shared.of-a-group.user]
requests = "10/1m"
[cache.shared.of-a-group]
groups = ["ai"]
"""


class Owned(Struct, frozen=True, kw_only=True):
    """The owner's connections, and the names of all that is hers."""

    caller: Caller
    known: dict[str, Any]


@pytest.fixture(scope="module")
def service(installation: Installation) -> Iterator[Service]:
    with Machine(nspawn_options=installation.nspawn_options) as machine:
        install(machine)
        machine.run("groupadd", "ai")
        machine.run("useradd", "--no-create-home", "--groups", "superezio,ai", "anna")
        machine.run("useradd", "--no-create-home", "--groups", "superezio", "ben")
        machine.run("useradd", "--no-create-home", "vera")
        machine.run("useradd", "--no-create-home", "--groups", "superezio-admin", "dora")
        service = Service(machine, config=CONFIG)
        # A stand-in for a program reads there which GPUs are simulated, and writes what it uses.
        service.drop_in("[Service]\nUMask=0022\n")
        service.start()
        machine.run("chmod", "1777", "/run/superezio/simulated/claims")
        yield service
        machine.run("systemctl", "stop", UNIT, "superezio.socket")


@pytest.fixture(scope="module")
def viewers(service: Service) -> Iterator[dict[str, Caller]]:
    """A connection of everyone's, each subscribed to all events from before there is any."""
    found = {user: Caller(service.machine, user) for user in (OWNER, *OTHERS, *ADMINS)}
    for caller in found.values():
        caller.result("events.subscribe")
    yield found
    for caller in found.values():
        caller.close()


@pytest.fixture(scope="module")
def owned(service: Service, viewers: dict[str, Caller]) -> Iterator[Owned]:
    """Something of each kind, all of it hers; the viewers are connected already."""
    assert set(viewers) == {OWNER, *OTHERS, *ADMINS}
    command = (f"{PREFIX}/bin/python", "-m", "supereziod.gpu.standin", "--vram", "1GiB")
    places = ("--gpu", "0", "--directory", "/run/superezio/simulated", "--seconds", "100")
    with ExitStack() as stack:
        caller = stack.enter_context(Caller(service.machine, OWNER))
        waiting = stack.enter_context(Caller(service.machine, OWNER))
        program = stack.enter_context(service.machine.start(*command, *places, user=OWNER))
        assert program.stdout is not None
        claimed = program.stdout.readline()
        assert claimed.startswith("pid "), claimed + program.stdout.read()
        holder = int(claimed.split()[1])
        stack.callback(service.machine.run, "kill", str(holder))
        known = {"uid": caller.uid, "holder": holder, **_made(caller, holder)}
        known["waiter"] = _asked(service.machine, caller, waiting)
        service.machine.wait_until(
            "the process", lambda: caller.result("gpu.processes")["processes"]
        )
        stack.callback(caller.ask, "lease.cancel", {"waiter": known["waiter"]})
        yield Owned(caller=caller, known=known)


def _made(caller: Caller, holder: int) -> dict[str, Any]:
    lease = caller.result(
        "lease.acquire",
        {
            "vram_bytes": 2 * GIB,
            "holder_pid": holder,
            "name": f"{MARK}-name",
            "model": f"{MARK}-model",
            "prefer": ["0"],
            "wait_ms": 20_000,
        },
        correlation_id=f"{MARK}-lease",
    )["id"]
    order = {"lease": lease, "deadline_s": 3000.0, "reason": f"{MARK}-reason"}
    caller.result("lease.revoke", order)
    caller.result("lease.acknowledge", {"lease": lease, "message": f"{MARK}-message"})
    small = {"vram_bytes": GIB >> 3, "name": f"{MARK}-name"}
    timed = caller.result("lease.acquire", {**small, "mode": "ttl", "ttl_ms": 3_600_000})["id"]
    bound = caller.result("lease.acquire", {**small, "mode": "connection"})["id"]
    span = {"correlation_id": f"{MARK}-lease", "name": f"{MARK}-span"}
    caller.result("trace.annotate", {**span, "attributes": {"what": f"{MARK}-attribute"}})
    session = caller.result("session.open", {"name": f"{MARK}-session"})
    caller.result("breaker.acquire", {"name": f"{MARK}-breaker"})
    limit = {"name": f"{MARK}-limit", "rates": {"concurrency": 4}}
    entry = {"namespace": f"{MARK}-cache", "key": f"{MARK}-key"}
    caller.result("cache.set", {**entry, "text": f"{MARK}-value"})
    lead = caller.result("cache.get", {**entry, "key": "led", "fill": True, "lead_ms": 3_000_000})
    return {
        "lease": lease,
        "timed": timed,
        "bound": bound,
        "session": session["session_id"],
        "session_token": session["token"],
        "permit": caller.result("breaker.acquire", {"name": f"{MARK}-breaker"})["permit"],
        "reservation": caller.result("limit.acquire", limit)["reservation"],
        "token": lead["token"],
        "subscription": caller.result("events.subscribe", {"types": ["none."]})["subscription"],
    }


def _asked(machine: Machine, caller: Caller, waiting: Caller) -> str:
    """Have an acquire wait in the queue, on a connection that can ask nothing else meanwhile."""
    wish = {"vram_bytes": 10 * GIB, "wait_ms": 3_000_000, "name": f"{MARK}-waiter"}
    waiting.tell("lease.acquire", wish, correlation_id=f"{MARK}-waits")
    (waiter,) = machine.wait_until("a waiter", lambda: caller.result("lease.list")["queue"])
    return str(waiter["id"])


# --- what they see ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "entries", "masked", "public"),
    [
        ("lease.list", "leases", LEASE_MASKED, LEASE_PUBLIC),
        ("lease.list", "queue", WAITER_MASKED, WAITER_PUBLIC),
        ("gpu.processes", "processes", PROCESS_MASKED, PROCESS_PUBLIC),
        ("lease.get", "", LEASE_MASKED, LEASE_PUBLIC),
    ],
)
def test_others_see_that_it_is_there_and_not_what_is_personal(
    viewers: dict[str, Caller],
    owned: Owned,
    method: str,
    entries: str,
    masked: Mapping[str, Any],
    public: set[str],
) -> None:
    params = {"lease": owned.known["lease"]} if method == "lease.get" else {}
    shown = {user: _entries(caller, method, params, entries) for user, caller in viewers.items()}
    assert shown[OWNER]
    for each in shown[OWNER]:
        assert set(each) == {*masked, *public}, "each member has a row"
    for user, seen in shown.items():
        for each, own in zip(seen, shown[OWNER], strict=True):
            for member in public - MOVES:
                assert each[member] == own[member], (user, member)
            for member in masked:
                wanted = masked[member] if user in OTHERS else own[member]
                assert _still(each[member]) == _still(wanted), (user, member)
    if entries != "leases":  # how each was placed is told of one lease alone
        told = {member for member in masked if shown[OWNER][0][member] != masked[member]}
        assert told >= set(masked) - {"unit", "container"}, "the owner sees something in each"


def _still(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: each for name, each in value.items() if name not in MOVES}


def _entries(caller: Caller, method: str, params: Json, entries: str) -> list[Json]:
    result = caller.result(method, params)
    found: list[Json] = result[entries] if entries else [result]
    return sorted(found, key=lambda each: str(each.get("id", each.get("pid"))))


@pytest.mark.parametrize("look", OWN, ids=lambda look: f"{look.method}-{look.entries}")
def test_of_what_is_a_users_own_others_see_nothing(
    viewers: dict[str, Caller], owned: Owned, look: Look
) -> None:
    for user, caller in viewers.items():
        if not may_call(ROLE[user], look.method):  # type: ignore[arg-type]
            continue
        entries = caller.result(look.method, look.params)[look.entries]
        hers = [each for each in entries if each["uid"] == owned.known["uid"]]
        assert bool(hers) == (user not in OTHERS), (user, look.method)


@pytest.mark.parametrize("user", OTHERS)
def test_no_answer_to_another_has_anything_personal_in_it(
    viewers: dict[str, Caller], owned: Owned, user: str
) -> None:
    caller = viewers[user]
    for method, params in LOOKS:
        caller.ask(method, _filled_in(params, owned.known))
    assert len(caller.heard) >= len(LOOKS)
    asked_for = f'"result":{{"id":"{MARK}-lease",'
    heard = [line.replace(asked_for, "") for line in caller.heard]
    assert [line[:2000] for line in heard if MARK in line] == []


@pytest.mark.parametrize("user", ADMINS)
def test_admins_find_it_wherever_it_is_to_be_seen(
    viewers: dict[str, Caller], owned: Owned, user: str
) -> None:
    shows = {
        method
        for method, params in LOOKS
        if MARK in json.dumps(viewers[user].result(method, _filled_in(params, owned.known)))
    }
    kept = {look.method for look in OWN}
    assert shows == {*kept, "lease.list", "lease.get"}, "gpu.processes shows a user, see above"


def test_the_methods_that_are_looked_at_are_all_that_show_anything() -> None:
    """What is left is about what its caller names: it is touched, below."""
    touched = {touch.method for touch in (*TOUCHES, *RULED)}
    looked = {method for method, _ in LOOKS}
    acts_on_the_host = {method for method, (role, _) in MATRIX.items() if role == "admin"}
    acts_on_ones_own = {"limit.acquire", "breaker.acquire", "trace.annotate"}
    assert touched | looked | acts_on_the_host | acts_on_ones_own == set(MATRIX)


def test_events_reach_whom_they_belong_to_and_admins(
    viewers: dict[str, Caller], owned: Owned
) -> None:
    for user, caller in viewers.items():
        caller.result("system.ping")
        hers = {each["type"] for each in caller.events if each["uid"] == owned.known["uid"]}
        if user in OTHERS:
            assert hers == set(), user
            assert {each["uid"] for each in caller.events} <= {None, caller.uid}
        else:
            assert hers >= {"lease.granted", "lease.queued", "lease.draining"}, user


def test_the_log_is_as_the_events_are(service: Service, owned: Owned) -> None:
    logs = ("superezioctl", "logs", "--lease", str(owned.known["lease"]))
    for user in OTHERS:
        assert MARK not in service.machine.run(*logs, user=user, check=False).stdout
    assert str(owned.known["lease"]) in service.machine.output(*logs)


# --- what they can do ---------------------------------------------------------------------------


@pytest.mark.parametrize("user", OTHERS)
def test_another_cannot_touch_it(viewers: dict[str, Caller], owned: Owned, user: str) -> None:
    caller = viewers[user]
    known = {**owned.known, "pid": caller.pid}
    wrong = [wrong for touch in TOUCHES if (wrong := _faults(caller, touch, known))]
    assert not wrong, "\n".join(wrong)
    # All is as it was, and hers.
    hers = viewers[OWNER]
    states = {each["id"]: each["state"] for each in hers.result("lease.list")["leases"]}
    assert states[owned.known["lease"]] == "draining", "as she has ordered herself"
    assert states[owned.known["timed"]] != "draining"
    assert owned.known["bound"] in states
    assert hers.result("lease.list")["queue"][0]["id"] == owned.known["waiter"]
    breaker = hers.result("breaker.get", {"name": f"{MARK}-breaker"})
    assert (breaker["state"], breaker["permits"], breaker["failures"]) == ("closed", 2, 0)
    limit = hers.result("limit.peek", {"name": f"{MARK}-limit"})
    assert limit["reservations"] == 1
    entry = {"namespace": f"{MARK}-cache", "key": f"{MARK}-key"}
    assert hers.result("cache.get", entry)["text"] == f"{MARK}-value"


def _faults(caller: Caller, touch: Touch, known: Mapping[str, Any]) -> str | None:
    """Make a call; return what is wrong with how it ends."""
    answer = caller.ask(touch.method, _filled_in(touch.params, known))
    what = f"{caller.user} calls {touch.method} {touch.params}: {answer}"
    if not may_call(ROLE[caller.user], touch.method):  # type: ignore[arg-type]
        named = answer.get("error", {}).get("data", {}).get("group")
        return None if named == "superezio" else what
    if kind_of(answer) != touch.ends:
        return what
    if touch.ends == "permission_denied" and "group" not in answer["error"]["data"]:
        return f"it does not say which group to join: {what}"
    if touch.ends == "ok":
        wanted = _filled_in(touch.result, known)
        return None if answer["result"].items() >= wanted.items() else what
    return None if touch.says.replace("$uid", str(known["uid"])) in str(answer) else what


def _filled_in(params: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: known[value[1:]] if isinstance(value, str) and value.startswith("$") else value
        for name, value in params.items()
    }


@pytest.mark.parametrize(
    ("user", "may_use"),
    [("anna", {"of-anna", "of-a-group", "of-all"}), ("ben", {"of-all"}), ("vera", set())],
)
def test_a_shared_name_is_for_those_whom_the_configuration_lists(
    viewers: dict[str, Caller], user: str, may_use: set[str]
) -> None:
    caller = viewers[user]
    for name in ("of-anna", "of-a-group", "of-all"):
        answer = caller.ask("breaker.acquire", {"name": name})
        if name in may_use:
            permit = answer["result"]["permit"]
            caller.result("breaker.settle", {"name": name, "permit": permit, "outcome": "ignore"})
            refused = caller.ask("breaker.force_open", {"name": name})
            assert "only an admin" in refused["error"]["message"]
            assert "join the group superezio-admin" in refused["error"]["message"]
        assert kind_of(answer) == ("ok" if name in may_use else "permission_denied")
    if user == "ben":
        shown = {each["name"] for each in caller.result("breaker.list")["breakers"]}
        assert shown & {"of-anna", "of-a-group"} == set()
    of_group: tuple[tuple[str, Json], ...] = (
        ("breaker.acquire", {"name": "of-a-group"}),
        ("limit.acquire", {"name": "of-a-group"}),
        ("cache.get", {"namespace": "of-a-group", "key": "k"}),
    )
    for method, params in of_group:
        answer = caller.ask(method, params)
        if user == "anna":
            assert "result" in answer
        else:
            group = "ai" if user == "ben" else "superezio"
            assert f"Join the group {group} (" in answer["error"]["message"]
            assert "log in again" in answer["error"]["message"]


def test_an_admin_may_do_all_of_it(viewers: dict[str, Caller], owned: Owned) -> None:
    """The last one: it is gone then."""
    caller = viewers["dora"]
    wrong = [wrong for touch in RULED if (wrong := _faults(caller, touch, owned.known))]
    assert not wrong, "\n".join(wrong)
    left = {each["id"] for each in viewers[OWNER].result("lease.list")["leases"]}
    assert owned.known["lease"] not in left
    assert {owned.known["timed"], owned.known["bound"]} <= left
