from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import wire_samples
from fake_daemon import FakeDaemon, HangUp, Silence
from superezio import AsyncClient, Client, errors, wire
from superezio.calls import LeaseOptions, PlacementOptions
from superezio.holder import start_time


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[Client]:
    with Client(str(daemon.path), timeout_s=5.0) as made:
        yield made


def test_a_time_limit_is_seconds_or_text(daemon: FakeDaemon) -> None:
    with Client(str(daemon.path), timeout_s="1m") as client:
        assert client.timeout_s == 60
        assert client.system_ping(timeout_s="30s")
        with client.breaker("x", timeout_s="30s") as call:
            assert call.correlation_id
    with pytest.raises(ValueError, match="soon"):
        Client(str(daemon.path), timeout_s="soon")


NO_WISHES = {
    "min_compute_capability": None,
    "compute_mode": None,
    "no_display": False,
    "model": None,
    "split": False,
}
SET = {
    "namespace": "n",
    "key": "k",
    "ttl_ms": 3_600_000,
    "grace_ms": 0,
    "stale_if_error_ms": 0,
    "tags": [],
    "token": None,
}
CALLS: list[tuple[str, dict[str, Any], str, Any]] = [
    ("system_ping", {}, "system.ping", None),
    ("system_info", {}, "system.info", None),
    ("system_reload", {}, "system.reload", None),
    ("config_get", {"key": "leases"}, "config.get", {"key": "leases", "all": False}),
    ("config_diff", {}, "config.diff", None),
    ("system_log_level", {"level": "debug"}, "system.log_level", {"level": "debug"}),
    ("health_get", {}, "health.get", None),
    ("metrics_get", {}, "metrics.get", None),
    ("gpu_list", {}, "gpu.list", None),
    ("gpu_get", {"gpu": "0"}, "gpu.get", {"gpu": "0"}),
    ("gpu_history", {"gpu": "0", "since": "1m"}, "gpu.history", {"gpu": "0", "since_s": 60.0}),
    ("gpu_processes", {"gpu": "0"}, "gpu.processes", {"gpu": "0"}),
    ("gpu_cordon", {"gpu": "0", "reason": "fan"}, "gpu.cordon", {"gpu": "0", "reason": "fan"}),
    ("gpu_uncordon", {"gpu": "0"}, "gpu.uncordon", {"gpu": "0"}),
    ("gpu_detach", {}, "gpu.detach", None),
    ("gpu_attach", {}, "gpu.attach", None),
    (
        "lease_attach",
        {"lease": "1", "pid": 2, "start_time": 3},
        "lease.attach",
        {"lease": "1", "pid": 2, "start_time": 3},
    ),
    ("lease_release", {"lease": "1"}, "lease.release", {"lease": "1"}),
    ("lease_cancel", {"waiter": "1"}, "lease.cancel", {"waiter": "1"}),
    ("lease_list", {}, "lease.list", None),
    ("lease_quota", {}, "lease.quota", None),
    (
        "limit_acquire",
        {"name": "openai", "tokens": 9, "key": "acme"},
        "limit.acquire",
        {
            "name": "openai",
            "requests": 1,
            "tokens": 9,
            "money_micros": 0,
            "concurrency": None,
            "key": "acme",
            "wait_ms": 0,
            "rates": None,
            "if_exists": False,
        },
    ),
    (
        "limit_settle",
        {"reservation": 7, "tokens": 8, "retry_after": "3s"},
        "limit.settle",
        {
            "reservation": 7,
            "requests": None,
            "tokens": 8,
            "money_micros": None,
            "retry_after_ms": 3000,
            "remaining": None,
        },
    ),
    (
        "limit_peek",
        {"name": "openai", "key": "acme"},
        "limit.peek",
        {"name": "openai", "key": "acme", "uid": None, "skip": 0},
    ),
    ("limit_list", {}, "limit.list", None),
    (
        "limit_reset",
        {"name": "openai", "spend": True},
        "limit.reset",
        {"name": "openai", "key": None, "uid": None, "spend": True},
    ),
    ("lease_get", {"lease": "1"}, "lease.get", {"lease": "1"}),
    (
        "cache_get",
        {"namespace": "n", "key": "k", "fill": True, "wait": 0, "lead": "2s"},
        "cache.get",
        {"namespace": "n", "key": "k", "fill": True, "wait_ms": 0, "lead_ms": 2000},
    ),
    (
        "cache_set",
        {"namespace": "n", "key": "k", "value": "v", "ttl": "1h", "grace": 0.5, "tags": ("t",)},
        "cache.set",
        {**SET, "text": "v", "data": None, "grace_ms": 500, "tags": ["t"]},
    ),
    (
        "cache_set",
        {"namespace": "n", "key": "k", "value": b"\0", "stale_if_error": 1, "token": "t"},
        "cache.set",
        {**SET, "text": None, "data": "AA==", "stale_if_error_ms": 1000, "token": "t"},
    ),
    (
        "cache_fail",
        {"namespace": "n", "key": "k", "token": "t", "error": "no"},
        "cache.fail",
        {"namespace": "n", "key": "k", "token": "t", "error": "no", "pass_on": False},
    ),
    (
        "cache_delete",
        {"namespace": "n", "tag": "t"},
        "cache.delete",
        {"namespace": "n", "key": None, "tag": "t"},
    ),
    ("cache_clear", {"namespace": "n"}, "cache.clear", {"namespace": "n", "uid": None}),
    ("cache_stats", {}, "cache.stats", None),
    (
        "placement_explain",
        {"vram": "1GiB", "count": 2, "policy": "spread", "avoid": ["GPU-x"]},
        "placement.explain",
        {
            "vram_bytes": 1 << 30,
            "count": 2,
            "policy": "spread",
            "prefer": [],
            "avoid": ["GPU-x"],
            **NO_WISHES,
        },
    ),
    (
        "placement_explain",
        {
            "vram": 1 << 30,
            "min_compute_capability": "8.6",
            "compute_mode": "default",
            "no_display": True,
            "model": "llama",
            "split": True,
        },
        "placement.explain",
        {
            "vram_bytes": 1 << 30,
            "count": 1,
            "policy": "best_fit",
            "prefer": [],
            "avoid": [],
            "min_compute_capability": "8.6",
            "compute_mode": "default",
            "no_display": True,
            "model": "llama",
            "split": True,
        },
    ),
    ("session_close", {"session_id": "s"}, "session.close", {"session_id": "s"}),
    ("session_list", {}, "session.list", None),
    ("rpc_discover", {}, "rpc.discover", None),
    (
        "breaker_acquire",
        {"name": "openai"},
        "breaker.acquire",
        {"name": "openai", "rules": None},
    ),
    (
        "breaker_settle",
        {"name": "openai", "permit": 7, "outcome": "throttled", "retry_after": "1m"},
        "breaker.settle",
        {"name": "openai", "permit": 7, "outcome": "throttled", "retry_after_ms": 60_000},
    ),
    ("breaker_get", {"name": "a"}, "breaker.get", {"name": "a", "uid": None}),
    ("breaker_list", {}, "breaker.list", None),
    ("breaker_force_open", {"name": "a"}, "breaker.force_open", {"name": "a", "uid": None}),
    ("breaker_disable", {"name": "a", "uid": 7}, "breaker.disable", {"name": "a", "uid": 7}),
    ("breaker_reset", {"name": "a"}, "breaker.reset", {"name": "a", "uid": None}),
]


