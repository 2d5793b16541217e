from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import wire_samples
from fake_daemon import FakeDaemon, HangUp, Silence
from superezio import AsyncClient, envelope, errors, wire
from superezio.holder import start_time
from superezio.link import Link


@pytest.fixture
async def client(daemon: FakeDaemon) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(str(daemon.path), timeout_s=5.0) as made:
        yield made


CALLS: list[tuple[str, dict[str, Any], str]] = [
    ("system_ping", {}, "system.ping"),
    ("system_info", {}, "system.info"),
    ("system_reload", {}, "system.reload"),
    ("config_get", {"key": "leases"}, "config.get"),
    ("config_diff", {}, "config.diff"),
    ("system_log_level", {"level": "debug"}, "system.log_level"),
    ("health_get", {}, "health.get"),
    ("metrics_get", {}, "metrics.get"),
    ("gpu_list", {}, "gpu.list"),
    ("gpu_get", {"gpu": "0"}, "gpu.get"),
    ("gpu_history", {"gpu": "0", "since": 60}, "gpu.history"),
    ("gpu_processes", {}, "gpu.processes"),
    ("gpu_cordon", {"gpu": "0"}, "gpu.cordon"),
    ("gpu_uncordon", {"gpu": "0"}, "gpu.uncordon"),
    ("gpu_detach", {}, "gpu.detach"),
    ("gpu_attach", {}, "gpu.attach"),
    ("lease_acquire", {"vram": "1GiB"}, "lease.acquire"),
    ("lease_attach", {"lease": "1", "pid": 2}, "lease.attach"),
    ("lease_release", {"lease": "1"}, "lease.release"),
    ("lease_cancel", {"waiter": "1"}, "lease.cancel"),
    ("lease_list", {}, "lease.list"),
    ("lease_quota", {}, "lease.quota"),
    ("limit_acquire", {"name": "openai", "tokens": 9}, "limit.acquire"),
    ("limit_settle", {"reservation": 7, "tokens": 8}, "limit.settle"),
    ("limit_peek", {"name": "openai"}, "limit.peek"),
    ("limit_list", {}, "limit.list"),
    ("limit_reset", {"name": "openai"}, "limit.reset"),
    ("lease_get", {"lease": "1"}, "lease.get"),
    ("cache_get", {"namespace": "n", "key": "k"}, "cache.get"),
    ("cache_set", {"namespace": "n", "key": "k", "value": "v"}, "cache.set"),
    ("cache_fail", {"namespace": "n", "key": "k", "token": "t"}, "cache.fail"),
    ("cache_delete", {"namespace": "n", "key": "k"}, "cache.delete"),
    ("cache_clear", {"namespace": "n"}, "cache.clear"),
    ("cache_stats", {}, "cache.stats"),
    ("placement_explain", {"vram": 1}, "placement.explain"),
    ("session_open", {"name": "x"}, "session.open"),
    ("session_close", {"session_id": "s"}, "session.close"),
    ("session_list", {}, "session.list"),
    ("rpc_discover", {}, "rpc.discover"),
    ("breaker_acquire", {"name": "a", "rules": wire.BreakerRules(open_s=1)}, "breaker.acquire"),
    ("breaker_acquire", {"name": "a", "rules": {"open_s": 1}}, "breaker.acquire"),
    ("breaker_settle", {"name": "a", "permit": 7, "outcome": "ignore"}, "breaker.settle"),
    ("breaker_get", {"name": "a"}, "breaker.get"),
    ("breaker_list", {}, "breaker.list"),
    ("breaker_force_open", {"name": "a"}, "breaker.force_open"),
    ("breaker_disable", {"name": "a"}, "breaker.disable"),
    ("breaker_reset", {"name": "a"}, "breaker.reset"),
]


@pytest.mark.parametrize(("name", "arguments", "method"), CALLS)
async def test_each_method_answers_with_its_type(
    client: AsyncClient, daemon: FakeDaemon, name: str, arguments: dict[str, Any], method: str
) -> None:
    assert await getattr(client, name)(**arguments) == daemon.answers[method]


