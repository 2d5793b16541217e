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