@pytest.mark.parametrize(("name", "arguments", "method", "params"), CALLS)
def test_each_method_is_called_by_name_and_answers_with_its_type(
    client: Client,
    daemon: FakeDaemon,
    name: str,
    arguments: dict[str, Any],
    method: str,
    params: object,
) -> None:
    assert getattr(client, name)(**arguments) == daemon.answers[method]
    (request,) = daemon.asked(method)
    assert request.get("params") == params
    assert 0 < request["meta"]["deadline_ms"] <= 5000


def test_a_lease_is_asked_for_under_a_key_and_with_the_time_it_may_wait(
    client: Client, daemon: FakeDaemon
) -> None:
    lease = client.lease_acquire("8GiB", wait="1m", name="x", count=2, holder_pid=7)
    assert lease == daemon.answers["lease.acquire"]
    (request,) = daemon.asked("lease.acquire")
    assert request["params"] == {
        "vram_bytes": 8 << 30,
        "count": 2,
        "policy": "best_fit",
        "prefer": [],
        "avoid": [],
        "mode": "process",
        "holder_pid": 7,
        "name": "x",
        "wait_ms": 60000,
        "priority": 0,
        "ttl_ms": None,
        "sizes_itself": False,
        **NO_WISHES,
    }
    assert len(request["meta"]["idempotency_key"]) == 32
    assert 60000 < request["meta"]["deadline_ms"] <= 65000


