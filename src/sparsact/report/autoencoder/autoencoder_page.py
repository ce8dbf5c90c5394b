"""The page of an autoencoder."""

from collections.abc import Iterator
from html import escape
from pathlib import Path

from sparsact.report.autoencoder import autoencoder_plots
from sparsact.report.autoencoder.autoencoder_records import AutoencoderReport
from sparsact.report.autoencoder.direction_map import MAP_STYLE, direction_map
from sparsact.report.autoencoder.latent_dashboards import STYLE, contents, dashboards
from sparsact.report.autoencoder.latent_search import SEARCH_SCRIPT, SEARCH_STYLE
from sparsact.report.charts.chart import grid
from sparsact.report.report_page import save_page, table


def save_autoencoder(report: AutoencoderReport, path: Path) -> None:
    """Write the report as one self-contained file."""
    save_page(
        path,
        report.title,
        report.facts,
        report.conclusion,
        _parts(report),
        STYLE + MAP_STYLE + SEARCH_STYLE,
    )


def _parts(report: AutoencoderReport) -> Iterator[str]:
    if report.groups:
        yield contents(report.groups)
    if report.figures:
        yield "<h2>On held-out activations</h2>"
        yield table(("figure", "value"), report.figures)
    figures = [(panel.title, autoencoder_plots.curves(panel)) for panel in report.panels]
    if report.densities is not None:
        figures.append(("How often latents fire", autoencoder_plots.densities(report.densities)))
    if report.comparison is not None:
        chart = autoencoder_plots.cosines(report.comparison.cosines)
        figures.append(("Nearest latent of the other", chart))
    if figures:
        yield "<h2>Training and density</h2>" if report.panels else "<h2>Density</h2>"
        yield grid(figures, "large")
    if report.comparison is not None:
        yield f"<h2>Compared with {escape(report.comparison.other)}</h2>"
        yield table(("figure", "value"), report.comparison.figures)
    if report.directions is not None:
        shown = {latent.index for group in report.groups for latent in group.latents}
        yield direction_map(report.directions, shown)
    yield from dashboards(report.groups)
    if report.groups:
        yield SEARCH_SCRIPT
