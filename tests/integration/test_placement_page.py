"""docs/placement.md: its commands run, its quotas are read, and it names every policy."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from markdown_blocks import blocks, commands
from page_shell import installed_in, type_from_the_top
from superezio.wire import Policy
from supereziod.config import Source
from supereziod.config.leases import Quota

PAGE = Path(__file__).parents[2] / "docs" / "placement.md"


@pytest.mark.timeout(60)
def test_the_commands_run_from_the_top(tmp_path: Path) -> None:
    printed = type_from_the_top(
        commands(PAGE, "$ "),
        directory=tmp_path,
        environment=installed_in(tmp_path),
        within_s=50,
    )
    for said in (
        "grant: 8.0 GiB on GPU 0",
        "yes, chosen (best_fit: ",
        "no, its compute capability is 7.5, and the request needs 8.0",
        "llama-server --tensor-split ",
        "split: --tensor-split ",
    ):
        assert said in printed


def test_the_quotas_are_read(tmp_path: Path) -> None:
    (text,) = blocks(PAGE, "toml")
    file = tmp_path / "superezio.toml"
    file.write_text(text)
    quota = Source(file=file).load().config.leases.quota
    assert quota.default == Quota(leases=4)
    assert quota.user == {"alice": Quota(vram_bytes=16 << 30)}
    assert quota.group == {"students": Quota(vram_bytes=24 << 30)}


def test_every_policy_is_on_the_page() -> None:
    assert {name for name in get_args(Policy) if f"| `{name}` |" not in PAGE.read_text()} == set()
