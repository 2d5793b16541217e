"""Finding the line of each key, in TOML of every shape."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from superezio.toml_lines import KeyPath, key_lines

_AWKWARD = '''\
# a comment with = and [brackets]
top = 1

[table] # another
plain = "text with # and ] and ="
"quoted key" = 'literal \\'
long = """
[not.a.table]
fake = 1
escaped \\""" still
"""
after_long = \'\'\'
fake = 2
\'\'\'
array = [ # comment, with "quote
    "a]",
    { inline = 1, deeper = { key = 2 } },
    [1, 2],
]
inline = { a = 1, "b c" = [1, 2], d.e = 3 }
dotted.key.path = 2026-11-22T21:00:00Z
negative = -1.5e3

[other."GPU-1.x".thermal]
last = true
[[many]]
one = 1
[[many]]
one = 2'''


def test_every_shape_of_key_is_found_on_its_line() -> None:
    lines = key_lines(_AWKWARD)
    rows = _AWKWARD.split("\n")
    expected = {
        ("top",): "top = 1",
        ("table",): "[table] # another",
        ("table", "plain"): 'plain = "text',
        ("table", "quoted key"): '"quoted key"',
        ("table", "long"): 'long = """',
        ("table", "after_long"): "after_long",
        ("table", "array"): "array",
        ("table", "array", "inline"): "    { inline",
        ("table", "array", "deeper", "key"): "    { inline",
        ("table", "inline", "b c"): "inline = {",
        ("table", "inline", "d", "e"): "inline = {",
        ("table", "dotted", "key", "path"): "dotted.key.path",
        ("table", "negative"): "negative",
        ("other", "GPU-1.x", "thermal", "last"): "last = true",
        ("many", "one"): "one = 1",
    }
    for path, beginning in expected.items():
        assert rows[lines[path] - 1].startswith(beginning), path
    assert not any("fake" in path or "a]" in path for path in lines)


_bare = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)
_scalar = st.one_of(
    st.integers(-(2**40), 2**40).map(str),
    st.booleans().map(lambda b: str(b).lower()),
    st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), max_size=12).map(
        lambda t: '"' + t.replace("\\", "\\\\").replace('"', '\\"') + '"'
    ),
    st.just('"""\nx = [\n"""'),
    st.just("[\n1, # ]\n2]"),
    st.just("{ a = 1, b = { c = 'x' } }"),
)


@given(st.dictionaries(_bare, st.dictionaries(_bare, _scalar, max_size=4), max_size=4))
def test_every_key_that_tomllib_sees_has_a_line(tables: dict[str, dict[str, str]]) -> None:
    text, expected = "", {}
    for table, keys in tables.items():
        text += f"[{table}]\n"
        for key, value in keys.items():
            expected[table, key] = text.count("\n") + 1
            text += f"{key} = {value}\n"
    lines = key_lines(text)
    assert {path: lines[path] for path in expected} == expected
    assert {path for path in lines if len(path) <= 2} == set(_paths(tomllib.loads(text)))


def _paths(table: dict[str, Any]) -> list[KeyPath]:
    inner = [(name, key) for name, keys in table.items() for key in keys]
    return [*((name,) for name in table), *inner]
