from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

import wire_samples
from ctl_runner import Ctl
from fake_daemon import FakeDaemon
from superezio import errors, wire
from superezio.connection import LONGEST_DEADLINE_MS
from superezioctl.commands import events
from superezioctl.output import Output
from superezioctl.views import status
from supereziod.rpc import route
from supereziod.rpc.vocabulary import EVENT_TYPES

#: words, method, params
RAW = [
    ("gpu list", "gpu.list", None),
    ("gpu show 0", "gpu.get", {"gpu": "0"}),
    ("gpu history 0 --since 1h", "gpu.history", {"gpu": "0", "since_s": 3600.0}),
    ("gpu processes", "gpu.processes", None),
    ("gpu processes 1", "gpu.processes", {"gpu": "1"}),
    ("gpu cordon 1 --reason fan", "gpu.cordon", {"gpu": "1", "reason": "fan"}),
    ("gpu uncordon 1", "gpu.uncordon", {"gpu": "1"}),
    ("gpu detach", "gpu.detach", None),
    ("gpu attach", "gpu.attach", None),
    ("health", "health.get", None),
    (
        "explain --vram 3GiB --gpus 2 --policy spread --prefer GPU-a --avoid GPU-b",
        "placement.explain",
        {
            "vram_bytes": 3 << 30,
            "count": 2,
            "policy": "spread",
            "prefer": ["GPU-a"],
            "avoid": ["GPU-b"],
        },
    ),
    (
        (
            "explain --vram 3GiB --policy coolest --split --model llama --no-display"
            " --min-compute-capability 8.6 --compute-mode default"
        ),
        "placement.explain",
        {
            "vram_bytes": 3 << 30,
            "count": 1,
            "policy": "coolest",
            "prefer": [],
            "avoid": [],
            "split": True,
            "model": "llama",
            "no_display": True,
            "min_compute_capability": "8.6",
            "compute_mode": "default",
        },
    ),
    ("lease list", "lease.list", None),
    ("lease show 1", "lease.get", {"lease": "1ea5e"}),
    ("lease attach 1e 2", "lease.attach", {"lease": "1ea5e", "pid": 2}),
    ("lease release 1", "lease.release", {"lease": "1ea5e"}),
    ("reload", "system.reload", None),
    ("log-level", "system.log_level", None),
    ("log-level debug", "system.log_level", {"level": "debug"}),
    ("rpc gpu.list", "gpu.list", None),
    ('rpc gpu.get {"gpu":"0"}', "gpu.get", {"gpu": "0"}),
]


@pytest.mark.parametrize(("words", "method", "params"), RAW)
def test_json_is_the_daemons_result_as_it_is(
    ctl: Ctl, daemon: FakeDaemon, words: str, method: str, params: object
) -> None:
    expected = json.loads(msgspec.json.encode(daemon.answers[method]))
    assert ctl.json(*words.split()) == expected
    assert daemon.asked(method)[-1].get("params") == params


@pytest.mark.parametrize("words", [words for words, _, _ in RAW])
def test_people_get_text(ctl: Ctl, daemon: FakeDaemon, words: str) -> None:
    if words.startswith("rpc"):
        return
    assert ctl(*words.split()) == 0
    assert ctl.out.strip()
    assert not ctl.out.startswith("{")
    assert "None" not in ctl.out
    assert daemon.requests


