"""The handlers over the socket: what they join, hide and pass on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from superezio.wire import AcquireParams, BreakerRules, Gpu, LimitReservation, Role
from supereziod.gpu.hardware import Block, ProcessUse
from supereziod.rpc.limits import Limits
from unit.rpc.built import GPU_A, GPU_B, Daemon, daemon
from unit.rpc.fakes import GIB, FakeUsage, gpu_view, mig_view


async def result(built: Daemon, name: str, params: Any = None, **members: Any) -> Any:
    answer = await (await built.client()).call(name, params, **members)
    assert "error" not in answer, answer
    return answer["result"]


async def error(built: Daemon, name: str, params: Any = None) -> Any:
    return (await (await built.client()).call(name, params))["error"]


# --- system, health -----------------------------------------------------------------------------


async def test_info_says_what_runs_and_whom_it_takes_the_caller_for(tmp_path: Path) -> None:
    async with daemon(tmp_path, role="user") as built:
        info = await result(built, "system.info")
    assert (info["version"], info["protocol"], info["pid"]) == ("1.2.3", 1, os.getpid())
    assert (info["uid"], info["role"]) == (os.getuid(), "user")
    assert (info["gpu_driver"], info["driver_version"]) == ("simulated", "580.1")
    assert info["config_files"] == ["/etc/superezio/superezio.toml"]
    assert info["uptime_s"] > 0


async def test_ping_and_health_answer(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        assert (await result(built, "system.ping"))["pid"] == os.getpid()
        assert (await result(built, "health.get"))["verdict"] == "healthy"


async def test_reload_tells_what_it_did_or_what_is_wrong(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        assert (await result(built, "system.reload"))["applied"] == ["log.level"]
        built.bad_config = True
        failed = await error(built, "system.reload")
    assert (failed["data"]["kind"], "line 3" in failed["message"]) == ("conflict", True)


async def test_the_configuration_is_told_by_key_and_compared(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        found = await result(built, "config.get", {"key": "leases", "all": True})
        assert found["values"][0]["origin"]["name"] == "leases/True"
        assert (await result(built, "config.get"))["values"][0]["origin"]["name"] == "None/False"
        failed = await error(built, "config.get", {"key": "leases.grce"})
        assert (failed["data"]["kind"], "mean grace" in failed["message"]) == ("not_found", True)
        assert (await result(built, "config.diff"))["changes"] == []


async def test_the_log_level_is_read_and_set(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        assert await result(built, "system.log_level") == {"level": "info", "previous": "info"}
        changed = await result(built, "system.log_level", {"level": "debug"})
        assert changed == {"level": "debug", "previous": "info"}
        failed = await error(built, "system.log_level", {"level": "loud"})
    assert (failed["code"], "'loud'" in failed["message"]) == (-32602, True)
    assert built.level == "debug"


# --- gpus ---------------------------------------------------------------------------------------


async def test_a_gpu_is_joined_with_what_is_leased_on_it(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        built.leases.usages = {GPU_A: FakeUsage()}
        leased, other = (await result(built, "gpu.list"))["gpus"]
    assert leased["vram_reserved_bytes"] == 3 * GIB
    assert leased["vram_foreign_bytes"] == GIB
    assert leased["vram_leasable_bytes"] == 8 * GIB
    assert leased["leases"] == 1
    assert (other["uuid"], other["leases"], other["vram_foreign_bytes"]) == (GPU_B, 0, None)
    assert set(leased) == set(Gpu.__struct_fields__)


async def test_what_a_card_does_not_support_is_null_and_never_zero(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        built.monitor.views = (
            gpu_view(0, GPU_A, throttle_mask=None),
            gpu_view(1, GPU_B, sampled=False, block=Block(code="unknown", message="no sample")),
        )
        gpu, silent = (await result(built, "gpu.list"))["gpus"]
    for name in ("utilization_memory_percent", "fan_percent", "throttle_reasons", "ecc_enabled"):
        assert gpu[name] is None
    assert gpu["sample_age_s"] > 0
    assert (silent["temperature_c"], silent["sample_age_s"]) == (None, None)
    assert silent["vram_total_bytes"] == 12 * GIB, "that never changes"
    assert (silent["admissible"], silent["blocked_reason"]) == (False, "no sample")


async def test_throttle_reasons_have_names(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        built.monitor.views = (gpu_view(0, GPU_A, throttle_mask=0x60 | 0x8000),)
        gpu = await result(built, "gpu.get", {"gpu": "0"})
    assert gpu["throttle_reasons"] == ["sw_thermal_slowdown", "hw_thermal_slowdown", "0x8000"]


async def test_an_unknown_gpu_is_not_found(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        for name in ("gpu.get", "gpu.history", "gpu.processes", "gpu.cordon", "gpu.uncordon"):
            assert (await error(built, name, {"gpu": "9"}))["data"]["kind"] == "not_found"


async def test_history_is_of_the_gpu_that_was_named(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        history = await result(built, "gpu.history", {"gpu": "1", "since_s": 60})
    assert (history["gpu"], history["resolution_s"]) == (GPU_B, 60.0)


@pytest.mark.parametrize("since_s", [1e308, 0, -5])
async def test_a_past_nobody_can_mean_is_refused(tmp_path: Path, since_s: float) -> None:
    async with daemon(tmp_path) as built:
        answer = await error(built, "gpu.history", {"gpu": "1", "since_s": since_s})
    assert answer["data"]["kind"] == "invalid_params"


async def test_cordon_and_uncordon_tell_which_gpu_was_meant_and_whether_it_is_recorded(
    tmp_path: Path,
) -> None:
    async with daemon(tmp_path) as built:
        name = built.monitor.views[1].identity.name
        meant = {"gpu": GPU_B, "index": 1, "mig_index": None, "name": name, "recorded": True}
        params = {"gpu": "aaaa2", "reason": "dust"}
        assert await result(built, "gpu.cordon", params) == meant | {"done": True}
        assert built.monitor.cordoned == {GPU_B: "dust"}
        assert await result(built, "gpu.uncordon", {"gpu": "1"}) == meant | {"done": True}
        built.monitor.has_room = False
        lost = meant | {"recorded": False}
        assert await result(built, "gpu.uncordon", {"gpu": "1"}) == lost | {"done": False}


async def test_detach_and_attach(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        assert await result(built, "gpu.detach") == {"attached": False}
        assert await result(built, "gpu.attach") == {"attached": True}


async def test_the_processes_of_others_keep_their_names_to_themselves(tmp_path: Path) -> None:
    async with daemon(tmp_path, role="user") as built:
        built.leases.usages = {GPU_A: FakeUsage(lease_of_pid={os.getpid(): "lease-7"})}
        uses = (
            ProcessUse(pid=os.getpid(), type="C", vram_bytes=GIB),
            ProcessUse(pid=2**22 + 1, type="G", vram_bytes=None),
        )
        built.monitor.views = (gpu_view(0, GPU_A, processes=uses), gpu_view(1, GPU_B))
        own, gone = (await result(built, "gpu.processes"))["processes"]
        assert (own["lease"], own["uid"], own["vram_bytes"]) == ("lease-7", os.getuid(), GIB)
        assert own["command"]
        personal = ("user", "uid", "command", "unit", "container")
        assert (gone["pid"], gone["vram_bytes"], gone["lease"]) == (2**22 + 1, None, None)
        assert all(gone[name] is None for name in personal)
        assert (await result(built, "gpu.processes", {"gpu": "1"}))["processes"] == []


async def test_a_process_on_a_mig_instance_is_listed_once(tmp_path: Path) -> None:
    """The driver lists it for the whole GPU too: asked for that one by name, it is shown there."""
    use = ProcessUse(pid=os.getpid(), type="C", vram_bytes=GIB)
    other = ProcessUse(pid=2**22 + 1, type="C", vram_bytes=GIB)
    whole = gpu_view(0, GPU_A, processes=(use, other))
    part = mig_view(whole, 0, "MIG-1", processes=(use,))
    async with daemon(tmp_path, role="user") as built:
        built.monitor.views = (whole, part)
        all_ = (await result(built, "gpu.processes"))["processes"]
        assert [(each["gpu"], each["pid"]) for each in all_] == [
            (GPU_A, other.pid),
            ("MIG-1", use.pid),
        ]
        of_whole = (await result(built, "gpu.processes", {"gpu": "0"}))["processes"]
        assert [each["pid"] for each in of_whole] == [use.pid, other.pid]


async def test_a_mig_instance_names_its_gpu_and_its_size(tmp_path: Path) -> None:
    whole = gpu_view(0, GPU_A)
    async with daemon(tmp_path) as built:
        built.monitor.views = (whole, mig_view(whole, 1, "MIG-1"))
        part = await result(built, "gpu.get", {"gpu": "0:1"})
        assert (part["parent"], part["mig_profile"], part["mig_index"]) == (GPU_A, "1g.10gb", 1)
        assert part["index"] == 0
        plain = await result(built, "gpu.get", {"gpu": "0"})
        assert (plain["parent"], plain["mig_profile"], plain["mig_index"]) == (None, None, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a process of another user to look at")
@pytest.mark.parametrize(("role", "seen"), [("user", False), ("admin", True)])
async def test_an_admin_sees_the_processes_of_others(
    tmp_path: Path, role: Any, *, seen: bool
) -> None:
    import subprocess  # noqa: PLC0415 - of this test alone

    async with daemon(tmp_path, role=role) as built:
        with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, user=1234) as child:
            use = ProcessUse(pid=child.pid, type="C", vram_bytes=GIB)
            built.monitor.views = (gpu_view(0, GPU_A, processes=(use,)),)
            (process,) = (await result(built, "gpu.processes"))["processes"]
            child.communicate()
    assert process["vram_bytes"] == GIB
    assert (process["uid"], process["command"]) == ((1234, "/bin/cat") if seen else (None, None))


# --- leases -------------------------------------------------------------------------------------


async def test_a_lease_is_asked_for_in_the_name_of_the_peer(tmp_path: Path) -> None:
    async with daemon(tmp_path, role="user") as built:
        await result(
            built,
            "lease.acquire",
            {"vram_bytes": GIB, "prefer": ["1"], "avoid": ["aaaa1"]},
            meta={"idempotency_key": "once"},
        )
    ((_, caller, params),) = built.leases.calls
    assert (caller.uid, caller.pid, caller.role) == (os.getuid(), os.getpid(), "user")
    assert caller.max_priority == 100
    assert {os.getgid(), *os.getgroups()} == caller.groups
    assert isinstance(params, AcquireParams)
    assert (params.prefer, params.avoid) == ([GPU_B], [GPU_A])
    assert built.leases.keys == ["once"]


async def test_a_process_lease_comes_with_a_pidfd_that_ends_with_the_connection(
    tmp_path: Path,
) -> None:
    async with daemon(tmp_path) as built:
        client = await built.client()
        await client.call("lease.acquire", {"vram_bytes": 1, "mode": "connection"})
        await client.call("lease.acquire", {"vram_bytes": 1})
        await client.call("lease.acquire", {"vram_bytes": 1})
        without, first, second = (caller.pidfd for _, caller, _ in built.leases.calls)
        assert without is None
        assert first == second
        if first is None:
            pytest.skip("this kernel has no SO_PEERPIDFD")
        assert "Pid:" in Path(f"/proc/self/fdinfo/{first}").read_text()
        await built.server.aclose()
        assert not Path(f"/proc/self/fd/{first}").exists()


async def test_the_lease_manager_hears_of_closed_connections(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        client = await built.client()
        await client.call("lease.acquire", {"vram_bytes": 1})
        await built.server.aclose()
    assert built.leases.closed == [built.leases.calls[0][1].connection]


async def test_leases_are_attached_resumed_released_and_shown(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        for name in ("lease.resume", "lease.get"):
            assert (await result(built, name, {"lease": "x"}))["id"] == "x"
        assert (await result(built, "lease.attach", {"lease": "x", "pid": 1}))["id"] == "x"
        assert (await result(built, "lease.release", {"lease": "x"}))["released"]
        assert (await result(built, "lease.cancel", {"waiter": "x"}))["done"]
        assert len((await result(built, "lease.list"))["leases"]) == 1
        assert (await result(built, "lease.quota"))["exempt"] is False
        explained = await result(built, "placement.explain", {"vram_bytes": 1, "prefer": ["0"]})
    assert explained["chosen"] == [GPU_A]


# --- events, sessions ---------------------------------------------------------------------------


async def test_events_are_pushed_in_between_answers(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        client = await built.client()
        built.events.emit("gpu.level", "before")
        answer = await client.call("events.subscribe", {"types": ["gpu."], "replay": 5})
        subscribed = answer["result"]
        assert [each["message"] for each in subscribed["replay"]] == ["before"]
        built.events.emit("gpu.level", "after")
        pushed = await client.receive()
        assert pushed["params"]["event"]["seq"] == subscribed["next_seq"]
        ended = await client.call(
            "events.unsubscribe", {"subscription": subscribed["subscription"]}
        )
        assert ended["result"] == {"done": True}
        built.events.emit("gpu.level", "unheard")
        assert (await client.call("system.ping"))["result"]


@pytest.mark.parametrize("params", [{"types": ["x"] * 65}, {"replay": -1}, {"replay": 10**6}])
async def test_a_subscription_that_asks_too_much_is_refused(tmp_path: Path, params: Any) -> None:
    async with daemon(tmp_path) as built:
        assert (await error(built, "events.subscribe", params))["code"] == -32602


async def test_a_subscriber_that_never_reads_costs_bounded_memory_and_is_told(
    tmp_path: Path,
) -> None:
    limits = Limits(write_high_water_bytes=10_000, events_per_subscription=50)
    async with daemon(tmp_path, limits=limits) as built:
        client = await built.client()
        await client.call("events.subscribe", {})
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(5000):
            built.events.emit("gpu.level", "x" * 200)
            if built.events.next_seq % 100 == 0:
                await (await built.client()).call("system.ping")
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        expected = 1
        while expected <= 5000:
            params = (await client.receive())["params"]
            assert params["event"]["seq"] == expected + params["lost"]
            expected = params["event"]["seq"] + 1


async def test_a_session_is_named_in_meta_and_counts_its_requests(tmp_path: Path) -> None:
    async with daemon(tmp_path, role="user") as built:
        client = await built.client()
        opened = (await client.call("session.open", {"name": "train"}))["result"]
        meta = {"session_id": opened["session_id"]}
        await client.call("system.ping", meta=meta)
        await client.call("nonsense", meta=meta)
        await client.call("system.reload", meta=meta)
        await client.call("system.ping", meta={"session_id": "unknown"})
        sessions = (await client.call("session.list"))["result"]["sessions"]
        named = next(each for each in sessions if not each["implied"])
        assert (named["name"], named["requests"], named["errors"]) == ("train", 3, 2)
        closed = await client.call("session.close", {"session_id": opened["session_id"]})
        assert closed["result"] == {"done": True}
        resumed = await client.call("session.open", {"token": opened["token"]})
        assert resumed["error"]["data"]["kind"] == "not_found"


async def test_a_session_of_too_long_a_name_is_refused(tmp_path: Path) -> None:
    async with daemon(tmp_path) as built:
        assert (await error(built, "session.open", {"name": "x" * 129}))["code"] == -32602


# --- breakers -----------------------------------------------------------------------------------


async def test_a_call_of_a_breaker_is_its_connections_under_its_correlation_id(
    tmp_path: Path,
) -> None:
    async with daemon(tmp_path, role="user") as built:
        client, me = await built.client(), os.getuid()
        meta = {"correlation_id": "job-1"}
        granted = await client.call("breaker.acquire", {"name": "a", "rules": {}}, meta=meta)
        assert granted["result"] == {
            "name": "a",
            "permit": 7,
            "state": "closed",
            "shared": False,
            "expires_in_ms": 600_000,
        }
        params = {"name": "a", "permit": 7, "outcome": "throttled", "retry_after_ms": 5}
        settled = await client.call("breaker.settle", params)
        assert settled["result"] == {"effect": "settled", "state": "closed"}
        (_, *asked), (_, *told) = built.breakers.calls
        over = asked[2]
        assert asked == ["a", me, over, BreakerRules(), "job-1"]
        assert told == ["a", 7, "throttled", 5, me, over, f"{over}.2"]
    assert built.breakers.closed == built.leases.closed == [over], "both hear of its end"


@pytest.mark.parametrize("role", ["user", "admin"])
@pytest.mark.parametrize("what", ["get", "force_open", "disable", "reset"])
async def test_who_looks_at_a_breaker_or_decides_is_passed_on(
    tmp_path: Path, what: str, role: Role
) -> None:
    async with daemon(tmp_path, role=role) as built:
        found = await result(built, f"breaker.{what}", {"name": "a", "uid": 7})
        assert (found["name"], found["uid"]) == ("a", 7)
        await result(built, "breaker.list")
    (asked, *members), listed = built.breakers.calls
    assert (asked, members[:3]) == (what, ["a", role == "admin", 7])
    assert listed == ("list", role == "admin")


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"name": 7},
        {"name": "a", "rule": {}},
        {"name": "a", "rules": {"open": 5}},
        {"name": "a", "rules": {"open_s": "5s"}},
    ],
)
async def test_what_is_no_call_of_a_breaker_is_refused_by_the_name_at_fault(
    tmp_path: Path, params: dict[str, Any]
) -> None:
    async with daemon(tmp_path) as built:
        assert (await error(built, "breaker.acquire", params))["code"] == -32602
        outcome = {"name": "a", "permit": 1, "outcome": "fine"}
        assert (await error(built, "breaker.settle", outcome))["code"] == -32602
        assert built.breakers.calls == []


# --- policy -------------------------------------------------------------------------------------


async def test_another_policy_is_in_force_at_once_for_open_connections(tmp_path: Path) -> None:
    async with daemon(tmp_path, role="observer") as built:
        client = await built.client()
        refused = await client.call("lease.acquire", {"vram_bytes": 1})
        assert refused["error"]["data"]["kind"] == "permission_denied"
        built.become("user")
        assert "result" in await client.call("lease.acquire", {"vram_bytes": 1})


# --- limits -------------------------------------------------------------------------------------


async def test_room_in_a_limit_is_reserved_at_once_or_waited_for(tmp_path: Path) -> None:
    async with daemon(tmp_path, role="user") as built:
        client = await built.client()
        taken = (await client.call("limit.acquire", {"name": "openai", "tokens": 9}))["result"]
        assert (taken["name"], taken["reservation"], taken["absent"]) == ("openai", 7, False)
        built.limits.full = True
        waiting = asyncio.create_task(
            client.call("limit.acquire", {"name": "openai", "wait_ms": 1000})
        )
        await asyncio.wait_for(built.limits.arrived.wait(), 5)
        granted = LimitReservation(name="openai", reservation=8, shared=True, waited_ms=12)
        built.limits.waiting[0].set_result(granted)
        assert (await waiting)["result"]["waited_ms"] == 12
        settled = (await client.call("limit.settle", {"reservation": 8}))["result"]
        assert settled == {"settled": True}
        await client.aclose()
    (holder,) = {connection for _, connection, _ in built.limits.calls}
    assert built.limits.closed == [holder]


@pytest.mark.parametrize("role", ["user", "admin"])
async def test_limits_are_shown_and_reset_as_the_role_may(tmp_path: Path, role: Role) -> None:
    async with daemon(tmp_path, role=role) as built:
        assert (await result(built, "limit.peek", {"name": "x", "key": "k"}))["name"] == "x"
        assert len((await result(built, "limit.list"))["limits"]) == 1
        assert (await result(built, "limit.reset", {"name": "x", "spend": True}))["done"]
    asked = [what for _, _, what in built.limits.calls]
    assert all(each[0] == os.getuid() and each[-1] == (role == "admin") for each in asked)  # type: ignore[index]
