"""Scenario files: what they may say, and errors that name file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from supereziod.gpu.scenario import (
    DEFAULT,
    FOREVER_NS,
    Foreign,
    Hang,
    Heat,
    ScenarioError,
    Temperature,
    load_scenario,
    parse_scenario,
)

SECOND = 1_000_000_000


def test_an_empty_scenario_is_a_3060_and_a_2060() -> None:
    scenario = parse_scenario("")
    assert [card.profile for card in scenario.cards] == ["RTX 3060", "RTX 2060"]
    assert scenario == DEFAULT


def test_a_full_scenario_is_read() -> None:
    scenario = parse_scenario(
        """
        ambient_c = 30
        vram_return_delay = "2s"
        [[gpu]]
        profile = "rtx4090"
        vram = "20GiB"
        [[gpu]]
        profile = "A100 80GB"
        mig = true
        [[event]]
        at = "5s"
        gpu = 0
        kind = "temperature"
        celsius = 95
        for = "30s"
        [[event]]
        at = "1m"
        gpu = 1
        kind = "heat"
        celsius = 90.5
        over = "10s"
        [[event]]
        at = "0s"
        gpu = 0
        kind = "foreign"
        vram = "10GiB"
        [[event]]
        at = "1s"
        gpu = 1
        kind = "hang"
        """
    )
    assert scenario.ambient_c == 30
    assert scenario.vram_return_delay_s == 2
    assert scenario.cards[0].vram_bytes == 20 << 30
    assert scenario.cards[1].vram_bytes is None
    temperature, heat, foreign, hang = scenario.events
    assert isinstance(temperature, Temperature)
    assert (temperature.start_ns, temperature.end_ns) == (5 * SECOND, 35 * SECOND)
    assert isinstance(heat, Heat)
    assert isinstance(foreign, Foreign)
    assert isinstance(hang, Hang)
    assert hang.end_ns == SECOND + FOREVER_NS


EVENT = '[[gpu]]\nprofile = "T4"\n\n[[event]]\nat = "1s"\ngpu = 0\nkind = "hang"\n\n[[event]]\n'


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('ambient_c = 20\n[[gpu]]\nprofile = "Voodoo"\n', 3, ["profile", "Voodoo", "RTX 3060"]),
        ('[[gpu]]\nprofile = "T4"\nvram = "lots"\n', 3, ["vram", "lots"]),
        ('[[gpu]]\nprofile = "T4"\ncompute_mode = "shared"\n', 3, ["compute_mode"]),
        (EVENT + 'at = "1s"\ngpu = 0\nkind = "burn"\n', 12, ["kind", "burn", "number 2"]),
        (EVENT + 'at = "soon"\ngpu = 0\nkind = "hang"\n', 10, ["at", "soon"]),
        (EVENT + 'at = "1s"\ngpu = 0\nkind = "hang"\nfor = "x"\n', 13, ["for"]),
        (EVENT + 'at = "1s"\ngpu = 3\nkind = "hang"\n', 11, ["gpu", "3", "0 to 0"]),
        (EVENT + 'at = "1s"\nkind = "hang"\n', 9, ["gpu", "missing"]),
        (EVENT + 'gpu = 0\nkind = "hang"\n', 9, ["at", "missing"]),
        (EVENT + 'at = "1s"\ngpu = 0\nkind = "hang"\nheat = 3\n', 13, ["heat", "no such key"]),
        (EVENT + 'at = "1s"\ngpu = 0\nkind = "temperature"\ncelsius = "hot"\n', 13, ["celsius"]),
        (EVENT + 'at = "1s"\ngpu = 0\nkind = "heat"\ncelsius = 9\nover = "?"\n', 14, ["over"]),
        (EVENT + 'at = "1s"\ngpu = 0\nkind = "foreign"\nvram = "?"\n', 13, ["vram"]),
        (EVENT + 'at = "1s"\ngpu = 0\nkind = "no_driver"\n', 11, ["gpu", "driver"]),
        ("gpus = 2\n", 1, ["gpus", "no such key"]),
        ("\ngpu = 2\n", 2, ["[[gpu]]"]),
        ('ambient_c = "warm"\n', 1, ["ambient_c", "number"]),
        ("ambient_c = true\n", 1, ["ambient_c", "number"]),
        ("vram_return_delay = 3\n", 1, ["vram_return_delay", "2s"]),
        ('vram_return_delay = "3 s"\n', 1, ["vram_return_delay", "3 s"]),
        ("a = = 1\n", 1, []),
    ],
)
def test_a_mistake_is_named_with_its_line_and_key(text: str, line: int, words: list[str]) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text, source="hot.toml")
    message = str(caught.value)
    assert message.startswith("hot.toml")
    assert f"line {line}" in message
    for word in words:
        assert word in message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"missing\.toml"):
        load_scenario(tmp_path / "missing.toml")


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text('[[gpu]]\nprofile = "T4"\n')
    assert len(load_scenario(path).cards) == 1
