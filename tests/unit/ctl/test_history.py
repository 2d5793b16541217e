from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wire_samples
from ctl_runner import Ctl
from fake_daemon import FakeDaemon
from superezio import wire
from superezioctl.output import Output
from superezioctl.views import history, plot
from superezioctl.views.plot import Point, Scale

NOW = datetime.fromisoformat("2026-11-28T15:00:00+00:00")
GIB = 1 << 30
NARROW = 12


def points(*values: float | None) -> list[Point]:
    """Return a value each second, the last half a second ago; None is a second without one."""
    return [
        Point(len(values) - number - 0.5, value, value, value)
        for number, value in enumerate(values)
        if value is not None
    ]


def drawn(
    given_points: Sequence[Point], axis: Scale, *, width: int, rows: int, braille: bool = False
) -> list[str]:
    return plot.plot(
        given_points,
        axis,
        span_s=given_points[0].age_s + 0.5,
        gap_s=1.5,
        now=NOW,
        width=width,
        rows=rows,
        margin=axis.margin,
        braille=braille,
    )


def test_a_curve_has_its_values_at_their_times_and_a_label_at_each_step() -> None:
    axis = Scale(0, 40, 20)
    lines = drawn(points(0, 10, 20, 30, 40, 30, 20, 10, 0, 0), axis, width=14, rows=5)
    assert lines == [
        "40 +    *",
        "   |   * *",
        "20 +  *   *",
        "   | *     *",
        " 0 +*       **",
        "   +---------+",
        "           now",
    ]


def test_braille_has_eight_dots_in_a_column() -> None:
    lines = drawn(points(0, 1, 2, 3), Scale(0, 3, 3), width=5, rows=1, braille=True)
    assert lines[0] == "3 ┤⡠⠊", "the dots of 0 and 1, then of 2 and 3"


def test_what_is_not_known_is_a_gap() -> None:
    whole = drawn(points(1, 1, 1, 1, 1, 1), Scale(0, 2, 1), width=9, rows=3)
    gap = drawn(points(1, 1, None, None, 1, 1), Scale(0, 2, 1), width=9, rows=3)
    assert whole[1] == "1 +******"
    assert gap[1] == "1 +**  **"


def test_a_peak_within_a_column_is_not_averaged_away() -> None:
    tall = [Point(4.5 - n, 0, 1 if n == 2 else 0, 2 if n == 2 else 0) for n in range(5)]
    assert drawn(tall, Scale(0, 2, 2), width=8, rows=3)[0] == "2 +  *"


def test_times_end_with_now_and_say_the_day_where_it_is_another() -> None:
    hour = [Point(3600 - n, 1, 1, 1) for n in range(0, 3600, 60)]
    times = drawn(hour, Scale(0, 1, 1), width=80, rows=3)[-1]
    assert times.split() == ["13:59", "14:15", "14:31", "14:46", "now"]
    assert times.endswith("now")
    few = drawn(points(*[1.0] * 60), Scale(0, 1, 1), width=80, rows=3)[-1]
    assert few.split()[0] == "14:59:00"
    day = [Point(86_400 - n, 1, 1, 1) for n in range(0, 86_400, 900)]
    assert "Fri 14:59" in drawn(day, Scale(0, 1, 1), width=80, rows=3)[-1]


@given(
    least=st.floats(-1000, 1e6, allow_nan=False),
    more=st.floats(0, 1e6, allow_nan=False),
    labels=st.integers(1, 7),
)
def test_an_axis_holds_all_there_is_in_few_round_steps(
    least: float, more: float, labels: int
) -> None:
    axis = plot.scale(least, least + more, labels=labels)
    slack = 1e-6 * axis.step
    assert axis.floor <= least + slack
    assert axis.ceiling >= least + more - slack
    assert 2 <= len(axis.ticks) <= labels + 3
    assert f"{axis.step:.0e}"[0] in "125"


@given(
    values=st.lists(st.one_of(st.none(), st.floats(0, 1e4)), min_size=1, max_size=200).filter(
        lambda values: any(value is not None for value in values)
    ),
    width=st.integers(NARROW, 200),
    rows=st.integers(1, 20),
    braille=st.booleans(),
)
def test_a_drawing_is_within_its_width_whatever_is_in_it(
    values: list[float | None],
    width: int,
    rows: int,
    braille: bool,  # noqa: FBT001 - by name, as hypothesis gives it
) -> None:
    found = points(*values)
    axis = plot.scale(0, max(point.most for point in found), labels=3)
    lines = drawn(found, axis, width=width, rows=rows, braille=braille)
    assert len(lines) == rows + 2
    assert max(map(len, lines)) <= max(width, axis.margin + 2 + len("now"))
    assert braille or "".join(lines).isascii()
    assert any(set(line[axis.margin + 1 :]) - {" "} for line in lines[:rows])


