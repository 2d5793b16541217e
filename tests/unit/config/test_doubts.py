"""What is no mistake in a configuration, and is told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from supereziod.config import Source, doubts


def told(directory: Path, text: str) -> list[str]:
    """What is said of a configuration, without the file's name."""
    file = directory / "superezio.toml"
    file.write_text(text)
    return [str(each).removeprefix(f"{file}:") for each in doubts(Source(file=file).load())]


NOBODY = "it is shared with nobody: name its groups or users, or say everyone = true"


@pytest.mark.parametrize("family", ["breaker", "limit", "cache"])
@pytest.mark.parametrize("keys", ["", "groups = []\n", "everyone = false\nusers = []\n"])
def test_what_is_shared_with_nobody_is_told_with_its_key_and_line(
    tmp_path: Path, family: str, keys: str
) -> None:
    text = f"# shared\n[{family}.shared.openai]\n{keys}"
    assert told(tmp_path, text) == [f"2: {family}.shared.openai: {NOBODY}"]


def test_a_limit_that_has_rates_and_no_users_is_told_of(tmp_path: Path) -> None:
    text = '[limit.shared.openai.host]\nrequests = "5/1m"\n'
    assert told(tmp_path, text) == [f"1: limit.shared.openai: {NOBODY}"]


@pytest.mark.parametrize("keys", ["everyone = true", 'groups = ["0"]', 'users = ["0"]'])
def test_nothing_is_said_of_what_somebody_shares(tmp_path: Path, keys: str) -> None:
    assert told(tmp_path, f"[breaker.shared.openai]\n{keys}\n") == []


def test_a_drop_in_may_say_who_shares_it(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    drop_in = tmp_path / "conf.d" / "50-who.toml"
    drop_in.write_text("[breaker.shared.openai]\neveryone = true\n")
    text = "[breaker.shared.openai]\nminimum_calls = 5\n"
    assert told(tmp_path, text) == []
    drop_in.unlink()
    assert told(tmp_path, text) == [f"1: breaker.shared.openai: {NOBODY}"]


def test_a_name_that_the_host_does_not_know_is_told_of_too(tmp_path: Path) -> None:
    text = '[breaker.shared.openai]\nusers = ["nobody-of-that-name"]\n[cache.shared.x]\n'
    assert told(tmp_path, text) == [
        "2: breaker.shared.openai.users: this host has no user nobody-of-that-name",
        f"3: cache.shared.x: {NOBODY}",
    ]
