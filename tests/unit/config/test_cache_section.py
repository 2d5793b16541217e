"""The section of the cache: what is guaranteed is there, and who shares what can change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from superezio.resilience import cache_limits
from supereziod import settings
from supereziod.config import Config, ConfigError, Source, diff
from supereziod.config.cache import Cache, SharedNamespace
from supereziod.resilience.sharing import Audience


def test_the_defaults_are_bounds_that_the_cache_takes() -> None:
    rules = settings.cache_rules(Cache())
    assert rules.limits.max_bytes == 256 << 20
    assert rules.limits.owner == cache_limits.Quota(128 << 20, 100_000, 8 << 20, 6000)
    assert rules.limits.promised == (64 << 20, 48_000)
    assert rules.max_ttl_ns == 30 * 86_400 * 10**9
    assert settings.shared_namespaces(Cache()) == {}


def test_a_shared_namespace_has_its_audience_and_its_quota() -> None:
    mine = str(os.getuid())
    shared = SharedNamespace(users=[mine], max_bytes=10, max_entries=5, guaranteed_bytes=4)
    (found,) = settings.shared_namespaces(Cache(shared={"n": shared})).values()
    assert found.audience == Audience(uids=frozenset({os.getuid()}))
    assert found.quota == cache_limits.Quota(10, 5, 4, 0)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('[cache]\nsize = "1MiB"\n', r"guaranteed_uids users .* more than size"),
        ("[cache]\nentries = 100\n", r"guaranteed_uids users .* more than entries.*: lower"),
        ('[cache]\nguaranteed_per_uid = "1GiB"\n', r"guaranteed_per_uid cannot be"),
        (
            '[cache.shared.n]\nsize = "1MiB"\nguaranteed = "2MiB"\n',
            r"guaranteed cannot be 2097152, which is more than 1048576",
        ),
        (
            '[cache.shared.n]\nsize = "1GiB"\nguaranteed = "200MiB"\n',
            r"to the shared namespaces is .* more than size",
        ),
        ("[cache]\nfills = 0\n", "fills"),
    ],
)
def test_parts_that_are_more_than_the_whole_are_refused_with_file_and_key(
    tmp_path: Path, text: str, what: str
) -> None:
    with pytest.raises(ConfigError, match=what):
        _load(tmp_path, text)


def test_the_documented_words_are_understood(tmp_path: Path) -> None:
    text = (
        '[cache]\nsize = "512MiB"\nvalue_size = "64KiB"\nttl_maximum = "1d"\n'
        '[cache.shared.embeddings]\ngroups = ["ai"]\nsize = "128MiB"\nguaranteed = "32MiB"\n'
        "guaranteed_entries = 25000\n"
    )
    cache = _load(tmp_path, text).cache
    assert (cache.max_bytes, cache.max_value_bytes, cache.max_ttl_s) == (512 << 20, 65536, 86400.0)
    shared = cache.shared["embeddings"]
    assert (shared.groups, shared.guaranteed_bytes) == (["ai"], 32 << 20)


def test_who_shares_and_how_much_is_live_and_the_rest_is_not() -> None:
    old = Config()
    new = replace(
        old,
        cache=replace(old.cache, max_bytes=1 << 30, shared={"n": SharedNamespace(everyone=True)}),
    )
    changes = diff(old, new)
    assert changes.restart == ["cache.size"]
    assert changes.live == ["cache.shared.n"]
    larger = SharedNamespace(everyone=True, max_bytes=1 << 20)
    later = replace(new, cache=replace(new.cache, shared={"n": larger}))
    assert diff(new, later).live == ["cache.shared.n.size"]
    assert diff(new, later).restart == []


def _load(directory: Path, text: str) -> Config:
    file = directory / "superezio.toml"
    file.write_text(text)
    return Source(file=file).load().config
