"""docs/simulation.md: its scenario is read, its commands run, and it names all there is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from markdown_blocks import blocks, commands
from supereziod.gpu.control import CardControl
from supereziod.gpu.profiles import PROFILES
from supereziod.gpu.scenario import AnyHappening, CardSection, parse_scenario

PAGE = Path(__file__).parents[2] / "docs" / "simulation.md"
TEXT = PAGE.read_text()
(SCENARIO,) = blocks(PAGE, "toml")
#: Ends what the page started, however far it came; the daemon itself ends by the page's last line.
PREAMBLE = "set -e\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n"


def test_the_scenario_says_what_the_page_says_it_does() -> None:
    scenario = parse_scenario(SCENARIO)
    assert [card.profile for card in scenario.cards] == ["RTX 4090", "RTX 3060"]
    kinds = [msgspec.to_builtins(event)["kind"] for event in scenario.events]
    assert kinds == ["foreign", "heat", "lost"]


@pytest.mark.timeout(90)
def test_the_commands_run_from_the_top(tmp_path: Path) -> None:
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    script = "\n".join([*commands(PAGE, "$ "), 'wait "$daemon"'])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SUPEREZIO_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["TMPDIR"] = str(tmp_path)
    done = subprocess.run(
        ["bash", "-c", PREAMBLE + script],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    for said in ("the configuration is good", "RTX 4090", "holds 3.0 GiB on GPU", "exit code 1"):
        assert said in done.stdout


def test_every_profile_kind_and_key_is_on_the_page() -> None:
    names = set(PROFILES)
    for section in (CardSection, *get_args(AnyHappening)):
        names |= {field.encode_name for field in msgspec.structs.fields(section)}
    names |= {str(kind.__struct_config__.tag) for kind in get_args(AnyHappening)}
    assert {name for name in names if f"`{name}`" not in TEXT} == set()
    forced = {field.name for field in msgspec.structs.fields(CardControl)}
    assert {name for name in forced if f"{name}=" not in TEXT} == set()
