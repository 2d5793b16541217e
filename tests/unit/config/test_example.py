"""The documented configuration file is made from the schema and says the truth."""

from __future__ import annotations

import re
from pathlib import Path

from supereziod.config import Config, Source
from supereziod.config.changes import flatten
from supereziod.config.example import render_example

_SHIPPED = Path(__file__).parents[3] / "docs" / "superezio.toml"


def test_the_shipped_file_is_up_to_date() -> None:
    assert _SHIPPED.read_text() == render_example()


def test_the_shipped_file_changes_nothing() -> None:
    assert Source(file=_SHIPPED).load().config == Config()


def test_the_defaults_it_shows_are_the_defaults(tmp_path: Path) -> None:
    shown = re.sub(r"^#(\w+ = .)", r"\1", render_example(), flags=re.MULTILINE)
    file = tmp_path / "superezio.toml"
    file.write_text(shown)
    assert Source(file=file).load().config == Config()


def test_every_key_is_documented() -> None:
    text = render_example()
    for key, _ in flatten(Config()):
        assert f"#{key.rpartition('.')[2]} =" in text, key
    assert "(live)" in text


def test_a_key_without_a_default_says_what_is_to_be_written() -> None:
    text = " ".join(render_example().replace("\n# ", " ").split())
    assert 'held to none. (live) Not set by default (a size, such as "16GiB"). #vram' in text
    assert (
        "each user may have at a time. (live) Not set by default (a whole number). #leases" in text
    )


def test_the_tables_it_shows_can_be_used(tmp_path: Path) -> None:
    shown = []
    for block in render_example().split("\n\n"):
        _, table, rest = block.partition("\n# [")
        shown.append((table + rest).replace("\n# ", "\n").replace("\n#\n", "\n"))
    file = tmp_path / "superezio.toml"
    file.write_text("\n".join(shown))
    config = Source(file=file).load().config
    quota = config.leases.quota
    assert (quota.user["alice"].vram_bytes, quota.user["alice"].leases) == (16 << 30, 4)
    assert quota.group["students"].vram_bytes == 24 << 30
    assert len(config.gpu.reserve_by_gpu) == 1
    assert config.breaker.shared["openai"].groups == ["ai"]
    assert config.cache.shared["embeddings"].groups == ["ai"]
