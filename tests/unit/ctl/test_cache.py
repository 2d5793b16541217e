"""superezioctl cache."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from ctl_runner import Ctl
from fake_daemon import FakeDaemon
from superezio import wire
from superezio.errors import PermissionDeniedError
from superezioctl import exit_codes

HIT = {"ttl_ms": 3_600_000, "grace_ms": 0, "stale_if_error_ms": 0, "tags": []}


def test_the_namespaces_are_shown_with_what_they_hold_and_how_often_they_served(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    assert ctl("cache", "stats") == 0
    head, own, total = ctl.out.splitlines()
    assert head.split()[:3] == ["NAMESPACE", "OF", "SIZE"]
    assert own.split()[0] == "embeddings"
    assert own.split()[2:] == ["3", "MiB", "64", "MiB", "900", "50000", "75", "%", "1", "4"]
    assert total == "all together: 5 MiB of 256 MiB, 1200 of 200000 entries"
    assert ctl.json("cache", "stats")["namespaces"][0]["counters"]["hits"] == 750
    nothing = wire.CacheStats(used_bytes=0, max_bytes=1, entries=0, max_entries=1, namespaces=[])
    daemon.answers["cache.stats"] = nothing
    assert ctl("cache", "stats") == 0
    assert "none of your programs has used the cache" in ctl.out


def test_a_value_is_printed_as_it_is(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["cache.get"] = wire.CacheAnswer(status="hit", text="a\n\tÅ", age_ms=1)
    assert ctl("cache", "get", "n", "k") == 0
    assert ctl.out == "a\n\tÅ"
    params = daemon.params_of("cache.get")
    assert params == {"namespace": "n", "key": "k"}
    assert ctl.json("cache", "get", "n", "k")["age_ms"] == 1


def test_bytes_are_printed_as_they_are(
    ctl: Ctl, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out))
    daemon.answers["cache.get"] = wire.CacheAnswer(status="stale", data=b"\xff\x00\r\n", age_ms=1)
    assert ctl("cache", "get", "n", "k") == 0
    assert out.getvalue() == b"\xff\x00\r\n"


def test_where_there_is_none_the_exit_code_says_so(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["cache.get"] = wire.CacheAnswer(status="miss")
    assert ctl("cache", "get", "n", "k") == exit_codes.FAILED
    assert (ctl.out, ctl.err) == ("", "superezioctl: nothing is cached for k in n\n")
    assert ctl("--json", "cache", "get", "n", "k") == exit_codes.FAILED
    assert '"status":"miss"' in ctl.out


def test_a_value_is_set_from_an_argument_with_its_times_and_tags(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    words = "cache set n k v --ttl 1m --grace 5s --stale-if-error 1h --tag a --tag b"
    assert ctl(*words.split()) == 0
    assert daemon.params_of("cache.set") == {
        "namespace": "n",
        "key": "k",
        "text": "v",
        "ttl_ms": 60_000,
        "grace_ms": 5000,
        "stale_if_error_ms": 3_600_000,
        "tags": ["a", "b"],
    }
    assert ctl.out == ""


@pytest.mark.parametrize("how", ["file", "stdin", "dash"])
@pytest.mark.parametrize(
    ("content", "given"), [(b"\xc3\x85\n", {"text": "Å\n"}), (b"\xff", {"data": "/w=="})]
)
def test_a_value_is_set_from_a_file_or_standard_input(
    ctl: Ctl,
    daemon: FakeDaemon,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    how: str,
    content: bytes,
    given: dict[str, str],
) -> None:
    (tmp_path / "value").write_bytes(content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    source = {"file": ["--file", str(tmp_path / "value")], "stdin": [], "dash": ["--file", "-"]}
    assert ctl("cache", "set", "n", "k", *source[how]) == 0
    assert daemon.params_of("cache.set") == {"namespace": "n", "key": "k", **given, **HIT}


def test_what_is_no_value_is_said_so_before_anything_is_asked(
    ctl: Ctl, daemon: FakeDaemon, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing")
    assert ctl("cache", "set", "n", "k", "v", "--file", missing) == exit_codes.USAGE
    assert "given twice" in ctl.err
    assert ctl("cache", "set", "n", "k", "--file", missing) == exit_codes.USAGE
    assert f"cannot read {missing}: No such file" in ctl.err
    assert daemon.requests == []


def test_a_value_that_was_not_kept_is_a_failure(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["cache.set"] = wire.CacheStored(accepted=True, stored=False)
    assert ctl("cache", "set", "n", "k", "v") == exit_codes.FAILED
    assert "larger than cache.value_size allows" in ctl.err
    daemon.answers["cache.set"] = wire.CacheStored(
        accepted=True, stored=False, not_stored="too_large", max_bytes=1 << 20
    )
    assert ctl("cache", "set", "n", "k", "v") == exit_codes.FAILED
    assert "larger than the 1 MiB that cache.value_size allows" in ctl.err


def test_a_time_that_was_cut_is_told(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.answers["cache.set"] = wire.CacheStored(
        accepted=True, stored=True, ttl_ms=30 * 86_400_000
    )
    assert ctl("cache", "set", "n", "k", "v", "--ttl", "60d") == 0
    assert "--ttl was cut to 30d, the longest (cache.ttl_maximum)" in ctl.err
    assert ctl("cache", "set", "--help") == 0
    assert "(default: 1h)" in ctl.out


def test_a_key_or_all_with_a_tag_is_deleted(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("cache", "delete", "n", "k") == 0
    assert ctl.out == "deleted 1 entry\n"
    assert daemon.params_of("cache.delete") == {"namespace": "n", "key": "k"}
    assert ctl("cache", "delete", "n", "--tag", "t") == 0
    assert daemon.params_of("cache.delete") == {"namespace": "n", "tag": "t"}
    for words in ([], ["k", "--tag", "t"]):
        assert ctl("cache", "delete", "n", *words) == exit_codes.USAGE
        assert "what shall be deleted? A KEY, or --tag TAG" in ctl.err


def test_a_namespace_is_cleared(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("cache", "clear", "n", "--uid", "1000") == 0
    assert ctl.out == "deleted 2 entries\n"
    assert daemon.params_of("cache.clear") == {"namespace": "n", "uid": 1000}
    assert ctl("cache", "clear", "n", "--uid", "root") == 0
    assert daemon.params_of("cache.clear") == {"namespace": "n", "uid": 0}
    assert ctl("cache", "clear", "n", "--uid", "no-such-user") == exit_codes.USAGE
    daemon.answers["cache.clear"] = PermissionDeniedError("cannot clear the namespace n")
    assert ctl("cache", "clear", "n") == exit_codes.REFUSED
