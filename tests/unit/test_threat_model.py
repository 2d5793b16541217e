"""Each claim of defence has a test, and each test that is named is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "threat-model.md").read_text()
_DEFENDED = PAGE.split("## What is defended\n")[1].split("\n## What is not defended")[0]
_NAMED = re.compile(r"`((?:unit|integration|system)/\S+?\.py)::(test_\w+)`")


@cache
def names_in(path: str) -> set[str]:
    module = ast.parse((TESTS / path).read_text())
    return {
        node.name
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize(("path", "name"), sorted(set(_NAMED.findall(PAGE))))
def test_a_test_that_is_named_is_there(path: str, name: str) -> None:
    assert name in names_in(path)


def claims() -> list[str]:
    return re.findall(r"^- (.*?)(?=^- |^#|^\*\*|\Z)", _DEFENDED, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.split(":")[0][:40])
def test_a_claim_of_defence_names_its_test(claim: str) -> None:
    assert _NAMED.search(claim), claim


def test_there_are_claims_and_all_that_stands_under_them_is_one() -> None:
    assert len(claims()) > 20
    assert _DEFENDED.count("::test_") == len(_NAMED.findall(_DEFENDED))
