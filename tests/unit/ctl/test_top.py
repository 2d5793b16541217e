from __future__ import annotations

import importlib.metadata
import io
import re
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

import wire_samples
from ctl_runner import Ctl
from superezio import errors, wire
from superezioctl.commands.top import LIBRARY
from superezioctl.output import Output
from superezioctl.top import drawing
from superezioctl.top.board import SECTIONS, Board
from superezioctl.top.cursor import Cursor
from superezioctl.top.following import _trouble


class Stream(io.StringIO):
    encoding = "utf-8"


OUT = Output(json=False, stdout=Stream())


def process(**changes: Any) -> wire.GpuProcess:
    sample = wire_samples.everything()["gpu.processes"].processes[0]
    changed: wire.GpuProcess = structs.replace(sample, **changes)
    return changed


def board(**changes: Any) -> Board:
    shown = Board(
        system=wire_samples.system_info(),
        health=wire_samples.health(),
        gpus=wire_samples.gpu_list().gpus,
        leases=leases(1),
        processes=[process()],
        queue=[wire_samples.waiter()],
    )
    return replace(shown, **changes)


def leases(count: int) -> list[wire.Lease]:
    return [wire_samples.lease(id=f"{number:024x}") for number in range(count)]


def drawn(shown: Board, cursor: Cursor | None = None, *, width: int = 80, height: int = 22) -> str:
    cursor = cursor or Cursor()
    cursor.settle(shown.keys())
    return "\n".join(drawing.screen(OUT, shown, cursor, width=width, height=height))


def test_everything_is_on_eighty_columns_and_twenty_four_rows() -> None:
    lines = drawn(board()).splitlines()
    assert len(lines) <= 22
    for text in ("degraded", "gpu 1 is hot", "RTX 3060", "margin  32", "120/170 W", "80 %"):
        assert any(text in line[:80] for line in lines), text
    for text in ("admits no lease", "trainer", "4.0 GiB", "of 6.0 GiB", "nightly"):
        assert any(text in line[:80] for line in lines), text
    assert max(len(line) for line in lines if "RTX" in line or "leasable" in line) <= 80
    assert any("suspect, cordoned, admits no lease: it is hot" in line for line in lines)
    assert len(drawing.HELP) <= 22
    assert max(map(len, (*drawing.HELP, drawing.KEYS))) <= 80


def test_a_mig_instance_is_shown_by_its_place_on_its_gpu() -> None:
    gpus = wire_samples.mig_gpus()
    instance = next(gpu for gpu in gpus if gpu.mig_index == 0)
    on_it = wire.LeaseGpu(
        uuid=instance.uuid,
        index=instance.index,
        reserved_bytes=1 << 30,
        actual_bytes=None,
        mig_index=0,
    )
    held = wire_samples.lease(gpus=[on_it])
    lines = drawn(board(gpus=gpus, leases=[held], processes=[process(gpu=instance.uuid)]))
    assert f"{instance.index}:0 " in lines
    assert lines.count(f"gpu {instance.index}:0") == 2


@given(
    width=st.integers(1, 200),
    height=st.integers(0, 60),
    many=st.integers(0, 40),
    moves=st.lists(st.tuples(st.integers(-1, 1), st.integers(-50, 50)), max_size=6),
)
def test_a_screen_of_any_size_is_filled_and_shows_the_selected_row(
    width: int, height: int, many: int, moves: list[tuple[int, int]]
) -> None:
    cursor, shown = (
        Cursor(),
        board(leases=leases(many), queue=[wire_samples.waiter(id=str(n)) for n in range(many)]),
    )
    cursor.settle(shown.keys())
    for sections, rows in moves:
        cursor.turn(sections)
        cursor.move(rows)
    lines = drawn(shown, cursor, width=width, height=height).splitlines()
    assert len(lines) <= max(height, 0)
    if height >= 12 and cursor.selected(cursor.section) is not None:
        assert sum(line.startswith("> ") for line in lines) == 1


@given(wanted=st.lists(st.integers(0, 30), min_size=1, max_size=5), room=st.integers(-3, 80))
def test_lines_are_shared_fairly(wanted: list[int], room: int) -> None:
    given_ = drawing.share(wanted, room)
    assert sum(given_) == min(max(0, room), sum(wanted))
    assert all(got <= want for got, want in zip(given_, wanted, strict=True))
    short = [got for got, want in zip(given_, wanted, strict=True) if got < want]
    assert not short or max(given_) <= min(short) + 1


def test_what_is_cut_off_is_counted() -> None:
    assert "leases (1-" in drawn(board(leases=leases(30)))
    assert " of 30)" in drawn(board(leases=leases(30)))