def test_status_is_one_screen_of_eighty_columns(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("status") == 0
    assert max(map(len, ctl.out.splitlines())) <= 80
    for word in ("degraded", "look at its fan", "RTX 3060", "cordoned", "trainer", "nightly"):
        assert word in ctl.out
    daemon.answers["gpu.list"] = wire.GpuList(gpus=[])
    daemon.answers["lease.list"] = wire.LeaseList(leases=[], queue=[])
    daemon.answers["health.get"] = wire_samples.health("healthy")
    assert ctl("status") == 0
    assert "no GPUs" in ctl.out
    assert "no leases" in ctl.out


def test_a_host_whose_gpus_have_not_been_read_yet_is_not_said_to_have_none(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    """The condition `starting` shows only after some seconds, as every start takes a moment."""
    daemon.answers["gpu.list"] = wire.GpuList(gpus=[])
    daemon.answers["health.get"] = wire_samples.health_at_start()
    for words in ("status", "gpu list", "health"):
        assert ctl(*words.split()) == 0
        assert "the GPUs have not been read yet: ask again in a moment" in ctl.out
        assert "no GPUs" not in ctl.out
    (starting,) = wire_samples.health_at_start().checks
    stuck = [starting, structs.replace(starting, check="probe", visible=True)]
    daemon.answers["health.get"] = structs.replace(
        wire_samples.health_at_start(), checks=stuck, reasons=wire_samples.health().reasons
    )
    for words in ("status", "gpu list"):
        assert ctl(*words.split()) == 0
        assert "no GPUs" in ctl.out
        assert "not been read" not in ctl.out


def test_status_names_the_shared_services_that_are_not_called_as_usual(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    own = wire_samples.breaker(name="mine/llm", uid=1000, shared=False, state="open")
    held = wire_samples.breaker(name="whisper", state="forced_open", state_s=3600.2)
    well = wire_samples.breaker(name="claude", state="closed")
    daemon.answers["breaker.list"] = wire.BreakerList(
        breakers=[own, wire_samples.breaker(state_s=12.4), held, well]
    )
    assert ctl("status") == 0
    (line,) = [line for line in ctl.out.splitlines() if "services" in line]
    assert line == "services: openai open for 12s, whisper held open for 1h"
    daemon.answers["breaker.list"] = wire.BreakerList(breakers=[own, well])
    assert ctl("status") == 0
    assert "services" not in ctl.out


def test_status_is_for_those_too_who_may_use_no_breaker(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["breaker.list"] = errors.PermissionDeniedError("join the group superezio")
    assert ctl("status") == 0
    assert "RTX 3060" in ctl.out
    assert "services" not in ctl.out
    assert ctl.json("status")["breakers"] is None


def test_status_in_json_is_one_document_of_all_parts(ctl: Ctl, daemon: FakeDaemon) -> None:
    document = ctl.json("status")
    assert set(document) == {"system", "health", "gpus", "leases", "breakers"}
    assert document["gpus"]["gpus"][0]["vram_total_bytes"] == 12 << 30
    assert daemon.connections == 1


def bar(gpu: wire.Gpu, encoding: str) -> str:
    class Stream(io.StringIO):
        pass

    Stream.encoding = encoding
    return status.bar(Output(json=False, stdout=Stream()), gpu)


def test_bars_have_one_length_whatever_is_in_them() -> None:
    gib = 1 << 30
    for used in range(13):
        for foreign in range(used + 1):
            gpu = wire_samples.gpu(
                vram_used_bytes=used * gib,
                vram_foreign_bytes=foreign * gib,
                vram_reserved_bytes=5 * gib,
            )
            assert len(bar(gpu, "utf-8")) == 34
    assert bar(wire_samples.gpu(), "ascii") == "[###########+++++ooo.............]"
    assert bar(wire_samples.hot_gpu(), "utf-8") == "[" + "?" * 32 + "]"


def test_health_has_an_exit_code_for_unhealthy_alone(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("health") == 0
    assert "look at its fan" in ctl.out
    daemon.answers["health.get"] = wire_samples.health("unhealthy")
    assert ctl("health") == 3
    assert "watchdog is not pinged" in ctl.out
    assert ctl("--json", "health") == 3
    daemon.answers["health.get"] = wire_samples.health("healthy")
    assert ctl("health", "--all") == 0
    assert "hidden by driver" in ctl.out


def test_gpus_that_are_lost_or_quarantined_say_that_first(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["gpu.list"] = wire.GpuList(
        gpus=[
            wire_samples.gpu(status="lost", status_reason="off the bus"),
            wire_samples.gpu(fitness="quarantined"),
        ]
    )
    assert ctl("gpu", "list") == 0
    lines = ctl.out.splitlines()
    assert lines[1].endswith("lost")
    assert lines[2].endswith("quarantined")
    daemon.answers["gpu.list"] = wire.GpuList(gpus=[])
    ctl("gpu", "list")
    assert "no GPUs" in ctl.out
    daemon.answers["gpu.get"] = wire_samples.gpu(
        status="lost",
        status_reason="off the bus",
        ecc_enabled=True,
        ecc_corrected=1,
        cordoned=True,
        cordon_reason="fan",
    )
    ctl("gpu", "show", "0")
    assert "lost: off the bus" in ctl.out
    assert "on, 1 corrected" in ctl.out
    assert "yes: fan" in ctl.out


def test_there_may_be_no_processes_and_no_history(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["gpu.processes"] = wire.GpuProcessList(processes=[])
    ctl("gpu", "processes")
    assert "no processes" in ctl.out
    daemon.answers["placement.explain"] = wire_samples.placement("never")
    ctl("explain", "--vram", "80GiB")
    assert ctl.out.startswith("never: this host can never hold 3.0 GiB as asked\n")
    daemon.answers["placement.explain"] = msgspec.structs.replace(
        wire_samples.placement("never"), gpus=[]
    )
    ctl("explain", "--vram", "80GiB")
    assert ctl.out.count("\n") == 1


def test_a_lease_for_a_process_that_runs(ctl: Ctl, daemon: FakeDaemon) -> None:
    words = ("lease", "acquire", "--vram", "8GiB", "--pid", "4711", "--wait", "1m", "--name", "w")
    assert ctl(*words) == 0
    (request,) = daemon.asked("lease.acquire")
    assert request["params"]["holder_pid"] == 4711
    assert request["params"]["wait_ms"] == 60_000
    assert 60_000 < request["meta"]["deadline_ms"] <= 70_000
    assert request["meta"]["idempotency_key"]
    assert "CUDA_VISIBLE_DEVICES" in ctl.out
    assert ctl(*words, "--export") == 0
    assert f"export CUDA_VISIBLE_DEVICES={wire_samples.UUID_3060}\n" in ctl.out
    assert "export SUPEREZIO_LEASE=1ea5e\n" in ctl.out
    assert ctl.json(*words, "--export")["id"] == "1ea5e"


def test_a_lease_for_a_time_is_renewed_by_hand(ctl: Ctl, daemon: FakeDaemon) -> None:
    timed = wire_samples.lease(mode="ttl", ttl_ms=60_000, expires_in_s=60.0, holder=[])
    for method in ("lease.acquire", "lease.renew", "lease.ready"):
        daemon.answers[method] = timed
    assert ctl("lease", "acquire", "--vram", "8GiB", "--ttl", "1m", "--sizes-itself") == 0
    asked = daemon.params_of("lease.acquire")
    assert (asked["mode"], asked["ttl_ms"], asked["sizes_itself"]) == ("ttl", 60_000, True)
    assert "in 1m, unless it is renewed" in ctl.out
    assert ctl("lease", "renew", "1ea5e", "--ttl", "5m") == 0
    assert daemon.params_of("lease.renew") == {"lease": "1ea5e", "ttl_ms": 300_000}
    assert ctl("lease", "ready", "1ea5e") == 0
    assert daemon.params_of("lease.ready") == {"lease": "1ea5e"}


def test_a_lease_is_revoked_and_answered_for(ctl: Ctl, daemon: FakeDaemon) -> None:
    order = wire.Revocation(
        reason="admin",
        message="a new driver",
        remaining_s=300.0,
        answer="refused",
        answer_message="two hours left",
    )
    for method in ("lease.revoke", "lease.acknowledge"):
        daemon.answers[method] = wire_samples.lease(state="draining", revocation=order)
    words = ("--deadline", "5m", "--reason", "a new driver")
    assert ctl("lease", "revoke", "1ea5e", *words) == 0
    asked = {"lease": "1ea5e", "deadline_s": 300.0, "reason": "a new driver"}
    assert daemon.params_of("lease.revoke") == asked
    assert "lost in 5m, unless it ends before: a new driver" in ctl.out
    assert "refused: two hours left" in ctl.out
    assert ctl("lease", "acknowledge", "1ea5e", "--refuse", "--message", "two hours left") == 0
    answer = {"lease": "1ea5e", "accept": False, "message": "two hours left"}
    assert daemon.params_of("lease.acknowledge") == answer
    assert ctl("lease", "revoke", "1ea5e") == 0
    assert daemon.asked("lease.revoke")[-1]["params"]["deadline_s"] is None


def test_a_lease_of_which_nothing_is_used_is_shown_as_idle(ctl: Ctl, daemon: FakeDaemon) -> None:
    idle = wire_samples.lease(idle_s=1200.0)
    daemon.answers["lease.list"] = wire.LeaseList(
        leases=[idle, wire_samples.lease(idle_s=5.0)], queue=[]
    )
    daemon.answers["lease.get"] = idle
    assert ctl("lease", "list") == 0
    assert ctl.out.count("idle 20m") == 1
    assert ctl("lease", "show", "1ea5e") == 0
    assert "for 20m: its processes use nothing" in ctl.out
    assert ctl.json("lease", "show", "1ea5e")["idle_s"] == 1200.0


def test_a_lease_that_nothing_holds_is_not_asked_for(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("lease", "acquire", "--vram", "8GiB") == 2
    assert "--pid PID, --unit NAME or --container NAME, or --ttl" in ctl.err
    assert not daemon.asked("lease.acquire")


def test_who_would_wait_for_ever_sends_the_longest_deadline_there_is(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    assert ctl("lease", "acquire", "--vram", "8GiB", "--pid", "4711", "--wait", "1000d") == 0
    (request,) = daemon.asked("lease.acquire")
    assert request["meta"]["deadline_ms"] == LONGEST_DEADLINE_MS == route.MAX_DEADLINE_MS


def test_leases_of_connections_and_unknown_users_are_shown(ctl: Ctl, daemon: FakeDaemon) -> None:
    lease = wire_samples.lease(mode="connection", holder=[], uid=4242424, name=None)
    lease.gpus[0].index = None
    daemon.answers["lease.list"] = wire.LeaseList(leases=[lease], queue=[])
    ctl("lease", "list")
    assert "connection" in ctl.out
    assert "4242424" in ctl.out
    ctl("status")
    assert "gpu ?" in ctl.out


def test_leases_fit_eighty_columns_by_the_beginning_of_their_ids(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    held = wire_samples.lease(
        id="ab" * 12,
        name="a name that somebody thought long about",
        holder=[wire.HolderProcess(pid=1234567, start_time=1, command="python train.py" * 9)],
    )
    hidden = wire_samples.lease(id="cd" * 12, holder=[], name=None)
    daemon.answers["lease.list"] = wire.LeaseList(leases=[held, hidden], queue=[])
    assert ctl("lease", "list") == 0
    lines = ctl.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("abababab  ")
    assert lines[2].split()[-2:] == ["-", "-"]


def test_processes_and_placements_name_what_is_in_each_column(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("gpu", "processes") == 0
    assert ctl.out.splitlines()[1].startswith("0 ")
    assert daemon.requests


def reason(code: str, message: str, **changes: Any) -> wire.GpuReason:
    """Return the reason of the RTX 2060: 5.1 GiB free after 0.9 GiB foreign, needs 8.0."""
    sample = msgspec.structs.replace(
        wire_samples.placement().gpus[1],
        uuid="GPU-b",
        code=code,
        message=message,
        free_bytes=round(5.1 * (1 << 30)),
        needed_bytes=8 << 30,
        foreign_bytes=round(0.9 * (1 << 30)),
        admitted=False,
        chosen=False,
    )
    return msgspec.structs.replace(sample, **changes)


def explained(decision: str, *gpus: wire.GpuReason, **changes: Any) -> wire.Placement:
    sample = msgspec.structs.replace(
        wire_samples.placement(decision), vram_bytes=8 << 30, gpus=list(gpus), summary="as it is"
    )
    return msgspec.structs.replace(sample, **changes)


def process(pid: int, command: str | None, **changes: Any) -> wire.GpuProcess:
    sample = msgspec.structs.replace(
        wire_samples.processes().processes[1], gpu="GPU-b", pid=pid, command=command
    )
    return msgspec.structs.replace(sample, **changes)


SHORT = "5.1 GiB free after 922 MiB foreign, needs 8.0 GiB"


def test_explain_says_on_one_line_for_each_gpu_who_is_in_the_way(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.answers["placement.explain"] = explained(
        "wait",
        reason("hot", "it is hot", index=0, name="NVIDIA GeForce RTX 3060", foreign_bytes=0),
        reason("insufficient_vram", SHORT),
    )
    daemon.answers["gpu.processes"] = wire.GpuProcessList(
        processes=[process(7, "/usr/lib/xorg/Xorg :0"), process(8, "python", lease="1ea5e")]
    )
    assert ctl("explain", "--vram", "8GiB") == 0
    assert ctl.out == (
        "wait: no room for 8.0 GiB now\n"
        "GPU 0 (RTX 3060): 5.1 GiB free, needs 8.0 GiB: no, it is hot\n"
        "GPU 1 (RTX 2060): 5.1 GiB free after 922 MiB foreign (Xorg), needs 8.0 GiB: no\n"
    )


def test_explain_names_foreign_processes_as_far_as_they_may_be_seen(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    """The largest first, and of others' processes no more than the pid."""
    daemon.answers["placement.explain"] = explained("wait", reason("insufficient_vram", SHORT))
    daemon.answers["gpu.processes"] = wire.GpuProcessList(
        processes=[
            process(7, None),
            process(9, None, container="whisper", vram_bytes=5),
            process(8, "python x.py", vram_bytes=9),
            process(10, "z"),
            process(11, "elsewhere", gpu="GPU-c", vram_bytes=99),
        ]
    )
    ctl("explain", "--vram", "8GiB")
    assert "922 MiB foreign (python, whisper, pid 7, and 1 more), needs" in ctl.out


def test_explain_stands_without_the_names(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["placement.explain"] = explained("wait", reason("insufficient_vram", SHORT))
    daemon.answers["gpu.processes"] = errors.BusyError("not now")
    assert ctl("explain", "--vram", "8GiB") == 0
    assert ctl.out.splitlines()[1].endswith(f"{SHORT}: no")


def test_explain_of_a_split_says_the_proportions_and_where_it_goes(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    part = {"admitted": True, "chosen": True, "foreign_bytes": 0, "needed_bytes": 4 << 30}
    daemon.answers["placement.explain"] = explained(
        "grant",
        reason("chosen", "best_fit: 1.1 GiB stay free", **part),
        reason("fits", "has room, but is warm", admitted=True, index=2),
        chosen=["GPU-b", "GPU-c"],
        split=True,
        tensor_split="1,1",
    )
    ctl("explain", "--vram", "8GiB", "--split")
    assert ctl.out.splitlines() == [
        "grant: as it is",
        "GPU 1 (RTX 2060): 5.1 GiB free, needs 4.0 GiB: yes, chosen (best_fit: 1.1 GiB stay free)",
        (
            "GPU 2 (RTX 2060): 5.1 GiB free after 922 MiB foreign, needs 8.0 GiB:"
            " yes, has room, but is warm"
        ),
        "split: --tensor-split 1,1",
    ]


def test_a_split_lease_shows_which_part_is_where(ctl: Ctl, daemon: FakeDaemon) -> None:
    sample = wire_samples.lease()
    gpu = msgspec.structs.replace(sample.gpus[0], split_ratio=0.75)
    daemon.answers["lease.get"] = msgspec.structs.replace(
        sample, gpus=[gpu], tensor_split="3,1", model="llama-3-8b"
    )
    assert ctl("lease", "show", "1") == 0
    assert "(75.0% of it)" in ctl.out
    assert "tensor split 3,1" in ctl.out
    assert "llama-3-8b" in ctl.out


def test_several_leases_are_released_at_once(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["lease.release"] = [
        wire.ReleaseResult(lease="1", released=True),
        wire.ReleaseResult(lease="2", released=False),
    ]
    assert ctl("lease", "release", "1ea5", "2") == 0
    assert ctl.out == "1ea5e released\n2 was not there any more\n"
    assert [asked["params"]["lease"] for asked in daemon.asked("lease.release")] == ["1ea5e", "2"]
    assert len(ctl.json("lease", "release", "1", "2")) == 2


def test_each_is_released_and_told_where_another_cannot_be(ctl: Ctl, daemon: FakeDaemon) -> None:
    def answers() -> list[object]:
        return [
            errors.StaleLeaseError("there is no lease 2"),
            wire.ReleaseResult(lease="1ea5e", released=True),
            errors.PermissionDeniedError("3 is of uid 4242424"),
        ]

    daemon.answers["lease.release"] = answers()
    assert ctl("lease", "release", "2", "1ea5", "3") == 1
    assert ctl.out == "1ea5e released\n"
    assert ctl.err.count("superezioctl: there is no lease 2") == 1
    daemon.answers["lease.release"] = answers()
    assert ctl("--json", "lease", "release", "2", "1ea5", "3") == 1
    first, second, third = json.loads(ctl.out)
    assert (first["lease"], first["error"]["kind"]) == ("2", "stale_lease")
    assert second == {"lease": "1ea5e", "released": True}
    assert (third["lease"], third["error"]["kind"]) == ("3", "permission_denied")


def test_after_a_failure_that_the_next_would_share_none_is_tried(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    released = wire.ReleaseResult(lease="1ea5e", released=True)
    daemon.answers["lease.release"] = [released, errors.BusyError("too many requests")]
    assert ctl("lease", "release", "1ea5", "2", "3") == 4
    assert ctl.out == "1ea5e released\n"
    assert len(daemon.asked("lease.release")) == 2
    daemon.answers["lease.release"] = [released, errors.BusyError("too many requests")]
    assert ctl("--json", "lease", "release", "1ea5", "2", "3") == 4
    assert [each.get("released") for each in json.loads(ctl.out)] == [True, None]


@pytest.mark.parametrize("words", ["lease release 1e", "lease show 1e", "logs --lease 1e"])
def test_a_beginning_that_several_leases_share_is_refused_with_their_ids(
    ctl: Ctl, daemon: FakeDaemon, words: str
) -> None:
    both = [wire_samples.lease(id="1ea5e"), wire_samples.lease(id="1eaf")]
    daemon.answers["lease.list"] = wire.LeaseList(leases=both, queue=[])
    assert ctl(*words.split()) == 2
    assert "2 leases begin with 1e: 1ea5e, 1eaf" in ctl.err
    assert not daemon.asked("lease.release")
    assert ctl("lease", "release", "1eaf") == 0
    assert daemon.params_of("lease.release") == {"lease": "1eaf"}


def named(**names: str) -> wire.LeaseList:
    """Return leases of this user by their ids, each with a name."""
    mine = os.geteuid()
    found = [wire_samples.lease(id=id_, name=name, uid=mine) for id_, name in names.items()]
    return wire.LeaseList(leases=found, queue=[])


def test_a_lease_of_ones_own_is_found_by_its_name(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["lease.list"] = named(aa11="llama", bb22="whisper-large-and-a-long-name")
    assert ctl("lease", "show", "llama") == 0
    assert daemon.params_of("lease.get") == {"lease": "aa11"}
    assert ctl("lease", "show", "whisper-large-and-a-long-name") == 0
    assert daemon.params_of("lease.get") == {"lease": "bb22"}
    assert ctl("lease", "release", "llama", "bb") == 0
    assert [r["params"]["lease"] for r in daemon.asked("lease.release")] == ["aa11", "bb22"]


def test_a_name_of_several_leases_is_refused_with_their_ids(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["lease.list"] = named(aa11="llama", bb22="llama", cc33="aa")
    assert ctl("lease", "release", "llama") == 2
    assert "2 leases are called llama: name one by its id: aa11, bb22" in ctl.err
    assert ctl("lease", "release", "aa") == 2
    assert "aa is a name and the beginning of an id, of 2 leases" in ctl.err
    assert not daemon.asked("lease.release")


def test_a_name_of_anothers_lease_is_none(ctl: Ctl, daemon: FakeDaemon) -> None:
    """Anybody may call a lease as one of mine is called; an admin would release the wrong one."""
    theirs = wire_samples.lease(id="aa11", name="llama", uid=os.geteuid() + 1)
    daemon.answers["lease.list"] = wire.LeaseList(leases=[theirs], queue=[])
    ctl("lease", "release", "llama")
    assert daemon.params_of("lease.release") == {"lease": "llama"}
    assert "llama is no lease of yours; another user's: aa11" in ctl.err


def test_a_lease_that_has_its_gpu_alone_says_so(ctl: Ctl, daemon: FakeDaemon) -> None:
    alone = wire_samples.lease(policy="exclusive")
    daemon.answers["lease.list"] = wire.LeaseList(leases=[alone], queue=[])
    daemon.answers["lease.get"] = alone
    assert ctl("lease", "list") == 0
    assert " 0 alone " in ctl.out
    assert ctl("lease", "show", "1ea5e") == 0
    assert "policy       exclusive: no other lease gets onto its GPU" in ctl.out


def test_one_gpu_is_no_split(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("explain", "--vram", "8GiB", "--split", "--gpus", "1") == 2
    assert "--split is over several GPUs, and --gpus 1 is one" in ctl.err
    assert not daemon.asked("placement.explain")
    assert ctl("explain", "--vram", "8GiB", "--split") == 0
    assert daemon.params_of("placement.explain")["count"] == 1
    assert ctl("explain", "--vram", "8GiB", "--gpus", "1") == 0


def test_a_whole_id_is_not_looked_up(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("lease", "release", "ab" * 12) == 0
    assert daemon.params_of("lease.release") == {"lease": "ab" * 12}
    assert not daemon.asked("lease.list")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lease", "release", ""], "it is empty"),
        (["lease", "release", "1", ""], "it is empty"),
        (["lease", "release", "1", "--json"], "options go before the ids"),
        (["lease", "show", ""], "it is empty"),
        (["logs", "--lease", ""], "it is empty"),
    ],
)
def test_what_cannot_be_a_lease_is_a_usage_error(
    ctl: Ctl, daemon: FakeDaemon, words: list[str], said: str
) -> None:
    assert ctl(*words) == 2
    assert said in ctl.err
    assert not daemon.requests


def test_the_table_of_access_is_the_daemons(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("access") == 0
    rows = [line.split() for line in ctl.out.splitlines()[1:4]]
    assert rows == [
        ["gpu.list", "yes", "yes", "yes", "public"],
        ["lease.acquire", "-", "yes", "yes", "own"],
        ["gpu.cordon", "-", "-", "yes", "public"],
    ]
    assert "Your role is admin" in ctl.out
    document = ctl.json("access")
    assert document["your_role"] == "admin"
    assert document["methods"][0] == {
        "method": "gpu.list",
        "role": "observer",
        "visibility": "public",
    }
    assert daemon.requests


def test_a_reload_says_what_waits_for_a_restart(ctl: Ctl, daemon: FakeDaemon) -> None:
    ctl("reload")
    assert "in force now: log.level" in ctl.out
    assert "after a restart of the daemon: socket" in ctl.out
    daemon.answers["system.reload"] = wire.ReloadResult(
        applied=[], restart_required=[], config_files=[]
    )
    ctl("reload")
    assert "nothing has changed" in ctl.out
    assert not ctl.err


def test_a_reload_says_whom_the_host_does_not_know(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["system.reload"] = wire.ReloadResult(
        applied=["access.users"],
        restart_required=[],
        config_files=["/etc/x.toml"],
        warnings=["/etc/x.toml:2: access.users: this host has no user ann"],
    )
    assert ctl("reload") == 0
    assert ctl.err == (
        "superezioctl: warning: /etc/x.toml:2: access.users: this host has no user ann\n"
    )
    older: dict[str, list[str]] = {"applied": [], "restart_required": [], "config_files": []}
    daemon.answers["system.reload"] = older
    assert ctl("reload") == 0
    assert not ctl.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("gpu cordon GPU-593d", "is cordoned: it gets no new leases"),
        ("gpu uncordon GPU-593d", "is not cordoned"),
    ],
)
def test_a_cordon_tells_which_gpu_was_meant(
    ctl: Ctl, daemon: FakeDaemon, words: str, said: str
) -> None:
    card = "NVIDIA GeForce RTX 2060"
    change = wire.CordonChange(done=True, gpu="GPU-593d-77", index=1, mig_index=None, name=card)
    method = "gpu." + words.split()[1]
    daemon.answers[method] = change
    assert ctl(*words.split()) == 0
    assert ctl.out == f"gpu 1 ({card}, GPU-593d-77) {said}\n"
    daemon.answers[method] = structs.replace(change, mig_index=0)
    assert ctl(*words.split()) == 0
    assert ctl.out.startswith("gpu 1:0 (")
    daemon.answers[method] = structs.replace(change, recorded=False)
    assert ctl(*words.split()) == 0
    assert ctl.out.endswith("\nnot kept over a reboot: see `superezioctl health`\n")
    daemon.answers[method] = wire.Done(done=True)  # an older daemon does not tell
    assert ctl(*words.split()) == 0
    assert ctl.out == f"gpu GPU-593d {said}\n"


@pytest.mark.parametrize("words", ["run", "explain", "lease acquire"])
def test_a_gpu_to_prefer_is_named_as_any_gpu_is(ctl: Ctl, words: str) -> None:
    assert ctl(*words.split(), "--help") == 0
    assert "--prefer GPU " in ctl.out
    assert "--avoid GPU " in ctl.out
    assert "by its UUID, the beginning of one, or its index" in " ".join(ctl.out.split())


def test_the_methods_are_listed(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("rpc", "--list") == 0
    assert "gpu.list" in ctl.out
    assert ctl.json("rpc", "--list")[1]["role"] == "user"
    assert daemon.requests


def test_a_raw_call_takes_its_parameters_from_standard_input(
    ctl: Ctl, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"vram_bytes": 1, "wait_ms": 60000}'))
    assert ctl("rpc", "lease.acquire", "-") == 0
    (request,) = daemon.asked("lease.acquire")
    assert request["params"] == {"vram_bytes": 1, "wait_ms": 60000}
    assert request["meta"]["deadline_ms"] > 60_000


def test_events_are_followed(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["events.subscribe"] = wire_samples.subscribed(
        3, [wire_samples.event(1, severity="critical"), wire_samples.event(2, lease=None)]
    )
    assert ctl("events", "--count", "2", "--replay", "2", "--type", "lease.") == 0
    assert "lease number 1 was granted [lease 1ea5e, correlation c0ffee]" in ctl.out
    assert daemon.params_of("events.subscribe") == {"types": ["lease."], "replay": 2}
    assert ctl("--json", "events", "--count", "2") == 0
    lines = [json.loads(line) for line in ctl.out.splitlines()]
    assert [(line["event"]["seq"], line["lost"]) for line in lines] == [(1, 0), (2, 0)]


def test_past_events_are_printed_without_waiting_for_more(ctl: Ctl, daemon: FakeDaemon) -> None:
    past = [wire_samples.event(number) for number in (1, 2, 3)]
    daemon.answers["events.subscribe"] = wire_samples.subscribed(4, past)
    assert ctl("events", "--no-follow") == 0
    assert len(ctl.out.splitlines()) == 3
    assert daemon.params_of("events.subscribe")["replay"] == 4096, "all that there are"
    assert ctl("events", "--no-follow", "--count", "5") == 0
    assert len(ctl.out.splitlines()) == 3, "there are no five, and none is waited for"
    assert daemon.params_of("events.subscribe")["replay"] == 5, "the newest are meant"
    assert ctl("events", "--no-follow", "--count", "9999") == 0
    assert daemon.params_of("events.subscribe")["replay"] == 4096
    assert ctl("events", "--no-follow", "--replay", "20", "--count", "2") == 0
    assert len(ctl.out.splitlines()) == 2
    assert daemon.params_of("events.subscribe")["replay"] == 20
    daemon.answers["events.subscribe"] = wire_samples.subscribed(1)
    assert ctl("events", "--no-follow") == 0
    assert not ctl.out


def test_lost_events_are_counted(ctl: Ctl, daemon: FakeDaemon) -> None:
    def push_at_once(_: dict[str, Any]) -> wire.SubscribeResult:
        daemon.push("event", wire_samples.notification(9, lost=4))
        return wire_samples.subscribed(9)

    daemon.answers["events.subscribe"] = push_at_once
    assert ctl("events", "--count", "1") == 0
    assert "(4 events were lost here)" in ctl.out


@pytest.mark.parametrize(
    ("type_", "told"),
    [
        ("leese.granted", "there is no event type 'leese.granted': did you mean lease.granted?"),
        ("lease", "there is no event type 'lease': did you mean lease.?"),
        ("nope.", "there is no event type 'nope.': they begin with daemon., config., health.,"),
        ("gpu.xid", "the daemon has no event type 'gpu.xid': it is another version"),
    ],
)
def test_a_type_of_no_event_is_refused(ctl: Ctl, daemon: FakeDaemon, type_: str, told: str) -> None:
    """It would be silent for ever; the daemon says which of them it knows, a newer one too."""
    answer = structs.replace(wire_samples.subscribed(), unknown_types=[type_])
    daemon.answers["events.subscribe"] = answer
    assert ctl("events", "--no-follow", "--type", "newer.kind", "--type", type_) == 2
    assert ctl.err.startswith(f"superezioctl: {told}")
    assert "See `superezioctl events --help`" in ctl.err


def test_a_daemon_that_does_not_say_what_it_knows_is_listened_to_with_a_warning(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.answers["events.subscribe"] = wire_samples.subscribed(2, [wire_samples.event(1)])
    asked = ("events", "--no-follow", "--type", "leese.granted", "--type", "gpu.")
    assert ctl(*asked) == 0
    assert "was granted" in ctl.out
    assert ctl.err == (
        "superezioctl: warning: no event type 'leese.granted' is known: did you mean "
        "lease.granted? It is listened for all the same, as the daemon may know more.\n"
    )


@pytest.mark.parametrize("word", ["--follow", "-f"])
def test_to_follow_may_be_said_and_not_with_its_opposite(
    ctl: Ctl, daemon: FakeDaemon, word: str
) -> None:
    daemon.answers["events.subscribe"] = wire_samples.subscribed(2, [wire_samples.event(1)])
    assert ctl("events", word, "--count", "1", "--replay", "1") == 0
    assert "was granted" in ctl.out
    assert ctl("events", word, "--no-follow") == 2
    assert "choose one" in ctl.err


def test_this_version_knows_the_daemons_types() -> None:
    assert set(events.TYPES) == set(EVENT_TYPES)


def test_following_says_at_once_that_there_is_no_daemon(ctl: Ctl, tmp_path: Path) -> None:
    assert ctl("--socket", str(tmp_path / "no.sock"), "events") == 5


HISTORY = [
    wire_samples.event(1, lease="other", correlation_id=None),
    wire_samples.event(2),
    wire_samples.event(3, gpu=wire_samples.UUID_2060),
]


@pytest.mark.usefixtures("no_journal")
def test_without_a_journal_the_events_that_the_daemon_remembers_are_the_logs(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.answers["events.subscribe"] = wire_samples.subscribed(4, HISTORY)
    assert ctl("logs", "--lease", "1ea5e") == 0
    assert ctl.out.count("\n") == 2
    assert "not from the journal" in ctl.err
    assert ctl("logs", "--lease", "1ea5e", "-n", "1") == 0
    assert "lease number 3" in ctl.out
    assert ctl("logs", "--lease", "1e") == 0
    assert ctl.out.count("\n") == 2
    assert ctl("logs", "--lease", "oth") == 0, "a lease that is gone is in what is remembered"
    assert "lease number 1" in ctl.out
    assert ctl("logs", "--gpu", "0") == 0
    assert "lease number 3" not in ctl.out
    document = ctl.json("logs", "--correlation-id", "c0ffee")
    assert document["source"] == "events"
    assert [record["fields"]["event"] for record in document["records"]] == ["lease.granted"] * 2


@pytest.mark.usefixtures("no_journal")
def test_logs_of_nothing_say_so(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["events.subscribe"] = wire_samples.subscribed(4, HISTORY)
    daemon.answers["gpu.get"] = errors.NotFoundError("there is no gpu 9")
    assert ctl("logs", "--gpu", "9") == 0
    assert not ctl.out
    assert "there is no gpu 9" in ctl.err
    assert "nothing was logged of gpu 9" in ctl.err
    assert ctl("logs", "--correlation-id", "refused-7") == 0
    assert "nothing was logged of correlation id refused-7" in ctl.err
    assert "`superezioctl trace refused-7` shows what became" in ctl.err


@pytest.mark.usefixtures("no_journal")
def test_who_may_not_read_the_journal_is_told_that_the_audit_is_there_alone(ctl: Ctl) -> None:
    assert ctl("logs", "--audit") == 4
    assert "join the group systemd-journal" in ctl.err


JOURNAL = [
    {
        "__REALTIME_TIMESTAMP": "1795341600000000",
        "PRIORITY": "4",
        "MESSAGE": "gpu 1 is warm",
        "GPU": wire_samples.UUID_2060,
    },
    {
        "__REALTIME_TIMESTAMP": "1795341600000001",
        "PRIORITY": "2",
        "MESSAGE": [103, 112, 117],
        "CORRELATION_ID": "c0ffee",
        "LOGGED_AT": "2026-11-22T09:00:00.000+00:00",
    },
]


def test_the_journal_is_read_by_its_fields(ctl: Ctl, daemon: FakeDaemon, no_journal: Path) -> None:
    lines = "\n".join(json.dumps(entry) for entry in JOURNAL)
    script = no_journal / "journalctl"
    script.write_text(f"#!/bin/sh\necho \"$@\" >>{no_journal}/asked\ncat <<'END'\n{lines}\nEND\n")
    script.chmod(0o755)
    (no_journal / "cat").symlink_to("/bin/cat")
    document = ctl.json("logs", "--gpu", "1", "-n", "50")
    assert document["source"] == "journal"
    first, second = document["records"]
    assert (first["severity"], first["message"]) == ("warning", "gpu 1 is warm")
    assert (second["severity"], second["message"]) == ("critical", "gpu")
    assert first["time"] == "2026-11-22T10:00:00.000+00:00"
    assert second["time"] == "2026-11-22T09:00:00.000+00:00", "it waited an hour for the journal"
    asked = (no_journal / "asked").read_text().splitlines()[-1].split()
    assert {"--unit=superezio.service", "--lines=50"} <= set(asked)
    assert f"GPU={wire_samples.UUID_3060}" in asked
    assert ctl("logs", "--correlation-id", "c0ffee") == 0
    assert "gpu 1 is warm" in ctl.out
    assert (no_journal / "asked").read_text().splitlines()[-1].endswith("CORRELATION_ID=c0ffee")
    assert ctl("logs", "--audit", "--gpu", "0") == 0
    assert (
        (no_journal / "asked")
        .read_text()
        .splitlines()[-1]
        .endswith(f"GPU={wire_samples.UUID_3060} AUDIT=1")
    )
    assert ctl("--json", "logs", "--follow") == 0
    assert len(ctl.out.splitlines()) == 2
    daemon.stop()
    assert ctl("logs", "--gpu", "GPU-x") == 0
    assert (no_journal / "asked").read_text().splitlines()[-1].endswith("GPU=GPU-x")


# --- MIG ----------------------------------------------------------------------------------------


def test_mig_instances_stand_under_their_gpu(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["gpu.list"] = wire.GpuList(gpus=[*wire_samples.mig_gpus(), wire_samples.gpu()])
    assert ctl("gpu", "list") == 0
    lines = [line.split() for line in ctl.out.splitlines()]
    assert lines[1][:2] == ["2", "A100-SXM4-80GB"]
    assert lines[1][-3:] == ["cut", "by", "MIG"]
    assert lines[2][:3] == ["2:0", "MIG", "1g.10gb"]
    assert lines[3][:3] == ["2:1", "MIG", "1g.10gb"]
    assert lines[3][-2:] == ["no", "permission"]
    assert "gpu 2:1 admits no lease: no permission to read MIG" in ctl.out
    # Never as empty: what cannot be read is a dash.
    assert lines[3].count("-") == 4


def test_what_is_said_of_a_hot_gpu_is_not_said_of_each_of_its_instances(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    whole, part, _ = wire_samples.mig_gpus()
    hot = {"level": "hot", "admissible": False}
    daemon.answers["gpu.list"] = wire.GpuList(
        gpus=[
            msgspec.structs.replace(whole, **hot, blocked_reason="it is hot"),
            msgspec.structs.replace(
                part, **hot, blocked_reason="its GPU admits nothing: it is hot"
            ),
        ]
    )
    ctl("gpu", "list")
    assert ctl.out.count("admits no lease") == 1


def test_a_gpu_that_mig_cuts_up_is_shown_with_its_instances(ctl: Ctl, daemon: FakeDaemon) -> None:
    whole, part, unreadable = wire_samples.mig_gpus()
    daemon.answers["gpu.list"] = wire.GpuList(gpus=[whole, part, unreadable])
    daemon.answers["gpu.get"] = whole
    assert ctl("gpu", "show", "2") == 0
    assert "MIG instances" in ctl.out
    assert "2:0  1g.10gb  3.0 GiB of 10.0 GiB leasable, leases: 1, normal" in ctl.out
    assert "no permission: no permission to read MIG" in ctl.out
    daemon.answers["gpu.list"] = wire.GpuList(gpus=[whole])
    ctl("gpu", "show", "2")
    assert "there are no instances" in ctl.out
    daemon.answers["gpu.get"] = part
    ctl("gpu", "show", "2:0")
    assert f"1g.10gb, a part of gpu 2 ({whole.uuid})" in ctl.out
    assert "MIG instances" not in ctl.out


def test_a_lease_on_an_instance_names_it(ctl: Ctl, daemon: FakeDaemon) -> None:
    _, part, _ = wire_samples.mig_gpus()
    on_part = wire.LeaseGpu(
        uuid=part.uuid, index=2, mig_index=0, reserved_bytes=6 << 30, actual_bytes=None
    )
    daemon.answers["lease.list"] = wire.LeaseList(
        leases=[wire_samples.lease(gpus=[on_part])], queue=[]
    )
    ctl("lease", "list")
    assert ctl.out.splitlines()[1].split()[2] == "2:0"


def test_status_draws_instances_and_not_their_gpu(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["gpu.list"] = wire.GpuList(gpus=wire_samples.mig_gpus())
    assert ctl("status") == 0
    assert "cut up by MIG into the instances below; 5.0 GiB of 80.0 GiB in use on them" in ctl.out
    assert ctl.out.count("\n  [") == 2
    assert "gpu 2:0  A100-SXM4-80GB MIG 1g.10gb" in ctl.out
