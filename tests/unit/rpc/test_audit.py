"""Every administrative act leaves one record: who, by which process, what, and how it ended."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from superezio.errors import ConflictError, PermissionDeniedError
from superezio.wire import Done, Params, Role
from supereziod.observability.correlation import note
from supereziod.observability.targets import decides_over
from supereziod.rpc import dispatcher
from supereziod.rpc.access import AccessPolicy
from supereziod.rpc.actors import Actor, Actors
from supereziod.rpc.audit import AuditTrail
from supereziod.rpc.limits import Limits
from supereziod.rpc.method import Audit, Method
from supereziod.rpc.peers import Peer
from unit.rpc.built import OneRole
from unit.rpc.serving import Client, method, serving

ME = os.geteuid()
SOMEBODY = ME + 1


class Named(Params):
    name: str = "x"
    owner: int | None = None
    reason: str = ""


class Records:
    """What was written, and the clock of what may be."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.written: list[dict[str, Any]] = []
        self.trail = AuditTrail(self.write, clock=lambda: self.now_ns)

    def write(self, event: str, **fields: Any) -> None:
        self.written.append({"event": event, **fields})

    def take(self) -> dict[str, Any]:
        (record,) = self.written
        self.written.clear()
        return record


@pytest.fixture
def records() -> Records:
    return Records()


def act(
    audit: Audit, *, role: Role = "user", may_wait: bool = False, handler: Any = None
) -> Method:
    """A method that decides over something of `owner`, as those of the daemon do."""

    def decide(_request: object, params: Named) -> Done:
        decides_over(f"thing {params.name}", owner=params.owner)
        if params.owner not in (None, ME) and params.reason == "not yours":
            raise PermissionDeniedError("cannot change it: it is somebody else's")
        if params.reason == "conflict":
            raise ConflictError("it is in use")
        if params.reason == "bug":
            raise ZeroDivisionError
        note(gpu="GPU-1", lease="L1")
        return Done(done=params.reason != "nothing to do")

    made = method("thing.do", Named, handler or decide, role=role, may_wait=may_wait)
    return replace(made, audit=audit)


@asynccontextmanager
async def calling(
    directory: Path, records: Records, *methods: Method, role: Role = "admin"
) -> AsyncIterator[Client]:
    access: AccessPolicy = OneRole(own_uid=-1, role=role)
    async with serving(directory, methods, access=access, audit=records.trail) as served:
        yield await served.client()


async def test_an_act_is_recorded_with_who_and_what_and_how(
    tmp_path: Path, records: Records
) -> None:
    async with calling(tmp_path, records, act("always", role="admin")) as client:
        meta = {"correlation_id": "c-1"}
        await client.call("thing.do", {"name": "a", "reason": "fan"}, meta=meta)
    record = records.take()
    comm = Path("/proc/self/comm").read_text().strip()
    assert record["event"] == "audit.done"
    assert record["message"].endswith('thing.do {"name":"a","reason":"fan"} (thing a of all): done')
    assert f"(uid={ME})" in record["message"]
    assert f"pid {os.getpid()} ({comm})" in record["message"]
    assert (record["audit"], record["outcome"], record["role"]) == (1, "done", "admin")
    assert (record["uid"], record["pid"], record["actor_comm"]) == (ME, os.getpid(), comm)
    assert (record["gpu"], record["lease"], record["correlation_id"]) == ("GPU-1", "L1", "c-1")
    assert (record["target"], record["target_uid"]) == ("thing a", None)


@pytest.mark.parametrize(
    ("reason", "event", "outcome"),
    [
        ("", "audit.done", "done"),
        ("nothing to do", "audit.done", "unchanged"),
        ("not yours", "audit.refused", "refused"),
        ("conflict", "audit.failed", "failed"),
        ("bug", "audit.failed", "failed"),
    ],
)
async def test_how_an_act_on_anothers_ended_is_recorded(
    tmp_path: Path, records: Records, reason: str, event: str, outcome: str
) -> None:
    async with calling(tmp_path, records, act("others")) as client:
        await client.call("thing.do", {"owner": SOMEBODY, "reason": reason})
    record = records.take()
    assert (record["event"], record["outcome"]) == (event, outcome)
    assert record["target_uid"] == SOMEBODY


