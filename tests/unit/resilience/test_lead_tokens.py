"""Tokens as text: nobody makes one up, changes one, or uses another connection's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from superezio.resilience.cache_answers import Token
from supereziod.resilience.lead_tokens import LeadTokens

TOKEN = Token("1000:n", "k", generation=7, deadline_ns=1 << 62)


def test_what_was_given_out_is_read_again() -> None:
    tokens = LeadTokens()
    assert tokens.read(tokens.text(TOKEN, "c1"), "1000:n", "k", "c1") == TOKEN


def test_it_counts_for_its_connection_its_namespace_and_its_key_alone() -> None:
    tokens = LeadTokens()
    text = tokens.text(TOKEN, "c1")
    assert tokens.read(text, "1000:n", "k", "c2") is None
    assert tokens.read(text, "1001:n", "k", "c1") is None
    assert tokens.read(text, "1000:n", "l", "c1") is None
    assert tokens.read(text, "1000:nk", "", "c1") is None


def test_another_run_of_the_daemon_has_other_tokens() -> None:
    assert LeadTokens().read(LeadTokens().text(TOKEN, "c1"), "1000:n", "k", "c1") is None


@given(st.integers(0, 39), st.sampled_from("ABCxyz019-_=! \0ä"))
def test_none_is_like_another_but_for_a_character(place: int, character: str) -> None:
    tokens = LeadTokens(b"a secret")
    text = tokens.text(TOKEN, "c1")
    changed = text[:place] + character + text[place + 1 :]
    assert changed == text or tokens.read(changed, "1000:n", "k", "c1") is None


@given(st.text(max_size=60))
def test_no_text_is_one(text: str) -> None:
    assert LeadTokens().read(text, "1000:n", "k", "c1") is None