@pytest.mark.parametrize("method", ["lease_acquire", "placement_explain"])
async def test_an_option_with_a_typo_is_refused(
    client: AsyncClient, daemon: FakeDaemon, method: str
) -> None:
    with pytest.raises(TypeError, match="unknown option polcy"):
        await getattr(client, method)("2GiB", polcy="spread")
    assert not daemon.requests


async def test_calls_share_a_connection_and_none_waits_for_another(
    client: AsyncClient, daemon: FakeDaemon
) -> None:
    let_go = threading.Event()

    def slow(_: dict[str, Any]) -> wire.GpuList:
        assert let_go.wait(10)
        return wire_samples.gpu_list()

    daemon.answers["gpu.list"] = slow
    slow_call = asyncio.create_task(client.gpu_list())
    pongs = await asyncio.gather(*(client.system_ping() for _ in range(50)))
    assert {pong.pid for pong in pongs} == {77}
    assert not slow_call.done()
    let_go.set()
    assert len((await slow_call).gpus) == 2
    assert daemon.connections == 1


async def test_a_lease_is_held_for_the_block(client: AsyncClient, daemon: FakeDaemon) -> None:
    async with client.lease("8GiB", wait="10s") as lease:
        assert not daemon.asked("lease.release")
    assert daemon.params_of("lease.release") == {"lease": lease.id}
    assert daemon.params_of("lease.acquire")["wait_ms"] == 10_000
    daemon.answers["lease.release"] = errors.InternalError("broken")
    with pytest.raises(ZeroDivisionError):
        async with client.lease("1GiB"):
            raise ZeroDivisionError


async def test_errors_are_raised_by_kind(client: AsyncClient, daemon: FakeDaemon) -> None:
    daemon.answers["lease.acquire"] = errors.NeverFitsError("too big")
    with pytest.raises(errors.NeverFitsError, match="too big"):
        await client.lease_acquire("80GiB")


