"""docs/simulation.md: its scenario is read, its commands run, and it names all there is."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from markdown_blocks import blocks, commands
from page_shell import installed_in, type_from_the_top
from supereziod.gpu.control import CardControl
from supereziod.gpu.profiles import PROFILES
from supereziod.gpu.scenario import AnyHappening, CardSection, parse_scenario

PAGE = Path(__file__).parents[2] / "docs" / "simulation.md"
TEXT = PAGE.read_text()
(SCENARIO,) = blocks(PAGE, "toml")


def test_the_scenario_says_what_the_page_says_it_does() -> None:
    scenario = parse_scenario(SCENARIO)
    assert [card.profile for card in scenario.cards] == ["RTX 4090", "RTX 3060"]
    kinds = [msgspec.to_builtins(event)["kind"] for event in scenario.events]
    assert kinds == ["foreign", "heat", "lost"]


@pytest.mark.timeout(90)
def test_the_commands_run_from_the_top(tmp_path: Path) -> None:
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    printed = type_from_the_top(
        commands(PAGE, "$ "),
        directory=tmp_path,
        environment=installed_in(tmp_path),
        within_s=80,
    )
    for said in ("the configuration is good", "RTX 4090", "holds 3.0 GiB on GPU", "exit code 1"):
        assert said in printed


def test_every_profile_kind_and_key_is_on_the_page() -> None:
    names = set(PROFILES)
    for section in (CardSection, *get_args(AnyHappening)):
        names |= {field.encode_name for field in msgspec.structs.fields(section)}
    names |= {str(kind.__struct_config__.tag) for kind in get_args(AnyHappening)}
    assert {name for name in names if f"`{name}`" not in TEXT} == set()
    forced = {field.name for field in msgspec.structs.fields(CardControl)}
    assert {name for name in forced if f"{name}=" not in TEXT} == set()