async def test_what_is_ones_own_is_nobodys_business_and_what_is_shared_is(
    tmp_path: Path, records: Records
) -> None:
    async with calling(tmp_path, records, act("others")) as client:
        await client.call("thing.do", {"owner": ME})
        await client.call("thing.do", {"owner": ME, "reason": "conflict"})
        assert records.written == []
        await client.call("thing.do", {"owner": None})
    assert records.take()["target_uid"] is None


@pytest.mark.parametrize("audit", ["always", "others"])
async def test_an_attempt_without_the_role_is_recorded(
    tmp_path: Path, records: Records, audit: Audit
) -> None:
    async with calling(tmp_path, records, act(audit, role="admin"), role="user") as client:
        answer = await client.call("thing.do", {"name": "a"})
    assert answer["error"]["data"]["kind"] == "permission_denied"
    record = records.take()
    assert (record["event"], record["role"]) == ("audit.refused", "user")
    assert record["error_kind"] == "permission_denied"
    assert "refused: cannot call thing.do as user" in record["message"]


#: Methods of admins of which a call that names `r` only reads.
READING = (
    replace(act("always", role="admin"), only_reads=lambda params: params.name == "r"),
    act("refusals", role="admin"),
)


@pytest.mark.parametrize("reading", READING)
async def test_a_look_is_no_act_and_leaves_a_record_where_it_was_refused(
    tmp_path: Path, records: Records, reading: Method
) -> None:
    async with calling(tmp_path, records, reading) as client:
        await client.call("thing.do", {"name": "r"})
        await client.call("thing.do", {"name": "r", "owner": SOMEBODY})
        await client.call("thing.do", {"name": "r", "reason": "conflict"})
    assert records.written == []
    async with calling(tmp_path / "b", records, reading, role="user") as client:
        await client.call("thing.do", {"name": "r"})
    record = records.take()
    assert (record["event"], record["role"], record["uid"]) == ("audit.refused", "user", ME)
    assert record["action"] == "thing.do"


async def test_what_is_no_act_leaves_none(tmp_path: Path, records: Records) -> None:
    async with calling(tmp_path, records, act("always", role="admin")) as client:
        await client.call("thing.undone", {"unheard_of": 1})
    async with calling(tmp_path / "b", records, act("never", role="admin")) as client:
        await client.call("thing.do", {"owner": SOMEBODY})
    assert records.written == []


async def test_acts_in_a_batch_and_without_an_answer_are_recorded(
    tmp_path: Path, records: Records
) -> None:
    call = {"jsonrpc": "2.0", "method": "thing.do", "params": {"name": "a"}}
    async with calling(tmp_path, records, act("always", role="admin")) as client:
        await client.ask([{**call, "id": 1}, call])
        await client.send(call)
        await client.call("thing.do", {"name": "last"})
    assert [each["target"] for each in records.written] == ["thing a"] * 3 + ["thing last"]


async def test_one_that_waits_is_recorded_when_it_ends_also_if_its_caller_is_gone(
    tmp_path: Path, records: Records
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_request: object, _params: Named) -> Done:
        begun.set()
        await go_on.wait()
        return Done(done=True)

    slow = act("always", role="admin", may_wait=True, handler=wait)
    async with calling(tmp_path, records, slow) as client:
        asking = asyncio.ensure_future(client.call("thing.do", {"name": "a"}))
        await begun.wait()
        assert records.written == []
        go_on.set()
        await asking
        assert records.take()["outcome"] == "done"
        begun.clear()
        go_on.clear()
        await client.send({"jsonrpc": "2.0", "id": 2, "method": "thing.do"})
        await begun.wait()
    record = records.take()
    assert (record["event"], record["error_kind"]) == ("audit.failed", "cancelled")
    assert record["actor_comm"] is not None


