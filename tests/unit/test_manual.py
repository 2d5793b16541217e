"""The manual pages say what the code says, can be read, and are laid down where man looks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from manual_pages import PAGES, PROJECT, shown_page
from superezio import __version__
from superezio.errors import BY_KIND
from superezioctl import exit_codes, helptext
from superezioctl import manual as ctl_manual
from superezioctl.catalogue import CATALOGUE
from superezioctl.command_line import load
from supereziod import manual as daemon_manual
from supereziod.__main__ import command_line
from supereziod.config import Config
from supereziod.config import manual as config_manual
from supereziod.config.changes import flatten
from supereziod.rpc import manual as rpc_manual
from supereziod.rpc.methods import METHODS
from supereziod.rpc.vocabulary import EVENT_TYPES, REASON_CODES

_OVERVIEW = "superezio.7"
_EXAMPLES = json.loads((PROJECT / "docs" / "rpc-examples.json").read_text())
_MADE: dict[str, Callable[[], str]] = {
    "superezioctl.1": ctl_manual.render_manual,
    "supereziod.8": daemon_manual.render_manual,
    "superezio.toml.5": config_manual.render_manual,
    "superezio-rpc.7": lambda: rpc_manual.render_manual(_EXAMPLES),
}
_NAMES = sorted([_OVERVIEW, *_MADE])
_EVERY_PAGE = pytest.mark.parametrize("name", _NAMES)
_SECTIONS = {"NAME", "SYNOPSIS", "DESCRIPTION", "FILES", "EXAMPLES", "SEE ALSO"}
_FURTHER = {
    "superezioctl.1": {"OPTIONS", "COMMANDS", "EXIT STATUS", "ENVIRONMENT"},
    "supereziod.8": {"OPTIONS", "EXIT STATUS", "ENVIRONMENT", "SIGNALS"},
    "superezio.toml.5": {"OPTIONS"},
    "superezio-rpc.7": {"METHODS", "TYPES", "EVENTS", "ERRORS", "ENVIRONMENT"},
    _OVERVIEW: {"VOCABULARY", "USERS AND GROUPS", "UNITS", "WHEN SOMETHING IS WRONG"},
}


@pytest.mark.parametrize("name", sorted(_MADE))
def test_the_shipped_page_is_up_to_date(name: str) -> None:
    assert (PAGES / name).read_text() == _MADE[name](), "`make docs` brings it up to date"


def test_every_page_is_laid_down_where_man_looks() -> None:
    listed = {
        (source, target)
        for line in (PROJECT / "packaging" / "files.txt").read_text().splitlines()
        if line.startswith("packaging/man/")
        for source, target in [line.split()]
    }
    assert sorted(path.name for path in PAGES.iterdir()) == _NAMES
    assert listed == {
        (f"packaging/man/{name}", f"/usr/share/man/man{name[-1]}/{name}") for name in _NAMES
    }


@_EVERY_PAGE
def test_man_shows_it_without_a_warning(name: str) -> None:
    if shutil.which("man") is None:
        pytest.skip("man is not there: apt-get install man-db")
    done = subprocess.run(
        ["man", "--warnings=w", "--local-file", str(PAGES / name)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    title, _, section = name.rpartition(".")
    assert done.stdout.startswith(f"{title.upper()}({section})")


@_EVERY_PAGE
def test_it_says_which_version_it_is_of(name: str) -> None:
    (title,) = re.findall(r"^\.TH .*$", (PAGES / name).read_text(), re.MULTILINE)
    assert f' "superezio {__version__}" ' in title


@_EVERY_PAGE
def test_it_has_the_sections_that_readers_look_for(name: str) -> None:
    headings = re.findall(r'^\.SH "(.*)"$', (PAGES / name).read_text(), re.MULTILINE)
    assert headings[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert headings[-1] == "SEE ALSO"
    assert (_SECTIONS | _FURTHER[name]) - set(headings) == set()


@_EVERY_PAGE
def test_it_names_every_other_page_or_the_overview_that_does(name: str) -> None:
    pages = {f"{each[:-2]}({each[-1]})" for each in _NAMES}
    text = shown_page(name)
    named = set(re.findall(r"\bsuperezio[\w.-]*\(\d\)", text.partition(" NAME ")[2]))
    own = f"{name[:-2]}({name[-1]})"
    assert named <= pages
    assert named - {own} == pages - {own} if name == _OVERVIEW else "superezio(7)" in named


def test_every_command_is_there_with_its_options_and_examples() -> None:
    text = shown_page("superezioctl.1")
    for name, (_, summary) in CATALOGUE.items():
        command = load(name)
        assert f"{helptext.usage(name, command)} {summary}." in text
        for option in command.options:
            assert f"{helptext.words_of(option)} " in text
        for example in command.examples:
            assert " ".join(example.split()) in text


def test_every_exit_code_has_its_meaning() -> None:
    named = [value for name, value in vars(exit_codes).items() if name.isupper()]
    codes = {value for value in named if isinstance(value, int) and not isinstance(value, bool)}
    assert set(ctl_manual.EXIT_STATUS) == codes
    source = (PROJECT / "daemon" / "supereziod" / "__main__.py").read_text()
    promised = {int(each) for each in re.findall(r"(\d+) \w", source.split('"""')[1])}
    assert set(daemon_manual.EXIT_STATUS) == promised


