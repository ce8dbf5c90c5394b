"""The page of an autoencoder."""

from collections.abc import Iterator
from pathlib import Path

from sparsact.report.autoencoder import autoencoder_plots
from sparsact.report.autoencoder.autoencoder_records import AutoencoderReport
from sparsact.report.autoencoder.latent_dashboards import STYLE, contents, dashboards
from sparsact.report.plotly_figures import Figure
from sparsact.report.report_page import save_page, table


def save_autoencoder(report: AutoencoderReport, path: Path) -> None:
    """Write the report as one self-contained file."""
    save_page(path, report.title, report.facts, report.conclusion, [*_parts(report)], STYLE)


def _parts(report: AutoencoderReport) -> Iterator[str | Figure]:
    if report.groups:
        yield contents(report.groups)
    if report.figures:
        yield "<h2>On held-out activations</h2>"
        yield table(("figure", "value"), report.figures)
    if report.panels or report.densities is not None:
        yield (
            '<h2>Training and density</h2><div class="panels">'
            if report.panels
            else ('<h2>Density</h2><div class="panels">')
        )
        yield from map(autoencoder_plots.curves, report.panels)
        if report.densities is not None:
            yield autoencoder_plots.densities(report.densities)
        yield "</div>"
    yield from dashboards(report.groups)