async def test_who_asked_for_one_that_waits_is_looked_up_while_they_are_there(
    tmp_path: Path, records: Records
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Ending(Actors):
        def describe(self, peer: Peer, pidfd: int | None) -> Actor:
            del pidfd
            return Actor(uid=peer.uid, pid=peer.pid, comm="ended" if go_on.is_set() else "there")

    async def wait(_request: object, _params: Named) -> Done:
        begun.set()
        await go_on.wait()
        return Done(done=True)

    records.trail = AuditTrail(records.write, actors=Ending())
    slow = act("always", role="admin", may_wait=True, handler=wait)
    async with calling(tmp_path, records, slow) as client:
        asking = asyncio.ensure_future(client.call("thing.do"))
        await begun.wait()
        go_on.set()
        await asking
    assert records.take()["actor_comm"] == "there"


async def test_attempts_without_end_are_counted_and_admins_never_left_out(
    tmp_path: Path, records: Records
) -> None:
    async with calling(tmp_path, records, act("always", role="admin"), role="user") as client:
        for _ in range(100):
            await client.call("thing.do")
        assert len(records.written) == 20
        records.written.clear()
        records.now_ns = 10_000_000_000
        await client.call("thing.do")
    assert records.take()["left_out"] == 80
    async with calling(tmp_path / "b", records, act("always", role="admin")) as client:
        for _ in range(100):
            await client.call("thing.do")
    assert len(records.written) == 100


async def test_no_number_of_attempts_hides_what_was_done(tmp_path: Path, records: Records) -> None:
    async with calling(tmp_path, records, act("others"), role="user") as client:
        for reason in ("not yours", "conflict", "nothing to do"):
            for _ in range(30):
                await client.call("thing.do", {"owner": SOMEBODY, "reason": reason})
        records.written.clear()
        await client.call("thing.do", {"owner": SOMEBODY})
    record = records.take()
    assert (record["outcome"], "left_out" in record) == ("done", False)


# --- calls that nobody looked at ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "kind", "parameters"),
    [
        ({"params": {"unheard_of": 1}}, "invalid_params", None),
        ({"params": [1, 2, 3, 4]}, "invalid_params", None),
        ({"params": 3}, "invalid_request", None),
        ({"meta": {"deadline_ms": "x"}}, "invalid_request", None),
        ({"id": [1]}, "invalid_request", None),
        ({"jsonrpc": "1.0"}, "invalid_request", None),
    ],
)
async def test_an_administrative_call_that_cannot_be_read_is_recorded(
    tmp_path: Path, records: Records, call: dict[str, Any], kind: str, parameters: str | None
) -> None:
    whole = {"jsonrpc": "2.0", "id": 1, "method": "thing.do", **call}
    async with calling(tmp_path, records, act("always", role="admin")) as client:
        answer = await client.ask(whole)
    record = records.take()
    assert (record["event"], record["outcome"]) == ("audit.turned_away", "turned_away")
    assert (record["action"], record["error_kind"]) == ("thing.do", kind)
    assert (record["parameters"], record["target"]) == (parameters, None)
    assert record["message"].endswith(f"thing.do: turned away: {answer['error']['message']}")
    assert (record["uid"], record["actor_comm"] is None) == (ME, False)


async def test_an_administrative_call_that_came_too_fast_is_recorded_with_what_it_asked(
    tmp_path: Path, records: Records
) -> None:
    limits = Limits(requests_burst=2, requests_per_second=1)
    methods = [act("always", role="admin")]
    access: AccessPolicy = OneRole(own_uid=-1, role="admin")
    async with serving(
        tmp_path, methods, access=access, audit=records.trail, limits=limits, clock=lambda: 0
    ) as served:
        client = await served.client()
        for name in ("a", "b"):
            await client.call("thing.do", {"name": name})
        records.written.clear()
        answer = await client.call("thing.do", {"name": "c"})
    assert answer["error"]["data"]["kind"] == "busy"
    record = records.take()
    assert (record["event"], record["error_kind"]) == ("audit.turned_away", "busy")
    assert record["parameters"] == '{"name":"c","reason":""}'
    assert (
        'thing.do {"name":"c","reason":""}: turned away: too many requests a second'
        in record["message"]
    )


async def test_one_that_a_batch_has_no_room_for_is_recorded(
    tmp_path: Path, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "MAX_BATCH_ANSWER_BYTES", 10)
    call = {"jsonrpc": "2.0", "id": 1, "method": "thing.do", "params": {"name": "a"}}
    async with calling(tmp_path, records, act("always", role="admin")) as client:
        await client.ask([call, call, {**call, "params": 3}])
    assert [each["outcome"] for each in records.written] == ["done", "turned_away", "turned_away"]
    assert [each["parameters"] for each in records.written[1:]] == [
        '{"name":"a","reason":""}',
        None,
    ]


