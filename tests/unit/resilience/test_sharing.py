"""Whose a name is. Names are shared only if the configuration names them and who may use them."""

from __future__ import annotations

import pytest
from msgspec import Struct

from superezio.errors import InvalidParamsError, PermissionDeniedError
from supereziod.resilience.sharing import Audience, Owned, SharedNames


class User(Struct, frozen=True):
    uid: int
    groups: frozenset[int] = frozenset()


ALICE = User(1000, frozenset({1000, 50}))
BOB = User(1001, frozenset({1001}))
CAROL = User(1002, frozenset({1002}))


@pytest.fixture
def names() -> SharedNames:
    return SharedNames(
        "limit",
        {
            "openai": Audience(uids=frozenset({1001}), gids=frozenset({50}), group_names=("ai",)),
            "weather": Audience(everyone=True),
            "nobody": Audience(),
            "planned": Audience(group_names=("staff2",)),
        },
    )


def test_any_other_name_is_private_to_the_uid(names: SharedNames) -> None:
    assert names.find("mine", ALICE) == Owned(1000, "mine")
    assert names.find("mine", BOB) == Owned(1001, "mine")
    assert names.find("mine", ALICE) == Owned(1000, "mine")
    assert names.may_see(Owned(1000, "mine"), ALICE)
    assert not names.may_see(Owned(1000, "mine"), BOB)


def test_a_name_is_shared_by_those_whom_the_configuration_lists(names: SharedNames) -> None:
    assert names.find("openai", ALICE) == names.find("openai", BOB) == Owned(None, "openai")
    assert names.find("weather", CAROL) == Owned(None, "weather")
    assert names.may_see(Owned(None, "openai"), BOB)
    assert not names.may_see(Owned(None, "openai"), CAROL)
    assert not names.may_see(Owned(None, "gone"), CAROL)


def test_another_is_refused_and_told_which_group_to_join(names: SharedNames) -> None:
    with pytest.raises(PermissionDeniedError, match=r"Join the group ai .sudo usermod -aG ai "):
        names.find("openai", CAROL)
    with pytest.raises(PermissionDeniedError, match="An admin can add you to its `users`"):
        names.find("nobody", CAROL)
    with pytest.raises(PermissionDeniedError, match="staff2, which this host does not have"):
        names.find("planned", CAROL)


def test_a_reload_changes_whose_a_name_is(names: SharedNames) -> None:
    assert names.find("mine", ALICE).owner == 1000
    names.set_audiences({"mine": Audience(uids=frozenset({1000}))})
    assert names.find("mine", ALICE) == Owned(None, "mine")
    assert names.find("openai", CAROL) == Owned(1002, "openai")


@pytest.mark.parametrize("name", ["", " ", "-x", "a b", "a\n", "ä", "x" * 65, "a\0", "../x", "a%"])
def test_what_is_no_name_is_refused(names: SharedNames, name: str) -> None:
    with pytest.raises(InvalidParamsError, match="name has to be"):
        names.find(name, ALICE)


@pytest.mark.parametrize("name", ["a", "openai/gpt-4o", "eu.host:8080", "0", "x" * 64])
def test_names_are_as_in_urls_and_models(names: SharedNames, name: str) -> None:
    assert names.find(name, ALICE).name == name


def test_many_names_take_no_memory_for_ever(names: SharedNames) -> None:
    for number in range(10_000):
        assert names.find(f"n{number}", ALICE).name == f"n{number}"
    assert len(names._private) <= 4096
