"""What the daemon says, in the words of people and of the command line."""

from __future__ import annotations

import getpass
import os

import pytest

import wire_samples
from ctl_runner import Ctl
from fake_daemon import FakeDaemon
from superezio import errors, wire
from superezioctl import wording

ME = os.getuid()
UUID = "GPU-593d7d2f-7332-1083-2c06-8b30437c756f"


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (
            "since_s has to be more than 0, and at most 31622400",
            "since",
            "--since has to be more than 0, and at most 366d",
        ),
        ("ttl_ms has to be from 1,000 to 86,400,000", "ttl", "--ttl has to be from 1s to 1d"),
        ("deadline_s has to be from 0 to 86,400", "deadline", "--deadline has to be from 0 to 1d"),
        (
            "cannot lease 2251799813685248 bytes: vram_bytes has to be from 1048576 to 8589934592",
            "vram",
            "cannot lease 2097152.0 GiB: --vram has to be from 1 MiB to 8.0 GiB",
        ),
        (
            "cannot lease 0 bytes: vram_bytes has to be from 1 to 1125899906842624",
            "vram",
            "cannot lease 0 bytes: --vram has to be from 1 bytes to 1048576.0 GiB",
        ),
        (
            "cannot lease on 99999 GPUs: count has to be from 1 to 1024",
            "gpus",
            "cannot lease on 99999 GPUs: --gpus has to be from 1 to 1024",
        ),
        (
            "min_compute_capability: cannot read 'x'",
            "min_compute_capability",
            "--min-compute-capability: cannot read 'x'",
        ),
        ("name has 1 to 128 characters", "name", "--name has 1 to 128 characters"),
        ("cannot use it: the name is long", "name", "cannot use it: the name is long"),
    ],
)
def test_a_parameter_is_named_as_the_option_that_was_typed(text: str, key: str, said: str) -> None:
    assert wording.with_options(text, {key}) == said
    assert wording.with_options(text, {"other"}) == text


def test_users_have_their_names_and_gpus_their_places() -> None:
    assert wording.with_users(f"it is of uid {ME}") == f"it is of user {getpass.getuser()}"
    assert wording.with_users("it is of uid 3999999999") == "it is of uid 3999999999"
    assert wording.with_users("--uid 0, not-uid 0") == "--uid 0, not-uid 0"
    assert wording.with_places(f"1 GiB on {UUID}, GPU {UUID} is hot", {UUID: "1"}) == (
        "1 GiB on GPU 1, GPU 1 is hot"
    )
    assert wording.with_places(f"on {UUID}", {}) == f"on {UUID}"


def test_a_refusal_is_in_the_words_of_the_command_line(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["gpu.history"] = errors.InvalidParamsError("since_s has to be more than 0")
    assert ctl("gpu", "history", "0", "--since", "0s") == 2
    assert ctl.err == "superezioctl: --since has to be more than 0\n"
    daemon.answers["lease.revoke"] = errors.PermissionDeniedError(f"it is of uid {ME}")
    assert ctl("lease", "revoke", "1ea5e") == 4
    assert f"it is of user {getpass.getuser()}" in ctl.err


def test_a_raw_call_is_answered_in_the_words_of_the_wire(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["gpu.history"] = errors.InvalidParamsError("since_s has to be more than 0")
    assert ctl("rpc", "gpu.history", '{"gpu": "0", "since_s": 0}') == 2
    assert ctl.err == "superezioctl: since_s has to be more than 0\n"


def test_who_revoked_a_lease_is_shown_by_name(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["lease.get"] = wire_samples.lease(
        revocation=wire.Revocation(
            reason="owner",
            message=f"uid {ME} revoked it",
            remaining_s=30.0,
            answer=None,
            answer_message=None,
        )
    )
    assert ctl("lease", "show", "1ea5e") == 0
    assert f"user {getpass.getuser()} revoked it" in ctl.out


def test_a_lease_that_is_revoked_for_its_gpu_says_which_as_people_do(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    on_it = wire.LeaseGpu(uuid=UUID, index=1, reserved_bytes=1 << 30, actual_bytes=0)
    order = wire.Revocation(
        reason="gpu_critical",
        message=f"GPU {UUID} is critically hot",
        remaining_s=30.0,
        answer=None,
        answer_message=None,
    )
    daemon.answers["lease.get"] = wire_samples.lease(gpus=[on_it], revocation=order)
    assert ctl("lease", "show", "1ea5e") == 0
    assert "GPU 1 is critically hot" in ctl.out


def test_events_speak_of_gpus_by_their_place_and_ask_once(ctl: Ctl, daemon: FakeDaemon) -> None:
    known = wire_samples.gpu(uuid=UUID, index=1)
    gone = UUID.replace("593d", "0000")
    daemon.answers["gpu.list"] = wire.GpuList(gpus=[known])
    daemon.answers["events.subscribe"] = wire.SubscribeResult(
        subscription="s",
        next_seq=4,
        replay=[
            wire_samples.event(seq=1, message=f"1 GiB on {UUID}"),
            wire_samples.event(seq=2, message=f"2 GiB on {UUID}"),
            wire_samples.event(seq=3, message=f"uid {ME} saw {gone}"),
        ],
    )
    assert ctl("events", "--replay", "3", "--count", "3") == 0
    assert "1 GiB on GPU 1" in ctl.out
    assert "2 GiB on GPU 1" in ctl.out
    assert f"user {getpass.getuser()} saw {gone}" in ctl.out
    assert len(daemon.asked("gpu.list")) == 2, "again for one that was not known"
