"""docs/rpc.md says what the code says: methods, types, examples, events and codes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from superezio import wire
from superezio.errors import BY_KIND
from supereziod.rpc.method import Method
from supereziod.rpc.methods import METHODS
from supereziod.rpc.openrpc import errors_of
from supereziod.rpc.reference import render_reference
from supereziod.rpc.vocabulary import ERROR_DATA, EVENT_TYPES, REASON_CODES

PROJECT = Path(__file__).parents[3]
SOURCES = PROJECT / "daemon" / "supereziod"
EXAMPLES = msgspec.json.decode(
    (PROJECT / "docs" / "rpc-examples.json").read_bytes(), type=dict[str, dict[str, Any]]
)
EVERY_METHOD = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


def test_the_shipped_page_is_up_to_date() -> None:
    shipped = (PROJECT / "docs" / "rpc.md").read_text()
    assert shipped == render_reference(METHODS, EXAMPLES), "`make docs` brings it up to date"


@EVERY_METHOD
def test_every_method_has_an_example_that_fits_its_types(method: Method) -> None:
    request, answer = EXAMPLES[method.name]["request"], EXAMPLES[method.name]["answer"]
    assert request["method"] == method.name
    msgspec.convert(request.get("params", {}), method.params)
    assert answer["id"] == request["id"]
    if method.result != dict[str, Any]:
        assert set(answer["result"]) == set(method.result.__struct_fields__)
        msgspec.convert(answer["result"], method.result)


def test_the_other_examples_are_an_error_and_an_event() -> None:
    error = EXAMPLES["no_capacity"]["answer"]["error"]
    assert error["code"] == BY_KIND[error["data"]["kind"]].code
    assert set(ERROR_DATA["no_capacity"]) & set(error["data"])
    notification = EXAMPLES["event"]["notification"]
    msgspec.convert(notification["params"], wire.EventNotification)
    assert notification["method"] == "event"


def test_no_example_tells_of_the_machine_it_was_made_on() -> None:
    text = (PROJECT / "docs" / "rpc.md").read_text()
    assert str(PROJECT) not in text
    assert "/tmp" not in text


def test_no_two_headings_are_alike() -> None:
    headings = re.findall(r"^#+ (.*)$", (PROJECT / "docs" / "rpc.md").read_text(), re.MULTILINE)
    assert len(headings) == len(set(headings))


@EVERY_METHOD
def test_the_kinds_of_errors_a_method_names_exist(method: Method) -> None:
    kinds = errors_of(method)
    assert set(kinds) <= set(BY_KIND)
    assert len(kinds) == len(set(kinds))


def test_the_members_of_errors_are_told_for_kinds_that_exist() -> None:
    assert set(ERROR_DATA) <= set(BY_KIND)


def test_every_event_that_is_told_is_in_the_table() -> None:
    assert set(told_events()) == set(EVENT_TYPES)
    assert {name for name in EVENT_TYPES if name.startswith("lease.")} >= {
        "lease.granted",
        "lease.released",
    }


def test_every_code_that_keeps_leases_off_a_gpu_is_in_the_table() -> None:
    blocks = {
        keyword.value.value
        for call in calls()
        if isinstance(call.func, ast.Name) and call.func.id == "Block"
        for keyword in call.keywords
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
    }
    from_state = {*get_args(wire.GpuStatus), "hot", "critical"} - {"ok"}
    assert blocks | from_state <= set(REASON_CODES)


def test_every_code_that_a_gpu_is_refused_with_is_in_the_table() -> None:
    tree = ast.parse((SOURCES / "leases" / "refusals.py").read_text())
    given = {
        node.value.elts[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Return)
        and isinstance(node.value, ast.Tuple)
        and isinstance(node.value.elts[0], ast.Constant)
    }
    assert "capability_too_low" in given
    assert given <= set(REASON_CODES)


def test_every_code_in_the_table_is_given_by_the_code() -> None:
    literals = {
        node.value
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(REASON_CODES) <= literals | set(get_args(wire.GpuStatus))


def told_events() -> Iterator[str]:
    """The types of all events that the sources emit."""
    for call in calls():
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if name == "emit" and call.args:
            yield from types_in(call.args[0])
        elif name == "_tell" and len(call.args) > 1:
            yield from (f"lease.{what}" for what in types_in(call.args[1]))
        elif len(call.args) > 1 and getattr(call.args[0], "attr", "") == "emit":
            yield from types_in(call.args[1])  # a partial


def types_in(expression: ast.expr) -> Iterator[str]:
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        yield expression.value
    elif isinstance(expression, ast.IfExp):
        yield from types_in(expression.body)
        yield from types_in(expression.orelse)


def calls() -> Iterator[ast.Call]:
    for tree in trees():
        yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def trees() -> Iterator[ast.Module]:
    for file in sorted(SOURCES.rglob("*.py")):
        if file.name != "vocabulary.py":
            yield ast.parse(file.read_text())
