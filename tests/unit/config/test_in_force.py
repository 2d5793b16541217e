"""What is in force, where it was set, and what the files would change."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superezio import wire
from superezio.quantities import LONGEST_S
from superezio.toml_text import dotted, value_text
from superezio.toml_values import read_value
from supereziod.config import Config, Loaded, Source
from supereziod.config.fields import NoSuchKeyError
from supereziod.config.in_force import changes_on_disk, values_in_force
from supereziod.config.written import written

#: Something in each kind of section, names that need quotes included.
FULL = """\
[leases]
grace = 7.0625
idle_timeout = "1d2h3m4s5ms"
quota.default.vram = 1234567
quota.user."alice.b".leases = 2
quota.group.students.vram = "24GiB"
[gpu]
reserve = "1GB"
thermal.hot_enter_c = 7
[gpu.override."GPU-1"]
reserve = 0
thermal.warm_enter_c = 14
[access]
admins = ["a \\"b\\"", "\\u001b"]
[breaker.shared."open/ai.x"]
groups = ["ai"]
open = "90s"
window = 10
[cache.shared.embeddings]
everyone = true
size = "128MiB"
[limit.shared.openai]
users = ["alice"]
[limit.shared.openai.host]
requests = "500/1m"
money_per_month = "200.00"
"""


def load(directory: Path, text: str, **variables: str) -> Loaded:
    file = directory / "superezio.toml"
    file.write_text(text)
    return Source(file=file, variables=variables).load()


def as_toml(values: list[wire.ConfigValue]) -> str:
    return "".join(
        f"{dotted(each.path)} = {value_text(each.value)}\n"
        for each in values
        if each.value is not None
    )


def values(loaded: Loaded, key: str | None = None, **how: bool) -> dict[str, wire.ConfigValue]:
    everything = how.get("everything", False)
    found = values_in_force(loaded, loaded, key=key, everything=everything)
    return {each.key: each for each in found}


@pytest.mark.parametrize("everything", [False, True])
def test_what_is_told_is_a_file_that_says_the_same(tmp_path: Path, everything: bool) -> None:  # noqa: FBT001 - a case
    loaded = load(tmp_path, FULL)
    told = as_toml(values_in_force(loaded, loaded, key=None, everything=everything))
    assert load(tmp_path, told).config == loaded.config


def test_the_whole_of_the_defaults_is_a_file_of_the_defaults(tmp_path: Path) -> None:
    loaded = load(tmp_path, "")
    assert values(loaded) == {}
    told = as_toml(values_in_force(loaded, loaded, key=None, everything=True))
    assert "leases.grace" in told
    assert load(tmp_path, told).config == Config()


def test_each_value_says_where_it_was_set_and_what_it_is_otherwise(tmp_path: Path) -> None:
    loaded = load(tmp_path, "[leases]\ngrace = 7\n", SUPEREZIO__LEASES__QUEUE="3")
    found = values(loaded, "leases", everything=True)
    grace, queue, maximum = (found[f"leases.{key}"] for key in ("grace", "queue", "maximum"))
    assert (grace.value, grace.default, grace.live) == ("7s", "5s", False)
    file = str(tmp_path / "superezio.toml")
    assert grace.origin == wire.ConfigOrigin(place="file", name=file, line=2)
    assert queue.origin == wire.ConfigOrigin(
        place="environment", name="SUPEREZIO__LEASES__QUEUE", line=None
    )
    assert maximum.origin == wire.ConfigOrigin(place="default", name=None, line=None)


def test_what_one_gpu_takes_from_the_common_ladder_was_set_there(tmp_path: Path) -> None:
    found = values(load(tmp_path, FULL), "gpu.override.GPU-1")
    assert {key.rpartition(".")[2]: each.origin.line for key, each in found.items()} == {
        "reserve": 11,
        "warm_enter_c": 12,
        "hot_enter_c": 9,
    }


def test_a_key_that_is_named_is_told_also_if_nobody_has_set_it(tmp_path: Path) -> None:
    loaded = load(tmp_path, FULL)
    assert list(values(loaded, "leases.queue")) == ["leases.queue"]
    assert list(values(loaded, "limits")) == []
    assert len(values(loaded, 'breaker.shared."open/ai.x"')) == 3
    assert len(values(loaded, "limit.shared.openai")) == 3


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("leases.grce", "no such key; did you mean grace?"),
        ("lease", "no such key; did you mean leases?"),
        ("leases.grace.x", "no such key: it ends before"),
        ("a = 1\nb", "no such key"),
        ("# nothing", "no such key"),
        ("leases." + "[" * 400, "no such key"),
        ('leases."\\q"', "no such key"),
        ("leases.", "no such key"),
        ("x" * 600, "no such key: it is too long for one"),
    ],
)
def test_a_key_that_there_is_not_is_refused(tmp_path: Path, key: str, said: str) -> None:
    with pytest.raises(NoSuchKeyError, match=f"^{said.replace('?', '[?]')}"):
        values(load(tmp_path, ""), key)


def test_what_waits_for_a_restart_is_told_as_it_was_at_the_start(tmp_path: Path) -> None:
    started = load(tmp_path, '[leases]\ngrace = 1\n[logging]\nlevel = "debug"\n')
    now = load(tmp_path, '[logging]\nlevel = "error"\n[leases]\nqueue = 9\n')
    told = {
        each.key: each.value for each in values_in_force(started, now, key=None, everything=False)
    }
    assert told == {"leases.grace": "1s", "logging.level": "error"}


def test_a_change_says_old_new_and_what_applies_it(tmp_path: Path) -> None:
    started = load(tmp_path, '[leases]\ngrace = 1\n[logging]\nlevel = "debug"\n')
    disk = load(tmp_path, "[leases]\ngrace = 2\n[limits]\nconnections = 9\n")
    changes = changes_on_disk(started, started, disk)
    assert [(each.key, each.old, each.new, each.live, each.origin.line) for each in changes] == [
        ("limits.connections", 10_000, 9, True, 4),
        ("leases.grace", "1s", "2s", False, 2),
        ("logging.level", "debug", "info", True, None),
    ]


def test_a_table_that_comes_or_goes_is_told_by_what_is_set_in_it(tmp_path: Path) -> None:
    none = load(tmp_path, "")
    one = load(tmp_path, '[cache.shared.e]\neveryone = true\nsize = "1MiB"\n')
    came = changes_on_disk(none, none, one)
    assert [(each.key, each.old, each.new) for each in came] == [
        ("cache.shared.e.everyone", None, True),
        ("cache.shared.e.size", None, "1MiB"),
    ]
    gone = changes_on_disk(one, one, none)
    assert [(each.key, each.old, each.new) for each in gone] == [
        ("cache.shared.e.everyone", True, None),
        ("cache.shared.e.size", "1MiB", None),
    ]


def test_a_change_that_waits_for_a_restart_is_still_one_after_a_reload(tmp_path: Path) -> None:
    started = load(tmp_path, "[leases]\ngrace = 1\n")
    now = load(tmp_path, "[leases]\ngrace = 2\n")
    (change,) = changes_on_disk(started, now, now)
    assert (change.old, change.new, change.live) == ("1s", "2s", False)
    assert changes_on_disk(started, now, started) == []


@given(st.floats(0, LONGEST_S, allow_nan=False))
def test_any_duration_is_written_so_that_it_is_read_as_it_was(seconds: float) -> None:
    assert read_value("grace_s", float, written("grace_s", seconds)) == seconds


@given(st.integers(0, 1 << 60))
def test_any_size_is_written_so_that_it_is_read_as_it_was(size: int) -> None:
    assert read_value("vram_bytes", int, written("vram_bytes", size)) == size