async def test_what_was_turned_away_is_told_of_administrative_methods_alone(
    tmp_path: Path, records: Records
) -> None:
    """Of the others it is not known whether they were about somebody else's."""
    async with calling(tmp_path, records, act("others"), role="user") as client:
        await client.call("thing.do", {"unheard_of": 1})
        await client.call("no.such.method")
        await client.ask({"jsonrpc": "2.0", "id": 1, "method": 3})
    limits = Limits(requests_burst=1, requests_per_second=1)
    async with serving(
        tmp_path / "b", [READING[0]], audit=records.trail, limits=limits, clock=lambda: 0
    ) as served:
        client = await served.client()
        for _ in range(3):
            await client.call("thing.do", {"name": "r"})
    assert records.written == []


async def test_a_flood_of_what_is_turned_away_is_counted_whoever_sends_it(
    tmp_path: Path, records: Records
) -> None:
    async with calling(tmp_path, records, act("always", role="admin")) as client:
        for _ in range(100):
            await client.call("thing.do", {"unheard_of": 1})
        assert len(records.written) == 20
        records.written.clear()
        await client.call("thing.do")
        assert "left_out" not in records.take(), "an act is none of them"
        records.now_ns = 10_000_000_000
        await client.call("thing.do", {"unheard_of": 1})
    assert records.take()["left_out"] == 80


async def test_who_is_behind_a_call_is_not_looked_up_for_what_leaves_no_record(
    tmp_path: Path, records: Records
) -> None:
    """Files are read for it, on the loop: no flood may have it done thousands of times."""
    asked: list[int] = []

    class Counting(Actors):
        def describe(self, peer: Peer, pidfd: int | None) -> Actor:
            asked.append(peer.uid)
            return super().describe(peer, pidfd)

    records.trail = AuditTrail(records.write, actors=Counting(), clock=lambda: 0)
    method = act("always", role="admin", may_wait=True)
    async with calling(tmp_path, records, method, role="user") as client:
        for number in range(100):
            await client.call("thing.do", {"unheard_of": 1} if number % 2 else {})
    assert len(asked) == len(records.written) == 20


async def test_an_error_that_repeats_what_was_sent_is_cut(tmp_path: Path, records: Records) -> None:
    async with calling(tmp_path, records, act("always", role="admin")) as client:
        await client.call("thing.do", {"x" * 10_000: 1})
    assert len(records.take()["message"]) < 2048 + 200


async def test_nothing_that_a_caller_chooses_adds_a_line(tmp_path: Path) -> None:
    """`journalctl -o cat` would show it as one of the daemon's own."""

    class Misnamed(Actors):
        def describe(self, peer: Peer, _pidfd: int | None = None) -> Actor:
            return Actor(uid=peer.uid, pid=peer.pid, comm="a\nroot: all")

    records = Records()
    records.trail = AuditTrail(records.write, actors=Misnamed())
    async with calling(tmp_path, records, act("always", role="admin")) as client:
        await client.call("thing.do", {"x\nroot (uid=0): gpu.cordon: done": 1})
        await client.call("thing.do", {"name": "a\nb", "reason": "conflict"})
    assert [record["event"] for record in records.written] == ["audit.turned_away", "audit.failed"]
    assert all("root: all" in record["message"] for record in records.written)
    assert not any("\n" in record["message"] for record in records.written)


async def test_long_parameters_are_cut(tmp_path: Path, records: Records) -> None:
    async with calling(tmp_path, records, act("always", role="admin")) as client:
        await client.call("thing.do", {"name": "x" * 10_000})
    assert len(records.take()["parameters"]) == 512 + len("...")


async def test_what_a_signal_asked_for_says_so(records: Records) -> None:
    async def fine() -> int:
        return 7

    async def refuse() -> int:
        raise ConflictError("cannot reload: superezio.toml:3: no key lmits")

    assert await records.trail.by_signal("SIGHUP", "system.reload", fine) == 7
    record = records.take()
    assert record["message"] == "by the signal SIGHUP: system.reload: done"
    assert (record["event"], record["signal"], record["audit"]) == ("audit.done", "SIGHUP", 1)
    with pytest.raises(ConflictError):
        await records.trail.by_signal("SIGHUP", "system.reload", refuse)
    record = records.take()
    assert (record["event"], record["error_kind"]) == ("audit.failed", "conflict")
    assert record["message"].endswith("failed: cannot reload: superezio.toml:3: no key lmits")


# --- who it was ---------------------------------------------------------------------------------


