"""Small drawings of the trainings: one per setting, ReLU in grey behind it."""

import statistics
from collections.abc import Sequence

from sparsact.report.charts.axis import Axis, linear_axis
from sparsact.report.charts.chart import Chart, grid
from sparsact.report.comparison.comparison_records import (
    ComparisonReport,
    DensityTrace,
    LambdaTrace,
)

SIZE = 250, 150
MOST_LINES = 6
"""More layers than this are drawn as a band from the lowest to the highest."""


def learning_curves(report: ComparisonReport) -> str:
    """Validation score over the epochs; the band is the standard deviation over the seeds."""
    traces = [trace for trace in report.learning if trace.label in report.trained()]
    values = sorted(value for trace in traces for value in trace.score)
    y = linear_axis(values[len(values) // 20 :], most=5)  # a bad start would flatten the rest
    colours = report.classes()
    reference = next((t for t in traces if _is_relu(report, t.label)), None)
    figures = []
    for trace in traces:
        epochs = _epochs(trace.score)
        chart = Chart(_epoch_axis(epochs), y, *SIZE, f"{report.score_name} of {trace.label}")
        if trace.sd is not None:
            pairs = list(zip(trace.score, trace.sd, strict=True))
            low, high = [m - sd for m, sd in pairs], [m + sd for m, sd in pairs]
            chart.band(epochs, low, high, colours[trace.label])
        if reference is not None and reference is not trace:
            chart.line(epochs, reference.score[: len(epochs)], "faint", style="thin", hint="ReLU")
        hint = f"{trace.label}: {trace.score[-1]:.3f} at the end"
        chart.line(epochs, trace.score, colours[trace.label], hint=hint)
        figures.append((trace.label, chart))
    return grid(figures)


def density_curves(report: ComparisonReport) -> str:
    """Density of each layer over the epochs."""
    traces = {
        label: {trace.layer: trace.density for trace in report.densities if trace.label == label}
        for label in _labels(report, report.densities)
    }
    y = linear_axis((0.0, 1.0), percent=True, zero=True, padding=0.0, most=4)
    return _by_layer(report, traces, y)


def lambda_curves(report: ComparisonReport) -> str:
    """The learned λ of each layer over the epochs."""
    traces = {
        label: {trace.layer: trace.lambd for trace in report.lambdas if trace.label == label}
        for label in _labels(report, report.lambdas)
    }
    values = (value for trace in report.lambdas for value in trace.lambd)
    return _by_layer(report, traces, linear_axis(values, most=5))


def _by_layer(
    report: ComparisonReport, traces: dict[str, dict[str, tuple[float, ...]]], y: Axis
) -> str:
    colours = report.classes()
    figures = []
    for label, layers in traces.items():
        columns = list(zip(*layers.values(), strict=True))
        epochs = _epochs(columns)
        chart = Chart(_epoch_axis(epochs), y, *SIZE, f"layers of {label} over the epochs")
        if len(layers) > MOST_LINES:
            chart.band(epochs, [*map(min, columns)], [*map(max, columns)], colours[label])
        else:
            for layer, values in layers.items():
                hint = f"{layer}: {values[-1]:.3g} at the end"
                chart.line(epochs, values, colours[label], style="thin", hint=hint)
        mean = [statistics.fmean(column) for column in columns]
        chart.line(epochs, mean, colours[label], hint=f"mean: {mean[-1]:.3g} at the end")
        figures.append((label, chart))
    return grid(figures)


def _labels(report: ComparisonReport, traces: Sequence[DensityTrace | LambdaTrace]) -> list[str]:
    labels = dict.fromkeys(trace.label for trace in traces)
    return [label for label in labels if label in report.trained()]


def _is_relu(report: ComparisonReport, label: str) -> bool:
    return any(row.label == label and row.activation == "relu" for row in report.rows)


def _epochs(values: Sequence[object]) -> list[float]:
    return [float(epoch) for epoch in range(1, len(values) + 1)]


def _epoch_axis(epochs: Sequence[float]) -> Axis:
    return linear_axis(epochs, whole=True, padding=0.02)
