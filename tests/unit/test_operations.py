"""docs/operations.md has what each condition means, and its commands are commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from markdown_blocks import commands
from superezioctl.arguments import COMMON, Reader
from superezioctl.catalogue import CATALOGUE
from superezioctl.command_line import load
from supereziod.gpu.hardware import Snapshot
from supereziod.health.check import Check
from supereziod.health.checks import Observed, declared_checks

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
_TEXT = PAGE.read_text()
_CONDITIONS = _TEXT.split("## What a condition means\n")[1].split("\n## ")[0]
_SECTIONS = dict(
    re.findall(r"^### (\S+)\n\n(.*?)(?=^### |\Z)", _CONDITIONS, re.MULTILINE | re.DOTALL)
)


def _no_snapshot() -> Snapshot:
    raise LookupError("nothing is observed here")


_CHECKS = declared_checks(Observed(snapshot=_no_snapshot))


def test_each_condition_has_its_section_in_the_order_of_the_checks_and_no_other() -> None:
    assert _CONDITIONS.count("\n### ") == len(_SECTIONS)
    assert list(_SECTIONS) == [each.code for each in _CHECKS]


@pytest.mark.parametrize("check", _CHECKS, ids=lambda check: check.code)
def test_a_section_begins_with_the_severity_and_says_what_makes_unhealthy(check: Check) -> None:
    severity = {"info": "Info", "warning": "Warning"}[check.severity]
    first = _SECTIONS[check.code].split("\n\n")[0]
    assert first.startswith((f"{severity}. ", f"{severity}, and unhealthy "))
    assert ("unhealthy" in first) == (check.unhealthy_after_s is not None)


@pytest.mark.parametrize("check", _CHECKS, ids=lambda check: check.code)
def test_a_section_has_the_command_that_the_condition_names(check: Check) -> None:
    for command in re.findall(r"`(superezioctl [^`]+)`", check.action):
        # The page has a card in place of the word.
        written = re.escape(command).replace("GPU", r"\d+")
        assert re.search(written, _SECTIONS[check.code])


def _written() -> list[str]:
    inline = re.findall(r"`(superezioctl [^`]+)`", _TEXT)
    blocks = [*commands(PAGE, "$"), *commands(PAGE, "#")]
    return [*inline, *(each for each in blocks if each.startswith("superezioctl "))]


@pytest.mark.parametrize("command", sorted(set(_written())))
def test_a_command_that_is_shown_can_be_read(command: str) -> None:
    words = shlex.split(command)[1:]
    name = " ".join(words[:2]) if " ".join(words[:2]) in CATALOGUE else words[0]
    declared = load(name)
    reader = Reader((*declared.options, *COMMON))
    reader.read_all(words[len(name.split()) :], declared.positionals)
