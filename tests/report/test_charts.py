"""Axes, drawings and labels, against matplotlib's ticks, an XML parser and brute force."""

import math
import random
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.ticker import MaxNLocator

from sparsact.report.charts.axis import Axis, linear_axis, logarithmic_axis, named_axis
from sparsact.report.charts.chart import PIXELS, Chart, grid, key_line
from sparsact.report.charts.label_places import Box, along, leader, place_labels, text_width

UNIT = Axis(0.0, 1.0, ((0.0, "0"), (1.0, "1")))
FINITE = st.floats(-1e12, 1e12, allow_nan=False)


def chart(x: Axis = UNIT, y: Axis = UNIT) -> Chart:
    return Chart(x, y, 300, 200, "a <label>")


def parsed(drawing: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(drawing.svg())


def marks(drawing: Chart, name: str) -> list[ElementTree.Element]:
    """The elements whose class has this word."""
    return [e for e in parsed(drawing).iter() if name in e.get("class", "").split()]


@given(st.lists(FINITE, min_size=1, max_size=20), st.booleans())
@example([5e-324], True)
@example([1e-310, 2e-310], False)
def test_a_linear_axis_holds_all_values_and_has_ticks_inside(values, zero):
    axis = linear_axis(values, zero=zero)
    assert axis.low < axis.high
    assert all(axis.low <= value <= axis.high for value in values)
    assert 2 <= len(axis.ticks) <= 14
    slack = 1e-9 * (axis.high - axis.low)
    assert all(axis.low - slack <= tick <= axis.high + slack for tick, _ in axis.ticks)
    assert not zero or axis.low <= 0 <= axis.high


@pytest.mark.parametrize("ends", [(0, 1), (0.93, 0.98), (-3, 7), (0, 1234), (1e-6, 4e-6)])
def test_linear_ticks_are_those_of_matplotlib(ends):
    axis = linear_axis(ends, padding=0.0, most=6)
    low, high = ends
    theirs = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high)
    inside = [tick for tick in theirs if low - 1e-12 <= tick <= high * (1 + 1e-12)]
    assert [tick for tick, _ in axis.ticks] == pytest.approx(inside)
    assert [float(text) for _, text in axis.ticks] == pytest.approx(inside)


def test_ticks_of_shares_and_of_whole_numbers():
    axis = linear_axis((0.0, 1.0), percent=True, padding=0.0, most=5)
    assert [text for _, text in axis.ticks] == ["0%", "20%", "40%", "60%", "80%", "100%"]
    fine = linear_axis((0.990, 0.999), percent=True, padding=0.0)
    assert [text for _, text in fine.ticks][:2] == ["99.0%", "99.2%"]
    assert [text for _, text in linear_axis((1, 3), whole=True).ticks] == ["1", "2", "3"]


@pytest.mark.parametrize("values", [(), (math.nan,), (math.inf,), (2.0,), (0.0, 0.0)])
def test_an_axis_of_nothing_or_of_one_value(values):
    axis = linear_axis(values)
    assert math.isfinite(axis.low)
    assert axis.low < axis.high
    assert axis.ticks


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((0.03, math.nan, 0.2), ["0.02", "0.05", "0.1", "0.2", "0.5"]),
        ((3.0, 3.1), ["2", "5"]),
        ((1.0, 0.0, 1.0), ["1", "2"]),
        ((0.001, math.inf, 2.0), ["0.001", "0.01", "0.1", "1", "10"]),
        ((math.nan, 0.0), ["1", "2"]),
    ],
)
def test_the_ticks_of_a_logarithmic_axis_have_complete_labels(values, texts):
    axis = logarithmic_axis(values)
    assert [text for _, text in axis.ticks] == texts
    assert (axis.low, axis.high) == (float(texts[0]), float(texts[-1]))
    assert axis.share(axis.low) == 0
    assert axis.share(axis.high) == pytest.approx(1)
    assert axis.share(math.sqrt(axis.low * axis.high)) == pytest.approx(0.5)
    assert axis.share(0.0) == axis.share(-1.0) == -math.inf


def test_names_run_from_top_to_bottom():
    axis = named_axis(["first", "second"])
    assert axis.share(0.0) > axis.share(1.0)
    assert [text for _, text in axis.ticks] == ["first", "second"]


def test_what_lies_outside_or_is_not_finite_leaves_a_gap():
    drawing = chart()
    drawing.line([0, 0.2, 0.4, 0.6, 0.8, 1], [0, 0.2, math.nan, 0.5, 2, 1], "ink")
    (line,) = marks(drawing, "stroke")
    assert line.get("d").count("M") == 3
    assert line.get("d").count("L") == 1
    drawing.point(2.0, 0.5, "ink")
    drawing.point(math.nan, 0.5, "ink")
    assert not marks(drawing, "point")


@pytest.mark.parametrize("classes", ["", "star", "hollow", "star hollow"])
def test_a_point_stands_where_its_values_are(classes):
    drawing = chart()
    drawing.point(0.25, 0.75, "c1", style=classes, errors=(0.1, 2.0), hint="<hint>")
    frame = drawing.frame
    x = frame.left + 0.25 * (frame.right - frame.left)
    y = frame.top + 0.25 * (frame.bottom - frame.top)
    (mark,) = marks(drawing, "point")
    place = mark.get("transform", f"translate({mark.get('cx')} {mark.get('cy')})")
    assert [float(word) for word in place[10:-1].split()] == pytest.approx([x, y], abs=0.05)
    (bars,) = marks(drawing, "error")
    upright = bars.get("d").rpartition("M")[2]
    assert float(upright.partition("V")[2]) == pytest.approx(frame.top, abs=0.05)  # cut off
    assert "<title>&lt;hint&gt;</title>" in drawing.svg()