class Host:
    """The files of a host that say who is who."""

    def __init__(self, root: Path) -> None:
        self.passwd = root / "passwd"
        self.passwd.write_text("root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nbad\n")
        self.logins = root / "users"
        self.logins.mkdir()
        self.proc = root / "proc"
        self.actors = Actors(proc=self.proc, passwd=self.passwd, logins=self.logins)

    def process(self, pid: int, **files: str) -> None:
        (self.proc / str(pid)).mkdir(parents=True)
        for name, text in files.items():
            (self.proc / str(pid) / name).write_text(text)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def ended() -> Iterator[int]:
    """A pidfd of a process that has ended."""
    process = subprocess.Popen(["sleep", "1000"])
    pidfd = os.pidfd_open(process.pid)
    process.kill()
    process.wait()
    yield pidfd
    os.close(pidfd)


def peer(uid: int, pid: int) -> Peer:
    return Peer(uid=uid, gid=uid, pid=pid, groups=frozenset())


def test_sudo_does_not_hide_who_logged_in(host: Host) -> None:
    host.process(
        42,
        comm="superezioctl\n",
        loginuid="1000",
        cgroup="0::/user.slice/user-1000.slice/session-3.scope\n",
    )
    actor = host.actors.describe(peer(0, 42), None)
    assert str(actor) == (
        "root (uid=0), logged in as alice, by pid 42 (superezioctl) in session-3.scope"
    )
    assert (actor.login_uid, actor.login_user) == (1000, "alice")


def test_a_unit_of_a_users_own_manager_is_not_taken_for_one_of_the_hosts(host: Host) -> None:
    own = "/user.slice/user-1000.slice/user@1000.service/app.slice/superezio.service"
    host.process(42, comm="superezioctl\n", cgroup=f"0::{own}\n", loginuid="1000")
    actor = host.actors.describe(peer(1000, 42), None)
    assert (actor.unit, actor.inner_unit) == ("user@1000.service", "superezio.service")
    assert str(actor).endswith(" in superezio.service of user@1000.service")


def test_the_name_of_a_process_cannot_look_like_the_rest_of_the_line(host: Host) -> None:
    host.process(42, comm="x): done | (y\n", loginuid="4294967295")
    actor = host.actors.describe(peer(1000, 42), None)
    assert str(actor) == "alice (uid=1000) by pid 42 (x?: done ? ?y)"
    assert actor.comm == "x): done | (y"


def test_the_name_of_a_users_unit_cannot_look_like_the_rest_of_the_line(host: Host) -> None:
    forged = "a.service: gpu.cordon: done | root (uid=0) by pid 1 (x) in b.service"
    host.process(
        42, comm="x\n", cgroup=f"0::/user.slice/user@1000.service/{forged}\n", loginuid="1000"
    )
    assert str(host.actors.describe(peer(1000, 42), None)) == (
        "alice (uid=1000) by pid 42 (x) in a.service:?gpu.cordon:?done???root??uid?0??by?pid?1??x?"
        "?in?b.service of user@1000.service"
    )


def test_what_cannot_be_seen_is_left_out(host: Host) -> None:
    host.process(42, comm="x\n", loginuid="4294967295")
    assert str(host.actors.describe(peer(1000, 42), None)) == "alice (uid=1000) by pid 42 (x)"
    assert str(host.actors.describe(peer(7, 43), None)) == "uid 7 by pid 43"
    assert str(host.actors.describe(peer(7, 0), None)) == (
        "uid 7 by a process that cannot be seen from here"
    )


def test_a_process_that_ended_is_not_taken_for_another_of_its_pid(host: Host, ended: int) -> None:
    host.process(42, comm="innocent\n", loginuid="1000")
    actor = host.actors.describe(peer(1000, 42), ended)
    assert (actor.comm, actor.unit, actor.login_uid) == (None, None, None)


def test_users_are_known_from_files_and_a_new_one_at_once(host: Host) -> None:
    assert host.actors.describe(peer(2000, 0), None).user is None
    (host.logins / "2000").write_text("# private\nNAME=from-directory\nSTATE=active\n")
    assert host.actors.describe(peer(2000, 0), None).user == "from-directory"
    fresh = host.passwd.with_name("new")
    fresh.write_text("bob:x:2000:2000::/:/bin/sh\n")
    fresh.rename(host.passwd)
    assert host.actors.describe(peer(2000, 0), None).user == "bob"
    assert host.actors.describe(peer(1000, 0), None).user is None
