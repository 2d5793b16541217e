"""The configuration: what is accepted, what is refused, and how that is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supereziod.config import Config, ConfigError, Origin, Setting, Source
from supereziod.config.leases import Quota


def load(directory: Path, text: str, **drop_ins: str) -> Config:
    return source(directory, text, **drop_ins).load().config


def source(directory: Path, text: str, **drop_ins: str) -> Source:
    file = directory / "superezio.toml"
    file.write_text(text)
    (directory / "conf.d").mkdir(exist_ok=True)
    for name, drop_in in drop_ins.items():
        (directory / "conf.d" / f"{name}.toml").write_text(drop_in)
    return Source(file=file)


def refusal(directory: Path, text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(directory, text)
    return str(refused.value).replace(f"{directory}/", "")


def test_a_new_host_needs_no_file(tmp_path: Path) -> None:
    loaded = Source(default_file=tmp_path / "absent.toml").load()
    assert loaded.config == Config()
    assert loaded.files == ()


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Config()


@pytest.mark.parametrize(
    ("text", "seconds"), [('"1m30s"', 90.0), ('"250ms"', 0.25), ("7", 7.0), ("0.5", 0.5)]
)
def test_a_duration_is_text_or_seconds(tmp_path: Path, text: str, seconds: float) -> None:
    assert load(tmp_path, f"[leases]\ngrace = {text}").leases.grace_s == seconds


@pytest.mark.parametrize(("text", "size"), [('"1GiB"', 1 << 30), ('"1GB"', 10**9), ("0", 0)])
def test_a_size_is_text_or_bytes(tmp_path: Path, text: str, size: int) -> None:
    assert load(tmp_path, f"[gpu]\nreserve = {text}").gpu.reserve_bytes == size


def test_drop_ins_are_read_by_name_and_win_key_by_key(tmp_path: Path) -> None:
    loaded = source(
        tmp_path,
        "[leases]\ngrace = 1\nqueue = 2\nmaximum = 3\n",
        b_second="[leases]\nqueue = 22\n",
        a_first="leases.queue = 11\nleases.maximum = 33\n",
    ).load()
    leases = loaded.config.leases
    assert (leases.grace_s, leases.queue, leases.max_leases) == (1.0, 22, 33)
    names = [file.name for file in loaded.files]
    assert names == ["superezio.toml", "a_first.toml", "b_second.toml"]


def test_drop_ins_count_without_a_main_file(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "x.toml").write_text("[leases]\nqueue = 5\n")
    loaded = Source(default_file=tmp_path / "superezio.toml").load()
    assert loaded.config.leases.queue == 5


def test_one_gpu_may_differ_in_part(tmp_path: Path) -> None:
    gpu = load(
        tmp_path,
        '[gpu]\nreserve = "1GiB"\n[gpu.thermal]\nwarm_enter_c = 13\n'
        '[gpu.override."GPU-1"]\nreserve = "2GiB"\n'
        '[gpu.override."GPU-1".thermal]\nhot_enter_c = 8\nhot_enter_dwell = "9s"\n'
        '[gpu.override."GPU-2"]\n',
    ).gpu
    assert gpu.reserve_by_gpu == {"GPU-1": 2 << 30}
    ladder = gpu.thermal_by_gpu["GPU-1"]
    assert (ladder.warm_enter_c, ladder.hot_enter_c, ladder.hot_enter_s) == (13, 8, 9.0)
    assert list(gpu.thermal_by_gpu) == ["GPU-1"]
    assert gpu.thermal.hot_enter_c == 6


def test_quotas_go_by_user_and_by_group(tmp_path: Path) -> None:
    quota = load(
        tmp_path,
        "[leases.quota.default]\nleases = 3\n"
        '[leases.quota.user."alice.b"]\nvram = "8GiB"\n[leases.quota.user.1001]\nvram = 9\n'
        '[leases.quota.group.students]\nvram = "24GiB"\nleases = 9\n',
    ).leases.quota
    assert quota.default == Quota(leases=3)
    assert quota.user == {"alice.b": Quota(vram_bytes=8 << 30), "1001": Quota(vram_bytes=9)}
    assert quota.group == {"students": Quota(vram_bytes=24 << 30, leases=9)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[leases]\n\ngrace = "x"', "3: leases.grace: expected a duration such as 5s, got 'x'"),
        ("[leases]\ngrace = true", "2: leases.grace: expected a duration such as 5s, got True"),
        ('[gpu]\nreserve = "much"', "2: gpu.reserve: expected a size such as 512MiB, got 'much'"),
        ("[leases]\nqueue = 1.5", "2: leases.queue: expected a whole number, got 1.5"),
        ("[leases]\nqueue = -1", "2: leases.queue: expected a whole number (int >= 0), got -1"),
        ("[leases]\ngrace = -1", "2: leases.grace: expected a duration such as 5s, got -1"),
        ("[leases]\ngrce = 1", "2: leases.grce: no such key; did you mean grace?"),
        ("[leases]\nxyzzy = 1", "2: leases.xyzzy: no such key"),
        ("[lease]\ngrace = 1", "1: lease: no such key; did you mean leases?"),
        ("leases = 3", "1: leases: expected a table, got 3"),
        ("[gpu]\noverride = 3", "2: gpu.override: expected a table, got 3"),
        (
            '[gpu.override."GPU-1"]\nreserv = 1',
            "2: gpu.override.GPU-1.reserv: no such key; did you mean reserve?",
        ),
        (
            '[logging]\nlevel = "loud"',
            "2: logging.level: expected one of debug, info, warning, error, critical, got 'loud'",
        ),
        (
            "[access]\nadmins = [1]",
            '2: access.admins: expected a list (text each, such as "1"), got [1]',
        ),
        ("[access]\nadmins = [true]", "2: access.admins: expected a list (text each), got [True]"),
        (
            "[breaker.openai]\nopen = 5",
            (
                "1: breaker.openai: no such key; what several users share by its name is"
                " [breaker.shared.openai]"
            ),
        ),
        ("[cache.share.x]\nsize = 5", "1: cache.share: no such key; did you mean shared?"),
        (
            '[limit.shared.openai]\nrequests = "5/1m"',
            (
                "2: limit.shared.openai.requests: no such key; it belongs to"
                " [limit.shared.openai.host] (or .group, .user, .session, .key)"
            ),
        ),
        (
            "[gpu]\nhot_enter_c = 5",
            "2: gpu.hot_enter_c: no such key; it belongs to [gpu.thermal]",
        ),
        (
            "[limit.shared.x.host]\nmoney_per_day = 5",
            '2: limit.shared.x.host.money_per_day: expected text such as "5.00", got 5',
        ),
        (
            "[limit.shared.x.host]\nrequests = 500",
            '2: limit.shared.x.host.requests: expected text such as "500/1m", got 500',
        ),
        (
            '[recorder]\nsize = "1KiB"',
            "2: recorder.size: expected a size of at least 256 KiB, got '1KiB'",
        ),
        (
            '[recorder]\nsize = "2GiB"',
            "2: recorder.size: expected a size of at most 1.0 GiB, got '2GiB'",
        ),
        (
            '[limit]\nwait_maximum = "0s"',
            "2: limit.wait_maximum: expected a duration of more than 0s, got '0s'",
        ),
        ("[gpu]\nscenario = 1", "2: gpu.scenario: expected text, got 1"),
        ("[leases.quota]\nuser = 3", "2: leases.quota.user: expected a table, got 3"),
        (
            "[leases.quota.group.students]\nlease = 1",
            "2: leases.quota.group.students.lease: no such key; did you mean leases?",
        ),
        (
            "[leases.quota.user.bob]\nleases = -1",
            "2: leases.quota.user.bob: leases cannot be less than 0",
        ),
        ('[gpu]\nscenario = "x"', '2: gpu: a scenario needs driver = "simulated"'),
        (
            "[gpu.thermal]\nhot_enter_c = 1",
            "2: gpu.thermal: margins to enter must grow from critical to hot to warm",
        ),
        ("[leases]\ngrace = \n", "2: not TOML: Invalid value"),
        (
            "[leases",
            " not TOML: Expected ']' at the end of a table declaration, at the end of the file",
        ),
    ],
)
def test_a_mistake_is_named_with_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text) == f"superezio.toml:{message}"


def test_all_mistakes_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, "[leases]\nqueue = 'a'\n[watchdog]\nbark = 1\n", x="[logging]\nlevel = 3\n")
    assert [(Path(p.origin.name).name, p.origin.line, p.key) for p in refused.value.problems] == [
        ("superezio.toml", 2, "leases.queue"),
        ("superezio.toml", 4, "watchdog.bark"),
        ("x.toml", 2, "logging.level"),
    ]


def test_all_contradictions_are_told_at_once(tmp_path: Path) -> None:
    text = (
        "[gpu.thermal]\nhot_enter_c = 1\n[leases.quota.user.bob]\nleases = -1\n"
        '[cache.shared.e]\nsize = "1MiB"\nguaranteed = "2MiB"\n[limit]\ncurrency = "$"\n'
    )
    assert [line.partition(": ")[0] for line in refusal(tmp_path, text).splitlines()] == [
        "superezio.toml:2",
        "superezio.toml:4",
        "superezio.toml:9",
        "superezio.toml:7",
    ]


@pytest.mark.parametrize("number", ["inf", "-inf", "nan"])
@pytest.mark.parametrize("key", ["leases.grace", "breaker.failure_rate", "gpu.reserve"])
def test_a_number_has_to_be_finite(tmp_path: Path, key: str, number: str) -> None:
    said = refusal(tmp_path, f"{key} = {number}")
    assert said == f"superezio.toml:1: {key}: expected a number that is finite, got {number}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'gpu.reserve = "' + "9" * 400 + 'GiB"',
            "gpu.reserve: expected a size such as 512MiB, got",
        ),
        (
            'leases.grace = "' + "9" * 400 + 's"',
            "leases.grace: expected a duration such as 5s, got",
        ),
        ("leases.grace = 1e300", "leases.grace: expected a duration such as 5s, got 1e+300"),
        ("gpu.reserve = 1e300", "gpu.reserve: expected a size such as 512MiB, got 1e+300"),
        (f"limits.connections = {1 << 63}", "limits.connections: expected a number of up to 64"),
        (f"gpu.fitness.fatal_xids = [{1 << 63}]", "gpu.fitness.fatal_xids: expected a number of"),
        (
            'limit.shared.x.user.requests = "5/' + "9" * 400 + 's"',
            "limit.shared.x.user: requests: cannot use ",
        ),
    ],
)
def test_what_no_clock_and_no_counter_holds_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    """Else `--check` calls it good, and the start dies of it, or a reload half way."""
    assert refusal(tmp_path, text).startswith(f"superezio.toml:1: {message}")


def test_the_longest_duration_can_be_counted_in_nanoseconds(tmp_path: Path) -> None:
    grace_s = load(tmp_path, 'leases.grace = "36500d"').leases.grace_s
    assert round(2 * grace_s * 1e9) < 1 << 63


def test_a_number_that_is_too_long_to_be_read_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, "limits.connections = " + "9" * 5000)
    assert said == "superezio.toml: it has a number with too many digits"


def test_a_byte_order_mark_and_line_ends_of_other_systems_are_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "superezio.toml"
    file.write_bytes(b"\xef\xbb\xbf[leases]\r\ngrace = 7\r\n")
    assert Source(file=file).load().config.leases.grace_s == 7


def test_what_an_editor_leaves_beside_a_drop_in_is_not_read(tmp_path: Path) -> None:
    """The lock of Emacs is a link to nowhere: it must not keep a reload from being done."""
    given = source(tmp_path, "", ten="leases.grace = 7")
    beside = tmp_path / "conf.d"
    (beside / ".#ten.toml").symlink_to("somebody@host.4711:1")
    for name in (".ten.toml.swp", "#ten.toml#", "ten.toml~", ".ten.toml"):
        (beside / name).write_text("leases.grace = 8")
    loaded = given.load()
    assert loaded.config.leases.grace_s == 7
    assert [file.name for file in loaded.files] == ["superezio.toml", "ten.toml"]


def test_a_drop_in_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    given = source(tmp_path, "")
    os.mkfifo(tmp_path / "conf.d" / "pipe.toml")
    with pytest.raises(ConfigError, match=r"pipe\.toml: cannot read it: it is no file$"):
        given.load()


def test_a_file_whose_name_nobody_can_be_told_is_refused(tmp_path: Path) -> None:
    given = source(tmp_path, "")
    (tmp_path / "conf.d" / os.fsdecode(b"\xff.toml")).touch()
    with pytest.raises(
        ConfigError, match=r"conf\.d/\\xff\.toml: its name is not UTF-8$"
    ) as refused:
        given.load()
    assert str(refused.value).isprintable()


def test_a_contradiction_between_one_gpu_and_all_is_found(tmp_path: Path) -> None:
    text = '[gpu.override."GPU-1".thermal]\nhot_enter_c = 1\n'
    assert refusal(tmp_path, text).startswith("superezio.toml:2: gpu.override.GPU-1.thermal: ")


def test_what_cannot_be_read_is_not_taken_for_what_is_not_there(tmp_path: Path) -> None:
    loops = tmp_path / "conf.d"
    loops.symlink_to(loops)
    with pytest.raises(ConfigError, match=r"/conf\.d: cannot read it: Too many levels of"):
        Source(default_file=tmp_path / "superezio.toml").load()
    loops.unlink()
    main = tmp_path / "superezio.toml"
    main.symlink_to(tmp_path / "gone.toml")
    with pytest.raises(ConfigError, match=r"superezio\.toml: cannot read it: No such file"):
        Source(default_file=main).load()
    main.unlink()
    assert Source(default_file=main).load().files == ()
    assert Source(default_file=tmp_path / "no" / "superezio.toml").load().files == ()


@pytest.mark.parametrize("text", ["x = " + "[" * 9000, "x = " + "[" * 9000 + "]" * 9000])
def test_a_file_that_is_nested_without_end_is_refused(tmp_path: Path, text: str) -> None:
    said = refusal(tmp_path, text)
    assert said == "superezio.toml: its tables and lists are nested too deeply"


_LONG = "x" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        f'[leases]\ngrace = "{_LONG}"',
        f'[logging]\nlevel = "{_LONG}"',
        f'[gpu]\nreserve = "{_LONG}"',
        f'limits = "{_LONG}"',
        f'[gpu]\noverride = "{_LONG}"',
        f'[access]\nusers = ["{_LONG}", 3, "{_LONG}"]',
        f"[leases]\ngrace = [{'1,' * 10_000}]",
        f"[leases]\ngrace.{'x.' * 5_000}y = 1",
        f'[limit.shared.api.host]\nrequests = "{_LONG}"',
        f'[limit.shared.api.host]\nrequests = "{_LONG}/1m"',
        f'[limit.shared.api.host]\nrequests = "1/{_LONG}"',
        f'[limit.shared.api.host]\nmoney_per_day = "{_LONG}"',
    ],
)
def test_a_value_is_repeated_in_short_in_what_is_said_of_it(tmp_path: Path, text: str) -> None:
    said = refusal(tmp_path, text)
    assert len(said) < 300
    assert "\n" not in said


def test_a_value_of_eighty_characters_is_repeated_whole(tmp_path: Path) -> None:
    fits, too_long = "y" * 78, "y" * 79
    assert refusal(tmp_path, f'[leases]\ngrace = "{fits}"').endswith(f"got '{fits}'")
    assert refusal(tmp_path, f'[leases]\ngrace = "{too_long}"').endswith(f"got '{'y' * 76}...")


def test_a_named_file_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.toml: cannot read it: No such file"):
        Source(file=tmp_path / "nope.toml").load()


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "superezio.toml"
    file.write_bytes(b"[leases]\n\xff")
    with pytest.raises(ConfigError, match=r"superezio\.toml: is not UTF-8: .* at byte 9"):
        Source(file=file).load()


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    file = source(tmp_path, '[logging]\nlevel = "debug"\n').file
    origin = Origin(place="option", name="--log-level")
    option = Setting(path=("logging", "level"), value="error", origin=origin)
    loaded = Source(file=file, options=(option,)).load()
    assert loaded.config.logging.level == "error"
    assert loaded.origins["logging", "level"] == origin


def test_a_contradiction_of_the_command_line_is_its_own() -> None:
    origin = Origin(place="option", name="--scenario")
    option = Setting(path=("gpu", "scenario"), value="s", origin=origin)
    with pytest.raises(ConfigError, match=r"^--scenario: gpu: a scenario needs"):
        Source(default_file=Path("/nonexistent/x"), options=(option,)).load()
