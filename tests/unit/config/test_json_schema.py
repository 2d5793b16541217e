"""The schema for editors: it accepts what the daemon accepts, and refuses what a schema can."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from superezio.toml_text import dotted
from supereziod.config import ConfigError, Source
from supereziod.config.example import render_example
from supereziod.config.json_schema import json_schema
from unit.config.test_in_force import FULL

SHIPPED = Path(__file__).parents[3] / "docs" / "superezio.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def is_accepted(text: str) -> bool:
    return VALIDATOR.is_valid(tomllib.loads(text))


def is_loaded(directory: Path, text: str) -> bool:
    file = directory / "superezio.toml"
    file.write_text(text)
    try:
        Source(file=file).load()
    except ConfigError:
        return False
    return True


def test_the_shipped_schema_is_up_to_date_and_one_of_its_dialect() -> None:
    shipped = json.loads(SHIPPED.read_text())
    assert shipped == json_schema()
    jsonschema.Draft202012Validator.check_schema(shipped)


def test_the_example_names_where_it_is_installed() -> None:
    first = render_example().splitlines()[0]
    assert first == "#:schema file:///usr/share/superezio/superezio.schema.json"


def test_all_keys_of_the_example_are_accepted_with_their_defaults() -> None:
    shown = re.sub(r"^#(\w+ = .)", r"\1", render_example(), flags=re.MULTILINE)
    VALIDATOR.validate(tomllib.loads(shown))


@pytest.mark.parametrize(
    "text",
    [
        "",
        FULL,
        "[leases]\ngrace = 0\nqueue = 0\n",
        '[leases]\ngrace = "1m30s"\nwait_maximum = " 90 "\n',
        "[leases]\ngrace = 0.25\n",
        '[gpu]\nreserve = "1.5g"\n[gpu.override.x]\nreserve = 5\n',
        '[gpu]\ndriver = "simulated"\nscenario = "x.toml"\n',
        '[breaker]\nwindow = "10s"\n',
        '[limit.shared.x.group]\nmoney = "1_000.5 / 1h"\nmoney_burst = "2.50"\ntokens = "1 /1m"\n',
        "[gpu.fitness]\nignored_xids = [13, 31]\n",
    ],
)
def test_what_the_daemon_accepts_is_accepted(tmp_path: Path, text: str) -> None:
    assert is_loaded(tmp_path, text)
    VALIDATOR.validate(tomllib.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        "[leases]\ngrce = 1",
        "[lease]\ngrace = 1",
        "leases = 3",
        '[leases]\ngrace = "soon"',
        '[leases]\ngrace = "1h 30m"',
        "[leases]\ngrace = true",
        "[leases]\ngrace = -1",
        "[leases]\nqueue = -1",
        "[leases]\nqueue = 1.5",
        '[leases]\nqueue = "5"',
        '[gpu]\nreserve = "much"',
        "[gpu]\nreserve = -1",
        "[gpu]\nsample_period = 0.01",
        "[recorder]\nsize = 1024",
        "[limit]\nwait_maximum = 0",
        '[logging]\nlevel = "loud"',
        "[access]\nadmins = [1]",
        '[access]\nadmins = "alice"',
        '[gpu.fitness]\nfatal_xids = ["79"]',
        "[gpu.override.x]\nreserv = 1",
        "[gpu.override.x.thermal]\nhot_enter_c = 1.5",
        "[leases.quota.user.bob]\nlease = 1",
        "[breaker.openai]\nopen = 5",
        '[limit.shared.x]\nrequests = "5/1m"',
        "[limit.shared.x.host]\nrequests = 500",
        '[limit.shared.x.host]\nrequests = "500"',
        '[limit.shared.x.host]\nmoney_per_day = "5,00"',
        "[cache.shared.x]\nentries = -1",
    ],
)
def test_what_is_refused_is_refused_by_the_daemon_too(tmp_path: Path, text: str) -> None:
    assert not is_loaded(tmp_path, text)
    assert not is_accepted(text)


def test_every_key_has_a_description_that_says_how_a_change_is_applied() -> None:
    def keys(node: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for each in node["properties"].values():
            inner = each.get("additionalProperties") or each
            found += keys(inner) if inner.get("type") == "object" else [each]
        return found

    all_keys = keys(json_schema())
    assert len(all_keys) > 150
    assert len({each["description"] for each in all_keys}) > 130
    for each in all_keys:
        assert each["description"].endswith(("(a reload applies it)", "(needs a restart)"))


def _kinds() -> dict[str, str]:
    """Return a key of each kind that there is, by what its schema says besides words."""
    kinds: dict[str, str] = {}
    nodes: list[tuple[tuple[str, ...], Any]] = [((), json_schema())]
    while nodes:
        path, node = nodes.pop()
        if node.get("type") != "object":
            words = {"description", "default", "examples"}
            kinds[json.dumps({name: node[name] for name in node if name not in words})] = dotted(
                path
            )
        named = node.get("additionalProperties")
        nodes += [((*path, "chosen"), named)] if named else []
        nodes += [((*path, key), each) for key, each in node.get("properties", {}).items()]
    return kinds


#: What somebody may write by mistake, or by a rule that another program has.
ODD_VALUES = (
    '0 1 -1 1.5 1e3 true "" "1" "1s" "1h1s" "8GiB" "8" "\\u00205" "0s" "0B" "5S" ".5s" "1.s" "1_0"'
    ' "1bi" "1kib" "\\u0665s" "\\u0665GiB" [] [1] ["a"] [true] {} {x=1} 2020-01-01 1e300 "36501d"'
    f' {1 << 63} "info" "5/1m" "1.50/1d" "\\u0665/1m"'
).split(" ")


@pytest.mark.parametrize("key", sorted(_kinds().values()))
def test_no_key_takes_what_the_schema_refuses(tmp_path: Path, key: str) -> None:
    for value in ODD_VALUES:
        text = f"{key} = {value}\n"
        assert is_accepted(text) or not is_loaded(tmp_path, text), text
