"""The interactive figures of a comparison."""

from collections.abc import Iterable

from sparsact._common.extras import require
from sparsact.report.comparison.comparison_records import (
    ComparisonReport,
    DensityTrace,
    HistogramTrace,
    SettingRow,
)
from sparsact.report.palette import FRONT, INK, colours
from sparsact.report.plotly_figures import Figure, dress, new_figure


def frontier(report: ComparisonReport) -> Figure:
    """Score against density; the Pareto front and the choice are marked."""
    figure = new_figure(f"{report.score_name} against density", height=520)
    palette = colours(row.label for row in report.rows)
    for row in report.rows:
        if row.density is not None and row.score is not None:
            figure.add_scatter(
                x=[row.density.mean],
                y=[row.score.mean],
                error_x={"array": [row.density.sd or 0.0], "thickness": 1},
                error_y={"array": [row.score.sd or 0.0], "thickness": 1},
                mode="markers",
                marker={
                    "size": 15 if row.picked else 10,
                    "symbol": "star" if row.picked else "circle",
                    "color": palette[row.label],
                },
                name=row.label,
            )
    front = front_points(report.rows)
    figure.add_scatter(
        x=[x for x, _ in front],
        y=[y for _, y in front],
        mode="lines",
        line={"dash": "dot", "color": FRONT},
        name="Pareto front",
        hoverinfo="skip",
    )
    figure.update_xaxes(title="density: share of non-zero activations", tickformat=".0%")
    figure.update_yaxes(title=f"test {report.score_name}")
    return figure


def front_points(rows: Iterable[SettingRow]) -> list[tuple[float, float]]:
    """(density, score) of the settings on the front, from sparse to dense."""
    return sorted(
        (row.density.mean, row.score.mean)
        for row in rows
        if row.on_front and row.density is not None and row.score is not None
    )


MOST_PANELS = 6
"""Networks with more layers than this get a heat map instead of panels."""


def densities(report: ComparisonReport) -> Figure:
    """Density over the epochs, one panel per layer; of many layers, a map of the last epoch."""
    if len(_layers(report.densities)) > MOST_PANELS:
        return _density_map(report)
    figure = _panels(report.densities, "density per layer over the epochs (validation part)")
    palette = colours(row.label for row in report.rows)
    layers = _layers(report.densities)
    for trace in report.densities:
        figure.add_scatter(
            x=list(range(1, len(trace.density) + 1)),
            y=trace.density,
            mode="lines",
            line={"color": palette[trace.label]},
            name=trace.label,
            legendgroup=trace.label,
            showlegend=trace.layer == layers[0],
            row=1,
            col=layers.index(trace.layer) + 1,
        )
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    return figure


def _density_map(report: ComparisonReport) -> Figure:
    """Settings against layers, in the order of the network."""
    layers = _layers(report.densities)
    last = {(trace.label, trace.layer): trace.density[-1] for trace in report.densities}
    labels = list(dict.fromkeys(label for label, _ in last))
    figure = new_figure(
        "density per layer at the end (validation part)",
        height=200 + 26 * len(labels) + 6 * max(map(len, layers)),
    )
    figure.add_heatmap(
        x=layers,
        y=labels,
        z=[[last.get((label, layer)) for layer in layers] for label in labels],
        zmin=0,
        zmax=1,
        colorscale="Viridis",
        colorbar={"tickformat": ".0%"},
        hovertemplate="%{y}<br>%{x}<br>%{z:.1%}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(tickangle=90)
    return figure


def histograms(report: ComparisonReport) -> Figure:
    """Distribution of the non-zero activations, one panel per layer; most settings are hidden.

    Of many layers, some at equal distances are shown.
    """
    every = _layers(report.histograms)
    layers = _spread_out(every)
    some = f"; {len(layers)} of {len(every)} layers" if len(layers) < len(every) else ""
    traces = [trace for trace in report.histograms if trace.layer in layers]
    figure = _panels(traces, f"non-zero activations (test part{some}; click to add settings)")
    palette = colours(row.label for row in report.rows)
    shown = {row.label for row in report.rows if row.picked or row.activation == "relu"}
    for trace in traces:
        figure.add_scatter(
            x=trace.centres,
            y=trace.share,
            mode="lines",
            line={"shape": "hvh", "color": palette[trace.label]},
            fill="tozeroy",
            name=trace.label,
            legendgroup=trace.label,
            showlegend=trace.layer == layers[0],
            visible=True if trace.label in shown else "legendonly",
            row=1,
            col=layers.index(trace.layer) + 1,
        )
    figure.update_xaxes(title="activation")
    figure.update_yaxes(tickformat=".0%")
    return figure


def curves(report: ComparisonReport) -> Figure:
    """Each function and its gradient."""
    subplots = require("plotly.subplots", "report")
    columns = 4
    rows = max(1, -(-len(report.curves) // columns))
    figure = subplots.make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[curve.label for curve in report.curves],
        horizontal_spacing=0.05,
        vertical_spacing=0.3 / rows,
    )
    for i, curve in enumerate(report.curves):
        for name, values, colour in [("f(x)", curve.y, INK), ("f′(x)", curve.slope, FRONT)]:
            figure.add_scatter(
                x=curve.x,
                y=values,
                mode="lines",
                line={"color": colour, "dash": "solid" if colour == INK else "dot"},
                name=name,
                legendgroup=name,
                showlegend=i == 0,
                row=i // columns + 1,
                col=i % columns + 1,
            )
    figure.update_yaxes(range=[-2.2, 2.2])
    return dress(figure, "shape and gradient of each function", height=60 + 230 * rows)


def _panels(traces: Iterable[DensityTrace | HistogramTrace], title: str) -> Figure:
    layers = _layers(traces)
    figure = require("plotly.subplots", "report").make_subplots(
        rows=1, cols=max(1, len(layers)), subplot_titles=layers, shared_yaxes=True
    )
    return dress(figure, title, height=440)


def _spread_out(layers: list[str]) -> list[str]:
    """At most so many layers as panels fit, the first and the last among them."""
    if len(layers) <= MOST_PANELS:
        return layers
    step = (len(layers) - 1) / (MOST_PANELS - 1)
    return [layers[round(i * step)] for i in range(MOST_PANELS)]


def _layers(traces: Iterable[DensityTrace | HistogramTrace]) -> list[str]:
    return list(dict.fromkeys(trace.layer for trace in traces))