def test_long_lines_keep_their_ends_and_few_points():
    drawing = chart(linear_axis((0.0, 9999.0), padding=0.0))
    drawing.line(range(10_000), [i % 2 for i in range(10_000)], "ink")
    (line,) = marks(drawing, "stroke")
    assert line.get("d").count("L") == 300 / PIXELS - 1
    assert line.get("d").startswith(f"M{drawing.frame.left:.1f}".removesuffix(".0"))
    assert f"L{drawing.frame.right:.0f} " in line.get("d")


@pytest.mark.parametrize(("height", "sign"), [(0.5, ""), (-3.0, "↓ "), (3.0, "↑ ")])
def test_a_level_outside_is_named_at_the_edge(height, sign):
    drawing = chart()
    drawing.level(height, "muted", "base")
    (text,) = marks(drawing, "fill")
    assert text.text == f"{sign}base"
    assert 0 < float(text.get("y")) < 200
    assert len(marks(drawing, "dotted")) == (0 if sign else 1)


def test_bars_and_bands_end_at_the_edge():
    drawing = chart()
    drawing.bar((0.0, 0.5), (0.0, 7.0), "c0", "a & b")
    drawing.band([0.0, 1.0, 1.0], [-5, 0, math.nan], [0.5, 9, 1], "c0")
    (bar,) = marks(drawing, "bar")
    frame = drawing.frame
    assert float(bar.get("y")) == pytest.approx(frame.top, abs=0.05)
    assert float(bar.get("height")) == pytest.approx(frame.bottom - frame.top, abs=0.1)
    (band,) = marks(drawing, "band")
    heights = [float(word) for word in band.get("points").split()[1::2]]
    assert len(heights) == 4
    assert all(frame.top - 0.1 <= y <= frame.bottom + 0.1 for y in heights)


def test_ticks_do_not_cover_each_other():
    crowded = Axis(0.0, 1.0, tuple((i / 40, f"tick {i}") for i in range(41)))
    drawing = chart(crowded)
    shown = [e for e in marks(drawing, "tick") if e.get("text-anchor") == "middle"]
    places = [(float(e.get("x")), text_width(e.text, 12.0)) for e in shown]
    assert 1 < len(places) < 10
    for (a, wide), (b, also) in pairwise(places):
        assert a + wide / 2 < b - also / 2


def crowd(count: int, seed: int) -> list[tuple[float, float]]:
    draw = random.Random(seed)
    return [
        (draw.choice([860.0, draw.uniform(60, 860)]), draw.gauss(120, 40)) for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(6))
def test_no_label_covers_a_label_or_a_point(seed):
    points = crowd(20, seed)
    texts = [f"learned_softshrink {i}" for i in range(20)]
    frame = Box(50, 20, 890, 430)
    boxes = place_labels(points, texts, frame, 12.0)
    shown = [box for box in boxes if box is not None]
    assert len(shown) >= 18
    for i, box in enumerate(shown):
        assert frame.holds(box)
        assert not any(box.overlaps(other) for other in shown[:i])
        assert not any(box.left < x < box.right and box.top < y < box.bottom for x, y in points)


def test_lines_are_avoided_where_there_is_room():
    line = list(along((0, 50), (400, 50)))
    frame = Box(0, 0, 400, 100)
    (box,) = place_labels([(200, 50)], ["label"], frame, 12.0, line)
    assert box is not None
    assert not any(box.overlaps(part) for part in line)
    flat = Box(0, 40, 400, 60)
    (box,) = place_labels([(200, 50)], ["label"], flat, 12.0, line)
    assert box is not None
    assert any(box.overlaps(part) for part in line)


def test_a_label_without_room_is_left_out_and_counted():
    drawing = chart()
    for i in range(40):
        drawing.point(0.5, 0.5, "ink", label=f"a long label, number {i}")
    left_out = drawing.write_labels()
    assert left_out > 0
    assert len(marks(drawing, "fill")) == 40 - left_out


def test_a_far_label_has_a_line_to_its_point():
    assert leader((0, 0), Box(5, -5, 50, 5)) is None
    assert leader((0, 0), Box(50, 20, 90, 30)) == (50, 20)


def test_markup_is_escaped():
    drawing = chart(Axis(0, 1, ((0.5, "<x>"),), "<title>"))
    drawing.line([0, 1], [0, 1], "ink", key="<key>", hint="<hint>")
    drawing.point(0.5, 0.5, "ink", label="<point>")
    drawing.write_labels()
    page = grid([("<caption>", drawing)])
    for word in ("<x>", "<title>t", "<key>", "<hint>", "<point>", "<caption>", "<label>"):
        assert word not in page
    assert parsed(drawing).get("aria-label") == "a <label>"
    assert key_line({}) == ""
    assert key_line({"a": "c0"}, ["<b>"]) == '<p class="key"><b class="c0">a</b> · &lt;b&gt;</p>'
