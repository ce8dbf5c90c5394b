"""The interactive figures of an autoencoder: small plots, shown side by side."""

import math
from itertools import pairwise
from typing import Any

from sparsact.report.autoencoder.autoencoder_records import Bars, Panel
from sparsact.report.palette import FRONT, INK, PALETTE
from sparsact.report.plotly_figures import Figure, new_figure


def curves(panel: Panel) -> Figure:
    """The curves of one panel over the steps."""
    figure = _small_figure(panel.title)
    for trace, colour in zip(panel.traces, PALETTE, strict=False):
        figure.add_scatter(
            x=panel.steps,
            y=[float(f"{value:.5g}") for value in trace.values],
            mode="lines",
            line={"color": colour, "width": 1.5},
            name=trace.name,
            showlegend=len(panel.traces) > 1,
        )
    if panel.target is not None:
        figure.add_hline(y=panel.target, line={"dash": "dot", "color": FRONT})
    figure.update_layout(legend={"orientation": "h", "y": -0.25}, hovermode="x unified")
    figure.update_xaxes(title="step")
    if panel.logarithmic:
        figure.update_yaxes(type="log", **_ticks(panel))
    else:
        figure.update_yaxes(rangemode="tozero")
    return figure


def _ticks(panel: Panel) -> dict[str, Any]:
    """The range of a logarithmic axis, and ticks with complete labels.

    Plotly labels ticks between decades with a single digit, such as 5 for 0.05, and can leave out
    the decades.
    """
    values = [value for trace in panel.traces for value in trace.values]
    positive = [value for value in values if 0 < value < math.inf]
    if not positive:
        return {}
    low, high = min(positive), max(positive)
    multiples = (1, 2, 5) if high < 100 * low else (1,)
    exponents = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 2)
    ticks = [float(f"{multiple}e{exponent}") for exponent in exponents for multiple in multiples]
    first, last = max(t for t in ticks if t <= low), min(t for t in ticks if t > high)
    shown = [tick for tick in ticks if first <= tick <= last]
    return {
        "range": [math.log10(first), math.log10(last)],
        "tickvals": shown,
        "ticktext": [f"{tick:g}" for tick in shown],
    }


def densities(bars: Bars) -> Figure:
    """The histogram of the latents' densities."""
    figure = _small_figure("How often latents fire")
    figure.add_bar(
        x=[(low + high) / 2 for low, high in pairwise(bars.edges)],
        y=bars.counts,
        width=[high - low for low, high in pairwise(bars.edges)],
        marker={"color": INK},
    )
    figure.update_xaxes(title="log₁₀ of the share of inputs")
    figure.update_yaxes(title="latents")
    return figure


def _small_figure(title: str) -> Figure:
    """A figure without the row of buttons, which would cover the title. Dragging still zooms."""
    figure = new_figure(title, height=320)
    buttons = ["zoom", "pan", "select", "lasso", "zoomIn", "zoomOut", "autoScale", "resetScale"]
    figure.update_layout(modebar={"remove": [*buttons, "toImage"]})
    return figure
