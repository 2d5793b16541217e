"""What a guarded call does without the daemon is one of three words; a typo is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from superezio.aio import AsyncClient
from superezio.client import Client


@pytest.mark.parametrize("word", ["Open", "maybe", "", None])
def test_a_word_that_is_none_is_refused_at_once(word: Any) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match="has to be one of closed, open, local"):
            kind(when_absent=word)


def test_one_of_a_call_is_refused_when_it_is_made(tmp_path: Path) -> None:
    word: Any = "maybe"
    with (
        Client(str(tmp_path / "none.sock")) as client,
        pytest.raises(ValueError, match="has to be one of closed, open, local"),
        client.breaker("x", when_absent=word),
    ):
        raise AssertionError("the call was made")
