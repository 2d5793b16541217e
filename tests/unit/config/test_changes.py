"""What a reload may change, and what it says of the rest."""

from __future__ import annotations

from msgspec.structs import replace

from supereziod.config import Config, diff
from supereziod.config.cache import Cache, SharedNamespace
from supereziod.config.changes import LIVE, flatten, is_live
from supereziod.config.gpu import GpuOverride
from supereziod.config.leases import Quota, Quotas
from supereziod.config.limits_shared import LimitScope, SharedLimit


def test_nothing_changed() -> None:
    changes = diff(Config(), Config())
    assert not changes
    assert (changes.live, changes.restart) == ([], [])


def test_live_keys_are_told_from_those_that_need_a_restart() -> None:
    old = Config()
    new = replace(
        old,
        logging=replace(old.logging, level="debug", format="json"),
        leases=replace(old.leases, grace_s=1.0, max_priority_user=1),
        gpu=replace(old.gpu, driver="simulated"),
    )
    changes = diff(old, new)
    assert changes
    assert changes.live == ["leases.priority_maximum_user", "logging.level"]
    assert changes.restart == ["gpu.driver", "leases.grace", "logging.format"]


def test_an_override_that_comes_or_goes_is_a_change() -> None:
    old = Config()
    new = replace(old, gpu=replace(old.gpu, override={"GPU-1": GpuOverride(reserve_bytes=1)}))
    assert diff(old, new).restart == ["gpu.override.GPU-1"]
    assert diff(new, old).restart == diff(old, new).restart


def test_a_quota_that_comes_or_goes_is_in_force_at_once() -> None:
    old = Config()
    quota = Quotas(user={"alice": Quota(vram_bytes=1)}, default=Quota(leases=2))
    new = replace(old, leases=replace(old.leases, quota=quota))
    for changes in (diff(old, new), diff(new, old)):
        assert changes.restart == []
        assert changes.live == [
            "leases.quota.default.leases",
            "leases.quota.user.alice",
        ]


def test_a_table_that_comes_or_goes_is_told_by_its_name_and_one_that_stays_by_its_keys() -> None:
    none = Config()
    one = replace(none, limit=replace(none.limit, shared={"openai": SharedLimit(everyone=True)}))
    host = SharedLimit(host=LimitScope(concurrency=1))
    more = replace(none, limit=replace(none.limit, shared={"openai": host, "other": host}))
    assert diff(none, one).live == diff(one, none).live == ["limit.shared.openai"]
    assert diff(one, more).live == [
        "limit.shared.openai.everyone",
        "limit.shared.openai.host",
        "limit.shared.other",
    ]
    two = replace(host, host=LimitScope(concurrency=2))
    changed = replace(none, limit=replace(none.limit, shared={"openai": two, "other": host}))
    assert diff(more, changed).live == ["limit.shared.openai.host.concurrency"]


def test_every_rule_names_a_key_that_exists() -> None:
    shared = Config(
        cache=Cache(shared={"embeddings": SharedNamespace()}),
        limit=replace(Config().limit, shared={"openai": SharedLimit()}),
    )
    keys = [key for key, _ in flatten(shared)]
    for rule in LIVE:
        assert any(key.startswith(rule) if rule.endswith(".") else key == rule for key in keys)
    assert not is_live("gpu.driver")
    assert not is_live("limit.keys_of_another_kind"), "a key is no section"
