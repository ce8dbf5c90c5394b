"""The figures of an autoencoder: small plots, shown side by side."""

from itertools import pairwise

from sparsact.report.autoencoder.autoencoder_records import Bars, Panel
from sparsact.report.charts.axis import Axis, linear_axis, logarithmic_axis
from sparsact.report.charts.chart import Chart

SIZE = 400, 240


def curves(panel: Panel) -> Chart:
    """The curves of one panel over the steps; several have a key."""
    chart = Chart(linear_axis(panel.steps, "step", padding=0.02), _axis(panel), *SIZE, panel.title)
    if panel.target is not None:
        chart.level(panel.target, "front", f"target {panel.target:g}")
    for i, trace in enumerate(panel.traces):
        hint = f"{trace.name}: {trace.values[-1]:.4g} at the end" if trace.values else trace.name
        key = trace.name if len(panel.traces) > 1 else ""
        chart.line(panel.steps, trace.values, f"c{i}", hint=hint, key=key)
    return chart


def _axis(panel: Panel) -> Axis:
    values = [value for trace in panel.traces for value in trace.values]
    if panel.logarithmic:
        return logarithmic_axis(values)
    return linear_axis([*values, panel.target or 0.0], zero=True)


def densities(bars: Bars) -> Chart:
    """The histogram of the latents' densities."""
    return _histogram(bars, "log₁₀ of the share of inputs", "How often latents fire")


def cosines(bars: Bars) -> Chart:
    """The histogram of cosines between the directions of two autoencoders."""
    return _histogram(bars, "cosine of the decoder", "Nearest latent of the other")


def _histogram(bars: Bars, quantity: str, title: str) -> Chart:
    x = linear_axis(bars.edges, quantity, padding=0.02)
    y = linear_axis(map(float, bars.counts), "latents", zero=True)
    chart = Chart(x, y, *SIZE, title)
    for count, (low, high) in zip(bars.counts, pairwise(bars.edges), strict=True):
        if count:
            hint = f"{low:.2f} to {high:.2f}: {count} latents"
            chart.bar((low, high), (0.0, float(count)), "c0", hint)
    return chart
