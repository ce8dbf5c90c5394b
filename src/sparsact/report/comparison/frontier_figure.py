"""Score against density: the figure that a comparison is made for."""

import statistics
from collections.abc import Iterable, Sequence
from itertools import groupby

from sparsact.report.charts.axis import linear_axis
from sparsact.report.charts.chart import Chart, key_line
from sparsact.report.comparison.comparison_records import ComparisonReport, SettingRow
from sparsact.report.comparison.comparison_table import cells

WIDE, NARROW = (900, 470), (370, 430)
"""In pixels; a style sheet shows the one that fits the screen."""
CLOSE = 0.4
"""The best settings are also drawn larger if their scores span less than this of all scores."""


def frontier(report: ComparisonReport) -> str:
    """The settings with their spreads, the Pareto front and the constant prediction."""
    rows = measured(report.rows)
    best = close_up(rows)
    parts = [_key(report), _drawing(report, rows)]
    if best:
        parts += ["<h3>The best scores, enlarged</h3>", _drawing(report, best)]
    return "".join(parts)


def measured(rows: Iterable[SettingRow]) -> list[SettingRow]:
    """The settings that have a point, those first whose labels matter most."""
    shown = [row for row in rows if row.density is not None and row.score is not None]
    return sorted(shown, key=lambda row: (not row.picked, not is_named(row)))


def is_named(row: SettingRow) -> bool:
    """Whether a setting is named where there is little room."""
    return row.picked or row.on_front or row.activation == "relu"


def is_hollow(row: SettingRow) -> bool:
    """Whether a test says that the score cannot be told from ReLU's."""
    return row.p_value is not None and not row.differs


def front_points(rows: Iterable[SettingRow]) -> list[tuple[float, float]]:
    """(density, score) of the settings on the front, from sparse to dense."""
    return sorted(point_of(row) for row in measured(rows) if row.on_front)


def lines(rows: Iterable[SettingRow]) -> list[list[SettingRow]]:
    """The settings that a line joins, from sparse to dense.

    These are the points of one annealed training, or three settings or more of one activation.
    """

    def key(row: SettingRow) -> tuple[str, bool]:
        return row.activation, row.annealed is not None

    groups = (list(group) for _, group in groupby(sorted(measured(rows), key=key), key=key))
    return [
        sorted(group, key=point_of)
        for group in groups
        if len(group) > (2 if group[0].annealed is None else 1)
    ]


def label_of(row: SettingRow) -> str:
    """What is written beside a point; an annealed training is named at its first point."""
    if row.annealed is None or row.picked:
        return row.label
    return f"{row.activation}, annealed" if row.annealed == 1 else ""


def close_up(rows: Sequence[SettingRow]) -> list[SettingRow]:
    """The settings with the best scores, if poor ones leave little room for them; else none."""
    scores = sorted(row.score.mean for row in rows if row.score is not None)
    if len(scores) < 4:
        return []
    low = scores[-1] - 2.5 * (scores[-1] - statistics.median(scores))
    best = [row for row in rows if row.score is not None and row.score.mean >= low]
    kept = [score for score in scores if score >= low]
    return best if kept[-1] - kept[0] < CLOSE * (scores[-1] - scores[0]) else []


def _drawing(report: ComparisonReport, rows: Sequence[SettingRow]) -> str:
    wide, unnamed = _chart(report, rows, *WIDE, [row.label for row in rows])
    narrow, _ = _chart(report, rows, *NARROW, [row.label for row in rows if is_named(row)])
    note = f'<p class="how">{unnamed} labels found no room.</p>' if unnamed else ""
    return f"<figure>{wide.svg('wide')}{narrow.svg('narrow')}</figure>{note}"


def _chart(
    report: ComparisonReport, rows: Sequence[SettingRow], width: int, height: int, named: list[str]
) -> tuple[Chart, int]:
    """The drawing, and how many labels it lacks."""
    spans = [
        (row.score.mean + sign * (row.score.sd or 0.0))
        for row in rows
        if row.score is not None
        for sign in (-1, 1)
    ]
    x = linear_axis(
        (point_of(row)[0] for row in rows),
        "density: share of non-zero activations (test part)",
        percent=True,
        most=width // 60,
    )
    y = linear_axis(spans, f"{report.score_name} (test part)", most=7)
    chart = Chart(x, y, width, height, f"{report.score_name} against density")
    colours = report.classes()
    for joined in lines(rows):
        xs, ys = zip(*map(point_of, joined), strict=True)
        chart.line(xs, ys, colours[joined[0].label], style="thin")
    front = front_points(rows)
    if len(front) > 1:
        xs, ys = zip(*front, strict=True)
        chart.line(xs, ys, "front", style="dotted", hint="Pareto front")
    if report.baseline is not None:
        baseline = report.baseline
        chart.level(baseline.score, "muted", f"{baseline.label}: {baseline.score:.3f}")
    for row in rows:
        chart.point(
            *point_of(row),
            colours[row.label],
            errors=errors_of(row),
            style="star" * row.picked + " hollow" * is_hollow(row),
            label=label_of(row) if row.label in named else "",
            hint=_hint(row, report.score_name),
        )
    return chart, chart.write_labels()


def point_of(row: SettingRow) -> tuple[float, float]:
    """Density and score of a setting that has both."""
    assert row.density is not None
    assert row.score is not None
    return row.density.mean, row.score.mean


def errors_of(row: SettingRow) -> tuple[float, float]:
    """Standard deviations of density and score over the seeds."""
    assert row.density is not None
    assert row.score is not None
    return row.density.sd or 0.0, row.score.sd or 0.0


def _hint(row: SettingRow, score_name: str) -> str:
    label, score, density, *_ = cells(row)
    test = "" if row.p_value is None else f"; against ReLU p = {row.p_value:.2g}"
    return f"{label}: {score_name} {score}, density {density}{test}"


def _key(report: ComparisonReport) -> str:
    """What colours and marks mean, in a line."""
    colours = report.classes()
    families = {
        row.family: colours[row.label]
        for row in report.rows
        if row.family and row.activation != "relu"
    }
    words = ["★ the choice", "dotted: the Pareto front", "bars: standard deviation over seeds"]
    if any(row.annealed is not None for row in report.rows):
        words.append("a line: the points of one annealed training")
    if any(row.p_value is not None for row in report.rows):
        words.append("hollow: the score cannot be told from ReLU's (p ≥ 0.05)")
    return key_line(families, words)