def test_the_selection_stays_on_its_lease_while_others_come_and_go() -> None:
    cursor = Cursor()
    keys: dict[str, list[str]] = {section: [] for section in SECTIONS}
    cursor.settle({**keys, "leases": ["a", "b", "c"]})
    cursor.turn(1)
    cursor.move(1)
    cursor.settle({**keys, "leases": ["x", "y", "a", "b"]})
    assert (cursor.selected("leases"), cursor.place("leases")) == ("b", 3)
    cursor.settle({**keys, "leases": ["x", "y"]})
    assert cursor.selected("leases") == "y"
    cursor.settle(keys)
    assert cursor.selected("leases") is None
    cursor.move(5)
    cursor.settle({**keys, "leases": ["z"]})
    assert cursor.selected("leases") == "z"


def test_sections_are_visited_in_a_ring() -> None:
    cursor = Cursor()
    seen = []
    for _ in SECTIONS:
        cursor.turn(1)
        seen.append(cursor.section)
    assert seen == [*SECTIONS[1:], SECTIONS[0]]
    cursor.turn(-1)
    assert cursor.section == SECTIONS[-1]


def test_names_of_others_cannot_write_to_the_terminal() -> None:
    evil = "a\x1b[2J\x07\nb"
    shown = drawn(
        board(
            gpus=[wire_samples.gpu(name=evil)],
            leases=[wire_samples.lease(name=evil)],
            processes=[process(command=evil, user=evil)],
            queue=[wire_samples.waiter(name=evil, reason=evil)],
            trouble=evil,
        )
    )
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", shown)
    assert "?[2J" in shown


def test_what_is_not_known_is_a_dash_and_nothing_at_all_is_said() -> None:
    empty = drawn(Board(trouble="no daemon, waiting for one"))
    assert empty.startswith("no daemon, waiting for one")
    assert "nobody waits" in empty
    assert "None" not in drawn(board(processes=[process(vram_bytes=None, user=None, uid=None)]))


def test_trouble_is_told_apart() -> None:
    assert "no daemon" in _trouble(errors.DaemonNotRunningError("x"))
    assert "does not answer" in _trouble(errors.ReplyTimeoutError("x"))
    assert _trouble(errors.BusyError("too many")) == "too many"


def test_without_the_library_the_command_that_installs_it_is_told(
    ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    assert ctl("top") == 1
    assert f"{sys.executable} -m pip install '{LIBRARY}'" in ctl.err


def test_a_pipe_and_json_are_told_what_to_use_instead(ctl: Ctl) -> None:
    assert ctl("top") == 2
    assert "superezioctl status" in ctl.err
    assert ctl("--json", "top") == 2
    assert "superezioctl --json status" in ctl.err


def needed_by(distribution: str) -> set[str]:
    """Return the distributions that one needs here, itself included, extras left out."""
    found = {distribution}
    for requirement in importlib.metadata.requires(distribution) or ():
        if "extra ==" not in requirement:
            found |= needed_by(re.split(r"[^\w.-]", requirement)[0])
    return found


def required_by_top() -> list[str]:
    """Return what the extra of that name brings."""
    return [
        each.partition(";")[0].strip()
        for each in importlib.metadata.requires("superezio") or ()
        if re.search(r"extra == ['\"]top['\"]", each)
    ]


def test_the_extra_brings_no_rich_which_structlog_would_import_into_the_daemon() -> None:
    (top,) = required_by_top()
    assert re.match(r"prompt[_-]toolkit\b", top)
    assert needed_by("prompt_toolkit") == {"prompt_toolkit", "wcwidth"}


def test_the_library_is_the_one_of_the_extra() -> None:
    """No index has to know the package; that of the library does."""
    (top,) = required_by_top()
    assert top.replace("-", "_") == LIBRARY


def test_why_somebody_waits_is_not_cut_off_on_eighty_columns() -> None:
    why = "9.0 GiB: GPU 0: 3.7 GiB free, needs 9.0 GiB; GPU 1: holds 5.7 GiB at most even empty"
    waiter = wire_samples.waiter(name="a name that goes on and on", reason=why)
    lines = drawn(board(queue=[waiter])).splitlines()
    start = next(number for number, line in enumerate(lines) if "waits" in line)
    assert lines[start].endswith(" at most")
    assert " ".join(line.strip() for line in lines[start + 1 : start + 3]) == why
    assert max(map(len, lines[start : start + 3])) <= 80
    longer = structs.replace(waiter, reason=why * 9)
    lines = drawn(board(queue=[longer])).splitlines()
    assert any(line.endswith("…") for line in lines)


def test_a_container_does_not_push_the_command_out_of_the_screen() -> None:
    shown = board(processes=[process(container="f" * 64, command="python serve.py")])
    (line,) = [line for line in drawn(shown).splitlines() if "ffff" in line]
    assert "python" in line
    assert len(line) <= 80


def test_a_row_that_is_too_long_shows_that_it_is_cut() -> None:
    holder = [wire.HolderProcess(pid=7, start_time=1, command="x" * 200)]
    lines = drawn(board(leases=[wire_samples.lease(holder=holder)])).splitlines()
    (line,) = [line for line in lines if "xxx" in line]
    assert (len(line), line[-1]) == (80, "…")
