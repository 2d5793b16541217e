"""What a command says where the answer is not what was asked for, or not all that was meant."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import structs

import wire_samples
from ctl_runner import Ctl
from fake_daemon import FakeDaemon
from superezio import errors, wire

GIB = 1 << 30
ACQUIRE = ("lease", "acquire", "--vram", "2GiB", "--pid", "4711")
MINE = wire.HolderProcess(pid=4711, start_time=99, command="python")
OTHERS = wire.HolderProcess(pid=4712, start_time=100, command="python")


def on(uuid: str = wire_samples.UUID_3060, **changes: Any) -> wire.LeaseGpu:
    part = wire.LeaseGpu(uuid=uuid, index=0, reserved_bytes=2 * GIB, actual_bytes=0)
    return structs.replace(part, **changes)


def lease(id_: str, *parts: wire.LeaseGpu, **changes: Any) -> wire.Lease:
    return wire_samples.lease(id=id_, gpus=list(parts or (on(),)), **changes)


def grant(daemon: FakeDaemon, new: wire.Lease, *others: wire.Lease) -> None:
    daemon.answers["lease.acquire"] = new
    daemon.answers["lease.list"] = wire.LeaseList(leases=[*others, new], queue=[])


# --- who holds a lease already ------------------------------------------------------------------


def test_a_process_that_has_a_lease_is_told_of_by_the_id_of_that(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    grant(daemon, lease("new"), lease("0ther"), lease("f0reign", holder=[OTHERS]))
    assert ctl(*ACQUIRE) == 0, "it stands: two leases of a holder add up on purpose"
    assert ctl.out.startswith("lease        new")
    assert ctl.err == (
        "superezioctl lease acquire: what holds this lease has another lease already, 0ther, and "
        "they add up: `superezioctl lease release` gives it back\n"
    )


def test_all_leases_of_the_holder_are_told(ctl: Ctl, daemon: FakeDaemon) -> None:
    both = lease("b0th", holder=[MINE, OTHERS])
    grant(daemon, lease("new"), both, lease("1inked", holder=[OTHERS]))
    assert ctl(*ACQUIRE) == 0
    assert "has other leases already, b0th, 1inked," in ctl.err


def test_a_pid_that_was_another_process_has_no_lease(ctl: Ctl, daemon: FakeDaemon) -> None:
    before = structs.replace(MINE, start_time=7)
    grant(daemon, lease("new"), lease("0ther", holder=[before]))
    assert ctl(*ACQUIRE) == 0
    assert not ctl.err


def test_a_program_is_told_in_json_and_beside_the_document(ctl: Ctl, daemon: FakeDaemon) -> None:
    grant(daemon, lease("new"), lease("0ther"))
    assert ctl.json(*ACQUIRE)["id"] == "new"
    assert "0ther" in json.loads(ctl.err)["warning"]


def test_a_shell_gets_its_exports_all_the_same(ctl: Ctl, daemon: FakeDaemon) -> None:
    grant(daemon, lease("new"), lease("0ther"))
    assert ctl(*ACQUIRE, "--export") == 0
    assert all(line.startswith("export ") for line in ctl.out.splitlines())
    assert "0ther" in ctl.err


def test_that_the_others_cannot_be_seen_is_no_failure(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["lease.list"] = errors.BusyError("too much at once")
    assert ctl(*ACQUIRE) == 0
    assert not ctl.err


def test_a_lease_that_no_process_was_named_for_is_not_looked_at(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    assert ctl("lease", "acquire", "--vram", "2GiB", "--ttl", "60s") == 0
    assert not ctl.err
    assert not daemon.asked("lease.list")


# --- what it uses already -----------------------------------------------------------------------


def test_a_server_that_uses_more_is_told_of_with_the_amount_to_ask_for(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    grant(daemon, lease("new", on(actual_bytes=5 * GIB)))
    assert ctl(*ACQUIRE) == 0
    assert ctl.err == (
        "superezioctl lease acquire: 5.0 GiB are in use already, and 2.0 GiB reserved: --vram 5GiB "
        "asks for enough; after three readings that is an overrun, and the lease is raised to it\n"
    )


@pytest.mark.parametrize("used", [None, 0, 2 * GIB])
def test_a_server_that_uses_no_more_is_not(ctl: Ctl, daemon: FakeDaemon, used: int | None) -> None:
    grant(daemon, lease("new", on(actual_bytes=used)))
    assert ctl(*ACQUIRE) == 0
    assert not ctl.err


@pytest.mark.parametrize(
    ("used", "state", "raised"),
    [
        (2 * GIB * 110 // 100, "active", 0),
        (2 * GIB * 110 // 100 + 1, "active", 1),
        (5 * GIB, "growing", 0),
    ],
)
def test_a_lease_is_raised_for_an_overrun_alone(
    ctl: Ctl, daemon: FakeDaemon, used: int, state: str, raised: int
) -> None:
    grant(daemon, lease("new", on(actual_bytes=used), state=state))
    assert ctl(*ACQUIRE) == 0
    assert "asks for enough" in ctl.err
    assert ctl.err.count("overrun") == raised


def test_the_amount_is_no_less_than_what_is_used(ctl: Ctl, daemon: FakeDaemon) -> None:
    grant(daemon, lease("new", on(actual_bytes=3 * GIB + 1)))
    assert ctl(*ACQUIRE) == 0
    assert "--vram 3073MiB" in ctl.err


def test_what_other_leases_of_the_holder_reserve_counts(ctl: Ctl, daemon: FakeDaemon) -> None:
    other = lease("0ther", on(reserved_bytes=6 * GIB, actual_bytes=7 * GIB))
    grant(daemon, lease("new", on(actual_bytes=7 * GIB)), other)
    assert ctl(*ACQUIRE) == 0
    assert "in use already" not in ctl.err
    grant(daemon, lease("new", on(actual_bytes=9 * GIB)), other)
    assert ctl(*ACQUIRE) == 0
    assert "9.0 GiB are in use already, and 8.0 GiB reserved: --vram 3GiB" in ctl.err


def test_of_several_gpus_each_is_to_have_enough(ctl: Ctl, daemon: FakeDaemon) -> None:
    second = on(wire_samples.UUID_2060, actual_bytes=4 * GIB)
    grant(daemon, lease("new", on(actual_bytes=3 * GIB), second))
    assert ctl(*ACQUIRE, "--gpus", "2") == 0
    assert "7.0 GiB are in use already, and 4.0 GiB reserved: --vram 4GiB" in ctl.err
    assert ctl(*ACQUIRE, "--split") == 0
    assert "--vram 7GiB" in ctl.err


# --- the priority -------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [ACQUIRE, ("lease", "acquire", "--vram", "1G", "--ttl", "9s")])
def test_a_priority_that_was_cut_is_told(
    ctl: Ctl, daemon: FakeDaemon, words: tuple[str, ...]
) -> None:
    grant(daemon, lease("new", priority=100))
    assert ctl(*words, "--priority", "500") == 0
    assert ctl.err == (
        "superezioctl lease acquire: the priority is 100, and not 500: your role may have no more "
        "(leases.priority_maximum_user, or _admin)\n"
    )
    assert ctl(*words, "--priority", "100") == 0
    assert not ctl.err


# --- a deadline that stands ---------------------------------------------------------------------


def order(left_s: float) -> wire.Revocation:
    return wire.Revocation(
        reason="owner", message="noon", remaining_s=left_s, answer=None, answer_message=None
    )


def revoked(daemon: FakeDaemon, *, before_s: float | None, after_s: float) -> None:
    known = None if before_s is None else order(before_s)
    daemon.answers["lease.get"] = wire_samples.lease(revocation=known)
    daemon.answers["lease.revoke"] = wire_samples.lease(revocation=order(after_s))


def test_a_deadline_that_stands_is_told(ctl: Ctl, daemon: FakeDaemon) -> None:
    revoked(daemon, before_s=30.0, after_s=30.0)
    assert ctl("lease", "revoke", "1", "--deadline", "5m") == 0
    assert ctl.err == (
        "superezioctl lease revoke: it was revoked before, and that deadline stands, for none is "
        "lengthened: it is lost in 30s, and not in 5m\n"
    )
    assert ctl("lease", "revoke", "1") == 0
    assert ctl.err.endswith("it is lost in 30s\n")
    ctl.json("lease", "revoke", "1")
    assert "stands" in json.loads(ctl.err)["warning"]


@pytest.mark.parametrize("before_s", [None, 30.0])
def test_a_deadline_that_is_the_new_one_is_not(
    ctl: Ctl, daemon: FakeDaemon, before_s: float | None
) -> None:
    revoked(daemon, before_s=before_s, after_s=10.0)
    assert ctl("lease", "revoke", "1", "--deadline", "10s") == 0
    assert not ctl.err


def test_a_lease_that_cannot_be_looked_at_is_revoked_all_the_same(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    revoked(daemon, before_s=30.0, after_s=30.0)
    daemon.answers["lease.get"] = errors.BusyError("too much at once")
    assert ctl("lease", "revoke", "1", "--deadline", "10s") == 0
    assert daemon.asked("lease.revoke")