def test_a_lease_is_held_for_the_block_and_released_after(
    client: Client, daemon: FakeDaemon
) -> None:
    with client.lease(8 << 30) as lease:
        assert lease.environment["CUDA_VISIBLE_DEVICES"] == wire_samples.UUID_3060
        assert not daemon.asked("lease.release")
    assert daemon.params_of("lease.release") == {"lease": lease.id}


def test_what_the_block_raises_comes_out_also_when_the_release_fails(
    client: Client, daemon: FakeDaemon
) -> None:
    daemon.answers["lease.release"] = errors.InternalError("broken")
    with pytest.raises(ZeroDivisionError), client.lease("1GiB"):
        raise ZeroDivisionError
    assert daemon.asked("lease.release")
    with pytest.raises(errors.InternalError), client.lease("1GiB"):
        pass


def test_errors_are_raised_by_kind_with_their_data(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["lease.acquire"] = errors.NoCapacityError(
        "full", retry_after_ms=300, data={"placement": {"gpus": []}}
    )
    with pytest.raises(errors.NoCapacityError, match="full") as caught:
        client.lease_acquire("8GiB")
    assert caught.value.retry_after_ms == 300
    assert caught.value.data == {"placement": {"gpus": []}}
    assert caught.value.correlation_id == "c0ffee"


def test_a_size_that_cannot_be_read_is_told_before_anything_is_sent(
    client: Client, daemon: FakeDaemon
) -> None:
    with pytest.raises(ValueError, match="8GiB"):
        client.lease_acquire("plenty")
    assert not daemon.requests


@pytest.mark.parametrize("method", ["lease", "lease_acquire", "placement_explain"])
def test_an_option_with_a_typo_is_refused_with_the_names_there_are(
    client: Client, daemon: FakeDaemon, method: str
) -> None:
    def ask() -> None:
        with ExitStack() as stack:
            stack.enter_context(getattr(client, method)("2GiB", gpus=2, polcy="spread"))

    with pytest.raises(
        TypeError, match=r"option gpus, polcy: .*avoid, compute_mode, count, .*policy, prefer"
    ):
        ask()
    assert not daemon.requests


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_help_names_every_option(kind: type) -> None:
    for name, options in (
        ("lease", LeaseOptions),
        ("lease_acquire", LeaseOptions),
        ("placement_explain", PlacementOptions),
    ):
        words = set(re.findall(r"\w+", getattr(kind, name).__doc__))
        assert options.__optional_keys__ <= words


def test_a_call_lost_with_its_connection_is_made_again(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["gpu.list"] = [
        HangUp,
        errors.ShuttingDownError("stopping"),
        wire_samples.gpu_list(),
    ]
    assert len(client.gpu_list().gpus) == 2
    assert len(daemon.asked("gpu.list")) == 3


def test_an_acquire_made_again_is_the_same_acquire(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["lease.acquire"] = [HangUp, wire_samples.lease()]
    client.lease_acquire("8GiB", wait=2)
    first, second = daemon.asked("lease.acquire")
    assert first["meta"]["idempotency_key"] == second["meta"]["idempotency_key"]
    left_ms = second["params"].pop("wait_ms")
    assert 0 < left_ms <= first["params"].pop("wait_ms") == 2000
    assert first["params"] == second["params"]


@pytest.mark.parametrize(("away_s", "left_ms"), [(12, 48_000), (60, 1), (64, 1)])
def test_a_wait_that_is_asked_for_again_ends_when_the_first_would_have(
    daemon: FakeDaemon, away_s: int, left_ms: int
) -> None:
    """The time that the daemon was away counts, and the pause between the tries."""
    now_ns = 0

    def sleep(_: float) -> None:
        nonlocal now_ns
        now_ns += away_s * 1_000_000_000

    daemon.answers["lease.acquire"] = [HangUp, wire_samples.lease()]
    with Client(str(daemon.path), clock=lambda: now_ns, sleep=sleep) as client:
        client.lease_acquire("8GiB", wait=60)
    waits = [request["params"]["wait_ms"] for request in daemon.asked("lease.acquire")]
    assert waits == [60_000, left_ms]


def test_an_acquire_that_does_not_wait_does_not_when_it_is_made_again(
    client: Client, daemon: FakeDaemon
) -> None:
    daemon.answers["lease.acquire"] = [HangUp, wire_samples.lease()]
    client.lease_acquire("8GiB")
    assert [request["params"]["wait_ms"] for request in daemon.asked("lease.acquire")] == [0, 0]


def test_what_is_not_idempotent_is_not_made_again(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["session.open"] = [HangUp, daemon.answers["session.open"]]
    with pytest.raises(errors.ConnectionLostError):
        client.session_open("x")
    assert len(daemon.asked("session.open")) == 1
    daemon.answers["session.open"] = [HangUp, wire_samples.everything()["session.open"]]
    assert client.session_open("x", token="t").session_id == "5e55"


def test_a_restart_between_calls_goes_unnoticed_by_all_calls(
    client: Client, daemon: FakeDaemon
) -> None:
    client.system_ping()
    daemon.stop()
    daemon.start()
    client.session_open("x")


def test_a_daemon_that_starts_late_is_waited_for(daemon: FakeDaemon) -> None:
    daemon.stop()
    slept = threading.Event()

    def sleep(pause_s: float) -> None:
        slept.set()
        time.sleep(pause_s)

    waiting = Client(str(daemon.path), timeout_s=10.0, sleep=sleep)
    answers: list[wire.Pong] = []
    thread = threading.Thread(target=lambda: answers.append(waiting.system_ping()))
    thread.start()
    assert slept.wait(5)
    daemon.start()
    thread.join(10)
    assert answers == [wire.Pong(pid=77, uptime_s=3600.0)]
    waiting.close()


def test_a_daemon_that_does_not_start_is_said_when_time_is_up(tmp_path: Path) -> None:
    client = Client(str(tmp_path / "nothing.sock"), timeout_s=0.05)
    with pytest.raises(errors.DaemonNotRunningError, match="supereziod"):
        client.gpu_list()


def test_a_call_that_is_not_answered_is_cancelled_and_its_late_answer_ignored(
    client: Client, daemon: FakeDaemon
) -> None:
    answer = threading.Event()

    def late(_: dict[str, Any]) -> wire.Pong:
        assert answer.wait(10)
        return wire.Pong(pid=1, uptime_s=1.0)

    daemon.answers["system.ping"] = late
    with pytest.raises(errors.ReplyTimeoutError, match=r"system\.ping within 50ms"):
        client.system_ping(timeout_s=0.05)
    (cancel,) = daemon.await_asked("rpc.cancel")
    assert cancel["params"] == {"id": daemon.asked("system.ping")[0]["id"]}
    answer.set()
    assert client.system_info().pid == 77
    assert daemon.connections == 1


def test_requests_carry_session_and_correlation_id(daemon: FakeDaemon) -> None:
    with Client(str(daemon.path), session="s1", correlation_id=lambda: "c1") as client:
        client.system_ping()
        client.session_open("name")
        client.system_ping()
        client.session_close("5e55")
        client.system_ping()
    metas = [request["meta"] for request in daemon.asked("system.ping")]
    assert [meta.get("session_id") for meta in metas] == ["s1", "5e55", None]
    assert {meta["correlation_id"] for meta in metas} == {"c1"}


def test_an_answer_that_is_not_json_is_not_the_daemon(client: Client, daemon: FakeDaemon) -> None:
    def garble(_: dict[str, Any]) -> object:
        daemon.push_raw(b"HTTP/1.1 400 Bad Request\n")
        return Silence

    daemon.answers["session.open"] = garble
    with pytest.raises(errors.ConnectionLostError, match="not the daemon"):
        client.session_open()


def test_an_answer_of_another_shape_is_an_error_that_names_the_type(
    client: Client, daemon: FakeDaemon
) -> None:
    daemon.answers["gpu.list"] = {"gpus": 1}
    with pytest.raises(errors.SuperezioError, match="GpuList"):
        client.gpu_list()


def test_an_answer_with_members_of_a_later_version_is_read(
    client: Client, daemon: FakeDaemon
) -> None:
    daemon.answers["system.ping"] = {"pid": 1, "uptime_s": 2.0, "mood": "good"}
    assert client.system_ping().pid == 1


def test_connection_leases_are_resumed_over_a_reconnect(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["lease.acquire"] = wire_samples.lease(mode="connection", holder=[])
    with client.lease("1GiB", mode="connection") as lease:
        daemon.stop()
        daemon.start()
        client.system_ping()
        assert daemon.params_of("lease.resume") == {"lease": lease.id}
        daemon.answers["lease.resume"] = errors.StaleLeaseError("gone")
        for _ in range(2):
            daemon.stop()
            daemon.start()
            client.system_ping()
        assert len(daemon.asked("lease.resume")) == 2


def test_a_holder_that_the_daemon_is_not_sure_of_vouches_for_itself(
    client: Client, daemon: FakeDaemon
) -> None:
    mine = start_time()
    assert mine is not None
    holder = [wire.HolderProcess(pid=999_999, start_time=mine, command=None)]
    daemon.answers["lease.acquire"] = wire_samples.lease(holder_confirmed=False, holder=holder)
    assert client.lease_acquire("1GiB").holder_confirmed
    assert daemon.params_of("lease.attach")["pid"] == 999_999
    assert daemon.params_of("lease.attach")["start_time"] == mine


def test_a_lease_bound_to_somebody_else_is_given_back(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["lease.acquire"] = wire_samples.lease(holder_confirmed=False)
    with pytest.raises(errors.HolderGoneError, match="another process"):
        client.lease_acquire("1GiB")
    assert daemon.asked("lease.release")
    assert not client.lease_acquire("1GiB", holder_pid=1).holder_confirmed


def test_a_forked_child_takes_a_connection_of_its_own(client: Client, daemon: FakeDaemon) -> None:
    client.system_ping()
    client._conversation._owner_pid = os.getpid() + 1  # as a child finds it after a fork
    client.system_ping()
    assert daemon.connections == 2


def test_an_interrupted_call_ends_its_connection(
    client: Client, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.system_ping()

    def interrupted(_: int | None) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(client._conversation.connection, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.system_ping()
    assert not client._conversation.connection.connected
    client.system_ping()
    assert daemon.connections == 2


def test_the_wait_for_a_value_adds_to_the_time_limit(client: Client, daemon: FakeDaemon) -> None:
    client.cache_get("n", "k", fill=True, wait="1m")
    client.cache_get("n", "k", wait="1m")
    limits = [request["meta"]["deadline_ms"] for request in daemon.asked("cache.get")]
    assert 60_000 < limits[0] <= 65_000
    assert limits[1] <= 5000, "a plain get waits for nobody"