async def test_a_call_lost_with_its_connection_is_made_again(
    client: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["lease.acquire"] = [
        HangUp,
        errors.ShuttingDownError("stopping"),
        wire_samples.lease(),
    ]
    await client.lease_acquire("1GiB")
    keys = {request["meta"]["idempotency_key"] for request in daemon.asked("lease.acquire")}
    assert len(keys) == 1
    assert len(daemon.asked("lease.acquire")) == 3


async def test_a_wait_that_is_asked_for_again_ends_when_the_first_would_have(
    daemon: FakeDaemon,
) -> None:
    now_ns = 0

    def stopping(_: dict[str, Any]) -> errors.SuperezioError:
        nonlocal now_ns
        now_ns += 12_000_000_000
        return errors.ShuttingDownError("stopping")

    daemon.answers["lease.acquire"] = [stopping, wire_samples.lease()]
    async with AsyncClient(str(daemon.path), clock=lambda: now_ns) as client:
        await client.lease_acquire("8GiB", wait=60)
    waits = [request["params"]["wait_ms"] for request in daemon.asked("lease.acquire")]
    assert waits == [60_000, 48_000]


async def test_what_is_not_idempotent_is_not_made_again(
    client: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["session.open"] = HangUp
    with pytest.raises(errors.ConnectionLostError):
        await client.session_open("x")
    assert len(daemon.asked("session.open")) == 1


async def test_a_daemon_that_starts_late_is_waited_for(
    client: AsyncClient, daemon: FakeDaemon
) -> None:
    await client.system_ping()
    daemon.stop()
    calls = [asyncio.create_task(client.system_ping()) for _ in range(3)]
    await asyncio.sleep(0)
    daemon.start()
    assert {pong.pid for pong in await asyncio.gather(*calls)} == {77}


async def test_a_daemon_that_does_not_start_is_said_when_time_is_up(tmp_path: Path) -> None:
    async with AsyncClient(str(tmp_path / "no.sock"), timeout_s=0.05) as client:
        with pytest.raises(errors.DaemonNotRunningError, match="supereziod"):
            await client.gpu_list()


async def test_a_cancelled_call_is_cancelled_in_the_daemon_too(
    client: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["lease.acquire"] = Silence
    waiting = asyncio.create_task(client.lease_acquire("8GiB", wait="1h"))
    (request,) = await asyncio.to_thread(daemon.await_asked, "lease.acquire")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    (cancel,) = await asyncio.to_thread(daemon.await_asked, "rpc.cancel")
    assert cancel["params"] == {"id": request["id"]}
    assert "id" not in cancel
    await client.system_ping()


async def test_a_call_out_of_time_is_cancelled_in_the_daemon_too(
    client: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["gpu.list"] = Silence
    with pytest.raises(errors.ReplyTimeoutError, match=r"gpu\.list within 50ms"):
        await client.gpu_list(timeout_s=0.05)
    await asyncio.to_thread(daemon.await_asked, "rpc.cancel")


async def test_connection_leases_are_resumed_over_a_reconnect(
    client: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["lease.acquire"] = wire_samples.lease(mode="connection", holder=[])
    async with client.lease("1GiB", mode="connection") as lease:
        daemon.answers["lease.resume"] = [
            daemon.answers["lease.resume"],
            errors.StaleLeaseError("gone"),
        ]
        for _ in range(3):
            daemon.answers["gpu.get"] = [HangUp, wire_samples.gpu()]
            await client.gpu_get("0")
        assert [request["params"] for request in daemon.asked("lease.resume")] == [
            {"lease": lease.id}
        ] * 2


async def test_a_holder_that_the_daemon_is_not_sure_of_vouches_for_itself(
    client: AsyncClient, daemon: FakeDaemon
) -> None:
    mine = start_time()
    assert mine is not None
    holder = [wire.HolderProcess(pid=5, start_time=mine, command=None)]
    daemon.answers["lease.acquire"] = wire_samples.lease(holder_confirmed=False, holder=holder)
    await client.lease_acquire("1GiB")
    assert daemon.params_of("lease.attach") == {"lease": "1ea5e", "pid": 5, "start_time": mine}
    daemon.answers["lease.acquire"] = wire_samples.lease(holder_confirmed=False)
    with pytest.raises(errors.HolderGoneError):
        await client.lease_acquire("1GiB")
    assert daemon.asked("lease.release")


async def test_closing_fails_what_is_in_flight(client: AsyncClient, daemon: FakeDaemon) -> None:
    daemon.answers["session.open"] = Silence
    call = asyncio.create_task(client.session_open())
    await asyncio.to_thread(daemon.await_asked, "session.open")
    await client.aclose()
    with pytest.raises(errors.ConnectionLostError):
        await call


async def test_what_answers_in_another_language_is_not_the_daemon(
    client: AsyncClient, daemon: FakeDaemon
) -> None:
    def garble(_: dict[str, Any]) -> object:
        daemon.push_raw(b"HTTP/1.1 400 Bad Request\n")
        return Silence

    daemon.answers["session.open"] = garble
    with pytest.raises(errors.ConnectionLostError, match="not the daemon"):
        await client.session_open()


async def test_a_daemon_that_does_not_read_holds_up_writers_not_memory(
    client: AsyncClient,
) -> None:
    await client.system_ping()
    link = client._conversation.link
    assert link is not None
    link.pause_writing()
    held = asyncio.create_task(client.system_ping())
    await asyncio.sleep(0)
    assert not held.done()
    link.resume_writing()
    assert (await held).pid == 77


async def test_a_daemon_that_takes_nothing_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("superezio.link._LAST_WORDS_S", 0.02)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        link = await Link.open(str(tmp_path / "s"))
        answer = link.request(1, b"x" * (8 << 20) + b"\n")
        await link.aclose()
        with pytest.raises(errors.ConnectionLostError):
            await answer


async def test_a_lost_link_says_so_to_each_call(daemon: FakeDaemon) -> None:
    link = await Link.open(str(daemon.path))
    await link.aclose()
    assert link.lost
    with pytest.raises(errors.ConnectionLostError):
        await link.request(1, b"\n")
    link.cancel(1)
    link.hold(on=True)


async def test_events_come_past_ones_first_and_over_a_restart(
    client: AsyncClient, daemon: FakeDaemon
) -> None:
    daemon.answers["events.subscribe"] = wire_samples.subscribed(3, [wire_samples.event(2)])
    async with client.events(["lease."], replay=1) as events:
        assert (await anext(events)).event.seq == 2
        daemon.push("somebody.elses", {})
        daemon.push("event", wire_samples.notification(7, lost=4))
        assert (await anext(events)).lost == 4
        daemon.answers["events.subscribe"] = [
            HangUp,
            wire_samples.subscribed(9, [wire_samples.event(n) for n in (7, 8)]),
        ]
        daemon.stop()
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        daemon.start()
        assert (await waiting).event.seq == 8
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_events_subscribe_with_the_first_one_asked_for(
    client: AsyncClient, daemon: FakeDaemon
) -> None:
    events = client.events()
    assert not daemon.requests
    first = asyncio.ensure_future(anext(events))
    await asyncio.to_thread(daemon.await_asked, "events.subscribe")
    daemon.push("event", wire_samples.notification(1))
    assert (await first).event.seq == 1
    await events.aclose()


async def test_closing_ends_the_wait_for_events(client: AsyncClient) -> None:
    async with client.events() as events:
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        await events.aclose()
        with pytest.raises(StopAsyncIteration):
            await waiting


async def test_unread_events_stay_with_the_daemon(
    client: AsyncClient, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def push() -> None:
        for seq in range(1, 3001):
            daemon.push("event", wire_samples.notification(seq))

    async with client.events() as events, asyncio.timeout(20):
        link = events._link
        assert link is not None
        held = asyncio.Event()
        hold = link.hold

        def noticed(*, on: bool) -> None:
            hold(on=on)
            held.set()

        monkeypatch.setattr(link, "hold", noticed)
        pushing = asyncio.create_task(asyncio.to_thread(push))
        await held.wait()
        assert len(events._ready) < 3000
        seen = [(await anext(events)).event.seq for _ in range(3000)]
        await pushing
    assert seen == list(range(1, 3001))


async def test_events_say_when_there_is_no_daemon(tmp_path: Path) -> None:
    client = AsyncClient(str(tmp_path / "no.sock"), timeout_s=0.03)
    with pytest.raises(errors.DaemonNotRunningError):
        await anext(client.events())


@pytest.mark.parametrize("answer", [Silence, HangUp, errors.ShuttingDownError("stopping")])
async def test_a_subscription_that_fails_is_given_up(daemon: FakeDaemon, answer: object) -> None:
    daemon.answers["events.subscribe"] = answer
    client = AsyncClient(str(daemon.path), timeout_s=0.05)
    events = client.events()
    with pytest.raises(
        (errors.ShuttingDownError, errors.ConnectionLostError, errors.ReplyTimeoutError)
    ):
        await anext(events)
    await events.aclose()


@pytest.mark.parametrize("turns", range(6))
async def test_closing_a_lost_connection_can_be_cancelled_at_any_moment(
    daemon: FakeDaemon, turns: int
) -> None:
    lost = asyncio.Event()
    link = await Link.open(str(daemon.path), on_lost=lost.set)
    # Answered, it is a connection that the daemon knows of, and ends.
    await link.request(1, envelope.encode("system.ping", None, id_=1, meta=None))
    daemon.stop()
    await lost.wait()
    closing = asyncio.create_task(link.aclose())
    for _ in range(turns):
        await asyncio.sleep(0)
    was_done = closing.done()
    closing.cancel()
    await asyncio.wait({closing})
    assert closing.cancelled() or was_done


@pytest.mark.parametrize("turns", range(12))
async def test_who_follows_events_can_be_cancelled_while_the_daemon_goes_away(
    client: AsyncClient, daemon: FakeDaemon, turns: int
) -> None:
    """Else the task goes on for ever, and so does whoever waits for its end."""

    async def follow() -> None:
        async with client.events() as events:
            async for _ in events:
                pass

    following = asyncio.create_task(follow())
    await asyncio.to_thread(daemon.await_asked, "events.subscribe")
    daemon.hang_up()
    for _ in range(turns):
        await asyncio.sleep(0)
    following.cancel()
    done, _ = await asyncio.wait({following}, timeout=5)
    assert done
    assert following.cancelled()
