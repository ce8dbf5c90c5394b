"""The interactive figures of an autoencoder, small ones side by side."""

from itertools import pairwise

from sparsact.report.autoencoder.records import Bars, Panel
from sparsact.report.figures import Figure, new_figure
from sparsact.report.style import FRONT, INK, PALETTE


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
        figure.update_yaxes(type="log", dtick="D2")
    else:
        figure.update_yaxes(rangemode="tozero")
    return figure


def densities(bars: Bars) -> Figure:
    """How many latents fire how often."""
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
    """Without the row of buttons, which would lie on the title: dragging zooms all the same."""
    figure = new_figure(title, height=320)
    buttons = ["zoom", "pan", "select", "lasso", "zoomIn", "zoomOut", "autoScale", "resetScale"]
    figure.update_layout(modebar={"remove": [*buttons, "toImage"]})
    return figure
