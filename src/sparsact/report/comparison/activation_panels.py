"""Small drawings of the activations: their distribution, their shape and their gradient."""

from collections.abc import Iterable

from sparsact.report.charts.axis import Axis, linear_axis
from sparsact.report.charts.chart import Chart, grid
from sparsact.report.comparison.comparison_records import ComparisonReport, HistogramTrace

SIZE = 250, 140
MOST_LAYERS = 4
"""Of a deeper network, so many layers at equal distances are drawn."""

MOST_BINS = 64
"""Of more bins, which are an even number, pairs are drawn as one."""
RARE = 1e-3
"""Bins beyond all that hold more than this share are left out."""


def histograms(report: ComparisonReport) -> str:
    """Distribution of the non-zero activations: the choice and ReLU, and others when opened."""
    layers = spread_out(list(dict.fromkeys(trace.layer for trace in report.histograms)))
    first = {row.label for row in report.rows if row.picked or row.activation == "relu"}
    labels = report.trained() | first
    traces = [t for t in report.histograms if t.layer in layers and t.label in labels]
    rest = grid(_histograms(report, (t for t in traces if t.label not in first)))
    more = f"<details><summary>other settings</summary>{rest}</details>"
    shown = grid(_histograms(report, (t for t in traces if t.label in first)))
    return shown + more if any(t.label not in first for t in traces) else shown


def spread_out(layers: list[str]) -> list[str]:
    """At most so many layers as are drawn, the first and the last among them."""
    if len(layers) <= MOST_LAYERS:
        return layers
    step = (len(layers) - 1) / (MOST_LAYERS - 1)
    return [layers[round(i * step)] for i in range(MOST_LAYERS)]


def _histograms(
    report: ComparisonReport, traces: Iterable[HistogramTrace]
) -> Iterable[tuple[str, Chart]]:
    colours = report.classes()
    for trace in traces:
        bins = [*zip(trace.centres, trace.share, strict=True)]
        if len(bins) > MOST_BINS:
            bins = [
                ((a + b) / 2, p + q) for (a, p), (b, q) in zip(bins[::2], bins[1::2], strict=True)
            ]
        x = linear_axis((centre for centre, share in bins if share > RARE), padding=0.02)
        bins = [(centre, share) for centre, share in bins if x.low <= centre <= x.high]
        y = linear_axis((share for _, share in bins), percent=True, zero=True, most=4)
        title = f"{trace.label} · {trace.layer}"
        chart = Chart(x, y, *SIZE, f"non-zero activations of {title}")
        xs, ys = zip((bins[0][0], 0.0), *bins, (bins[-1][0], 0.0), strict=True)
        chart.line(xs, ys, colours[trace.label], style="thin filled")
        yield title, chart


def functions(report: ComparisonReport) -> str:
    """Each function, and its gradient as a dotted line."""
    return grid(_functions(report))


def _functions(report: ComparisonReport) -> Iterable[tuple[str, Chart]]:
    ticks = tuple((float(i), str(i)) for i in range(-2, 3))
    x, y = Axis(-2.0, 2.0, ticks), Axis(-2.2, 2.2, ticks)
    for curve in report.curves:
        chart = Chart(x, y, *SIZE, f"{curve.label} and its gradient")
        chart.line(curve.x, curve.slope, "front", style="dotted", hint="f′(x)")
        chart.line(curve.x, curve.y, "ink", hint="f(x)")
        yield curve.label, chart
