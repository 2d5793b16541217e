"""What `journalctl -x` explains is all that the daemon writes, and what it advises exists."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from superezioctl.arguments import Reader
from superezioctl.catalogue import CATALOGUE
from superezioctl.command_line import load
from supereziod.catalog.explained import Explained
from supereziod.catalog.page import CATALOG, render_catalog
from supereziod.observability.journald import message_id
from supereziod.rpc.audit import RECORDS
from supereziod.rpc.vocabulary import EVENT_TYPES

PROJECT = Path(__file__).parents[3]
SHIPPED = PROJECT / "systemd" / "superezio.catalog"
SOURCES = PROJECT / "daemon" / "supereziod"
ENTRIES = pytest.mark.parametrize(("event", "explained"), CATALOG.items(), ids=list(CATALOG))
#: Of the own lines below a warning, the one that says that the daemon is gone.
OWN_INFO = {"daemon.stopped"}
#: What stands on every line of a kind.
FIELDS = {
    "gpu.": {"GPU"},
    "lease.": {"LEASE"},
    "breaker.": {"NAME"},
    "limit.": {"NAME"},
    "cache.": {"NAMESPACE"},
    "audit.": {"ACTION"},
    "request.": {"CORRELATION_ID"},
}
#: About no lease yet, no single limit, or no GPU.
WITHOUT = {
    "lease.queued", "lease.position", "lease.cancelled", "lease.expired", "lease.lost",
    "limit.restarted", "limit.state_lost", "breaker.unreadable", "gpu.tick_failed",
    "gpu.records_unreadable", "gpu.records_not_written", "limit.debts_unreadable",
}  # fmt: skip


def own_lines() -> Iterator[str]:
    """What the sources log themselves at warning or worse, and not as an event."""
    for file in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"warning", "error", "critical", "exception"}
                and "log" in ast.unparse(node.func.value)
            ):
                (event, *_) = [each.value for each in node.args if isinstance(each, ast.Constant)]
                assert isinstance(event, str)
                yield event


def test_every_line_that_matters_is_explained_and_nothing_else() -> None:
    own = set(own_lines())
    assert {"request.fault", "notify.failed", "gpu.tick_failed"} <= own
    # The logging's own, which are made without a logger.
    own |= {"logging.dropped", "python"} | OWN_INFO
    assert set(CATALOG) == set(EVENT_TYPES) | own | set(RECORDS)


def test_the_shipped_catalog_is_up_to_date() -> None:
    assert SHIPPED.read_text() == render_catalog(), "`make docs` brings it up to date"


@ENTRIES
def test_an_entry_says_what_it_means_what_to_do_and_what_to_run(
    event: str, explained: Explained
) -> None:
    assert len(explained.subject) <= 78
    assert not explained.subject.endswith(".")
    for text in (explained.meaning, explained.action):
        assert text.endswith(".")
        assert len(text.split()) < 70
        assert "`" not in text, "journalctl shows it as it stands"
    assert explained.commands
    fields = set(re.findall(r"@([A-Z_]+)@", " ".join([*explained[:3], *explained.commands])))
    family = event.partition(".")[0] + "."
    assert fields <= (set() if event in WITHOUT else FIELDS.get(family, set()))


@ENTRIES
def test_the_commands_of_an_entry_exist(event: str, explained: Explained) -> None:
    for line in explained.commands:
        program, *words = shlex.split(line)
        if program != "superezioctl":
            assert program in {
                "systemctl", "journalctl", "supereziod", "systemd-sysusers", "df", "ls",
                "nvidia-smi",
            }, event  # fmt: skip
            continue
        name = " ".join(words[:2]) if " ".join(words[:2]) in CATALOGUE else words[0]
        command = load(name)
        Reader(command.options).read_all(words[len(name.split()) :], command.positionals)


@pytest.mark.skipif(shutil.which("journalctl") is None, reason="there is no journalctl")
def test_systemd_takes_the_catalog_with_each_entry(tmp_path: Path) -> None:
    place = tmp_path / "usr" / "lib" / "systemd" / "catalog"
    place.mkdir(parents=True)
    (tmp_path / "var" / "lib" / "systemd" / "catalog").mkdir(parents=True)
    shutil.copy(SHIPPED, place)
    journalctl = ["journalctl", f"--root={tmp_path}"]
    updated = subprocess.run(
        [*journalctl, "--update-catalog"], capture_output=True, text=True, check=False
    )
    assert (updated.returncode, updated.stderr) == (0, "")
    listed = subprocess.run(
        [*journalctl, "--list-catalog"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert sorted(listed) == sorted(
        f"{message_id(event)} superezio: {each.subject}" for event, each in CATALOG.items()
    )
