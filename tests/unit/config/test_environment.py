"""Keys that the environment sets: how they are written, what they win over, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from supereziod.config import Config, ConfigError, Origin, Setting, Source
from supereziod.config.environment import variables_in

ABSENT = Path("/nonexistent/superezio.toml")


def load(**variables: str) -> Config:
    named = {f"SUPEREZIO__{name}": value for name, value in variables.items()}
    return Source(default_file=ABSENT, variables=named).load().config


def refusal(**variables: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(**variables)
    return str(refused.value)


def test_a_key_is_its_sections_and_itself_in_capitals() -> None:
    config = load(
        LEASES__GRACE="10s",
        LEASES__QUOTA__DEFAULT__VRAM="8GiB",
        LIMITS__REQUESTS_PER_SECOND="500",
        LEASES__PEER_PIDFDS="false",
        BREAKER__FAILURE_RATE="0.25",
    )
    assert config.leases.grace_s == 10.0
    assert config.leases.quota.default.vram_bytes == 8 << 30
    assert config.limits.requests_per_second == 500
    assert config.leases.peer_pidfds is False
    assert config.breaker.failure_rate == 0.25


@pytest.mark.parametrize("text", ["debug", '"debug"', "'debug'"])
def test_text_needs_no_quotes_and_may_have_them(text: str) -> None:
    assert load(LOGGING__LEVEL=text).logging.level == "debug"


def test_text_that_looks_like_a_number_is_text() -> None:
    config = load(
        LIMIT__CURRENCY="123",
        LIMIT__SHARED__openai__HOST__MONEY_PER_DAY="5.00",
        LIMIT__SHARED__openai__HOST__REQUESTS="500/1m",
    )
    assert config.limit.currency == "123"
    host = config.limit.shared["openai"].host
    assert host is not None
    assert (host.money_per_day, host.requests) == ("5.00", "500/1m")


def test_a_list_is_as_in_toml() -> None:
    assert load(ACCESS__ADMINS='["alice", "1042"]').access.admins == ["alice", "1042"]


def test_a_name_that_somebody_chose_stands_as_it_is() -> None:
    quotas = load(LEASES__QUOTA__USER__Alice__LEASES="2", LEASES__QUOTA__USER__BOB__LEASES="3")
    assert {name: each.leases for name, each in quotas.leases.quota.user.items()} == {
        "Alice": 2,
        "BOB": 3,
    }


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LEASES__GRCE", "1", "leases.grce: no such key; did you mean grace?"),
        ("LEASE__GRACE", "1", "lease: no such key; did you mean leases?"),
        ("LEASES", "1", "leases: it is a section: name one of its keys (grace, "),
        ("LEASES__QUOTA__USER", "1", "leases.quota.user: it is a section"),
        ("LEASES__QUOTA__USER__", "1", "leases.quota.user: a name is missing"),
        ("LEASES__GRACE__MORE", "1", "leases.grace.MORE: no such key: it ends before"),
        ("_", "1", "_: no such key; there are limits, gpu, "),
        ("LEASES__GRACE", "soon", "leases.grace: expected a duration such as 5s, got 'soon'"),
        ("LEASES__QUEUE", "1.5", "leases.queue: expected a whole number, got 1.5"),
        ("LEASES__QUEUE", "1\nx = 2", "leases.queue: expected a whole number, got '1\\nx = 2'"),
        ("ACCESS__USERS", "bob", "access.users: expected a list (text each), got 'bob'"),
        ("ACCESS__USERS", "[" * 9000, "access.users: expected a list (text each), got '[["),
        ("LEASES__QUEUE", "9" * 5000, "leases.queue: expected a whole number, got '999"),
        ("ACCESS__USERS", '["\udcff"]', "is not UTF-8"),
        ("LOGGING__LEVEL", "loud", "logging.level: expected one of debug, info, "),
        ("GPU__SCENARIO", "x", 'gpu: a scenario needs driver = "simulated"'),
    ],
)
def test_a_mistake_is_told_with_the_variable_and_the_key(
    name: str, value: str, message: str
) -> None:
    expected = f"SUPEREZIO__{name}: {message}"
    assert refusal(**{name: value}).startswith(expected)


def test_a_variable_whose_name_is_not_utf_8_is_told_so_that_it_can_be_printed() -> None:
    assert refusal(**{"LEASES__\udcff": "1"}) == r"SUPEREZIO__LEASES__\xff: is not UTF-8"


def test_mistakes_of_files_and_of_variables_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "superezio.toml"
    file.write_text("[leases]\nqueue = 'a'\n")
    variables = {"SUPEREZIO__LEASES__GRCE": "1", "SUPEREZIO__ACCESS__USERS": "bob"}
    with pytest.raises(ConfigError) as refused:
        Source(file=file, variables=variables).load()
    assert [(each.origin.place, each.origin.line, each.key) for each in refused.value.problems] == [
        ("file", 2, "leases.queue"),
        ("environment", None, "access.users"),
        ("environment", None, "leases.grce"),
    ]


def test_a_variable_wins_over_the_files_and_an_option_over_it(tmp_path: Path) -> None:
    file = tmp_path / "superezio.toml"
    file.write_text('[leases]\ngrace = 1\nqueue = 1\nmaximum = 1\n[logging]\nlevel = "debug"\n')
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "x.toml").write_text("[leases]\ngrace = 2\nqueue = 2\n")
    variables = {"SUPEREZIO__LEASES__GRACE": "3", "SUPEREZIO__LOGGING__LEVEL": "info"}
    option = Setting(
        path=("logging", "level"),
        value="error",
        origin=Origin(place="option", name="--log-level"),
    )
    loaded = Source(file=file, variables=variables, options=(option,)).load()
    leases = loaded.config.leases
    assert (leases.max_leases, leases.queue, leases.grace_s) == (1, 2, 3.0)
    assert loaded.config.logging.level == "error"
    assert {key[-1]: str(origin) for key, origin in loaded.origins.items()} == {
        "maximum": f"{file}:4",
        "queue": f"{tmp_path}/conf.d/x.toml:3",
        "grace": "SUPEREZIO__LEASES__GRACE",
        "level": "--log-level",
    }


def test_a_contradiction_names_what_was_set_last(tmp_path: Path) -> None:
    file = tmp_path / "superezio.toml"
    file.write_text("[gpu.thermal]\nhot_enter_c = 6\nwarm_enter_c = 12\n")
    variables = {"SUPEREZIO__GPU__THERMAL__HOT_ENTER_C": "1"}
    with pytest.raises(ConfigError, match=r"^SUPEREZIO__GPU__THERMAL__HOT_ENTER_C: gpu\.thermal: "):
        Source(file=file, variables=variables).load()


def test_variables_of_options_and_of_others_are_no_keys() -> None:
    environ = {"SUPEREZIO_LOG_LEVEL": "x", "HOME": "/", "SUPEREZIO__LEASES__GRACE": "1"}
    assert variables_in(environ) == {"SUPEREZIO__LEASES__GRACE": "1"}