def test_every_option_of_the_daemon_is_there_and_its_variable() -> None:
    text = shown_page("supereziod.8")
    for line in command_line().format_help().splitlines():
        for option in re.findall(r"^  (?:-\w, )?(--[\w-]+)", line):
            variable = f"SUPEREZIO_{option[2:].replace('-', '_').upper()}"
            assert f"{option}]" in text or f"[{option} " in text, "the synopsis has it"
            assert re.search(rf" {option} (?!or )\S", text), "it is explained"
            assert option in {"--help", "--version"} or f"{variable} As {option}" in text


def test_every_key_is_there_with_its_default() -> None:
    text = shown_page("superezio.toml.5")
    for key, _ in flatten(Config()):
        assert f" {key} " in text, key
    assert (
        'limits.frame_size The longest line that is read from a client. A size, default "1MiB".'
        " A reload applies it." in text
    )
    assert "cache.shared.NAME.guaranteed_entries " in text
    assert '[limit.shared.openai.host] requests = "500/1m"' in text


def test_of_sections_that_are_alike_the_first_is_told_and_the_others_name_it() -> None:
    text = shown_page("superezio.toml.5")
    assert "[gpu.override.NAME.thermal] The keys of [gpu.thermal]." in text
    assert "[limit.shared.NAME.key] The keys of [limit.shared.NAME.host]." in text
    assert "gpu.override.NAME.thermal.hot_enter_c" not in text


def test_everything_of_the_socket_api_is_there() -> None:
    text = shown_page("superezio-rpc.7")
    for method in METHODS:
        assert f" {method.name} {method.summary}. Role {method.role}, " in text
    for kind, error in BY_KIND.items():
        assert f" {kind} ({error.code}) " in text
    for meanings in (EVENT_TYPES, REASON_CODES):
        for name, meaning in meanings.items():
            assert f" {name} {meaning.replace('`', '')}" in text
    assert " gpu_hot (warning) It admits no new lease" in text
    assert " level string or null, default null." in text


def test_no_markdown_is_left_in_a_page() -> None:
    text = shown_page("superezio-rpc.7")
    assert "](" not in text
    assert "```" not in text
    assert "| ---" not in text


def test_the_overview_has_every_unit_and_every_group() -> None:
    text = shown_page(_OVERVIEW)
    for unit in _units():
        assert f" {unit.name.replace('@.', '@NAME.')} " in text, unit.name
    sysusers = (PROJECT / "systemd" / "superezio.sysusers.conf").read_text()
    for kind, name in re.findall(r"^([ug]) (\S+)", sysusers, re.MULTILINE):
        assert f" {name} ({'user' if kind == 'u' else 'group'}) " in text
    assert " superezio (group) " in text


def test_what_a_unit_names_as_its_documentation_is_a_page() -> None:
    for unit in _units():
        (line,) = re.findall(r"^Documentation=(.*)$", unit.read_text(), re.MULTILINE)
        for name in line.split():
            found = re.fullmatch(r"man:(\S+)\((\d)\)", name)
            assert found is not None, unit.name
            assert f"{found[1]}.{found[2]}" in _NAMES, unit.name


def _units() -> list[Path]:
    found = [path for path in (PROJECT / "systemd").iterdir() if path.is_file()]
    return [path for path in found if path.suffix in {".service", ".socket", ".slice"}]