class Stream(io.StringIO):
    encoding = "utf-8"


class PlainStream(Stream):
    encoding = "ascii"


def past(**changes: Any) -> wire.GpuHistory:
    def of(value: float) -> list[wire.HistoryPoint]:
        return [wire.HistoryPoint(age_s=n, min=value, mean=value, max=value) for n in range(60)]

    whole = wire.GpuHistory(
        gpu="GPU-1",
        resolution_s=1.0,
        temperature_c=of(61),
        power_w=of(120),
        utilization_core_percent=of(80),
        vram_used_bytes=of(5 * GIB),
    )
    return msgspec.structs.replace(whole, **changes)


def shown(stream: Stream, *metrics: str, **changes: Any) -> str:
    out = Output(json=False, stdout=stream)
    raw = msgspec.json.encode(past(**changes))
    gpu = msgspec.json.encode(wire_samples.gpu())
    history.show(out, raw, gpu, metrics=metrics, now=NOW + timedelta(microseconds=1))
    return stream.getvalue()


def test_every_metric_has_its_curve_with_units_and_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    text = shown(Stream())
    for title in ("temperature in °C: 61 least", "power in W: 120 least", "VRAM used in GiB: 5"):
        assert title in text
    assert "utilisation in %: 80 least, 80 mean, 80 most" in text
    assert text.count("now") == 4
    axes = {line.index("└") for line in text.splitlines() if "└" in line}
    assert len(axes) == 1, "times are below each other"
    assert max(map(len, text.splitlines())) <= 80
    assert "⠤" in text or "⠒" in text or "⠉" in text


def test_one_metric_is_drawn_alone_and_taller() -> None:
    alone, two = shown(Stream(), "power"), shown(Stream(), "power", "vram")
    assert "temperature" not in alone + two
    assert alone.count("\n") > two.count("\n") / 2 + 3


@pytest.mark.parametrize(("stream", "term"), [(PlainStream, "xterm"), (Stream, "linux")])
def test_terminals_without_braille_get_ascii(
    monkeypatch: pytest.MonkeyPatch, stream: type[Stream], term: str
) -> None:
    monkeypatch.setenv("TERM", term)
    text = shown(stream())
    assert "*" in text
    assert text.replace("°", "").isascii()
    assert stream is Stream or text.isascii()


def test_the_gpu_is_named_as_people_do_and_the_steps_are_said_to_be_values() -> None:
    assert shown(Stream()).splitlines()[0].startswith("gpu 0: RTX 3060, the last ")
    assert "a value for each 1s" in shown(Stream()).splitlines()[0]


def test_no_vram_at_all_has_no_hundredths_on_its_axis() -> None:
    none = [wire.HistoryPoint(age_s=1, min=0, mean=0, max=0)]
    text = shown(Stream(), "vram", vram_used_bytes=none)
    labels = {line.split()[0] for line in text.splitlines() if "┤" in line}
    assert labels == {"0", "1"}


def test_small_vram_is_in_mib_and_nothing_known_is_said() -> None:
    few = [wire.HistoryPoint(age_s=1, min=300 << 20, mean=300 << 20, max=300 << 20)]
    text = shown(Stream(), vram_used_bytes=few, power_w=[])
    assert "VRAM used in MiB: 300 least" in text
    assert "power: nothing known" in text


def test_the_command_takes_metrics_and_json_has_them_all(ctl: Ctl, daemon: FakeDaemon) -> None:
    assert ctl("gpu", "history", "0", "--metric", "power", "--metric", "vram") == 0
    assert "power in W" in ctl.out
    assert "temperature" not in ctl.out
    raw = json.loads(msgspec.json.encode(daemon.answers["gpu.history"]))
    assert ctl.json("gpu", "history", "0", "--metric", "power") == raw
    assert ctl("gpu", "history", "0", "--metric", "smell") == 2
    assert "utilisation" in ctl.err
    assert Path(daemon.path).exists()
