"""The page of a sparse language model."""

from pathlib import Path

from sparsact.report.language import language_plots
from sparsact.report.language.language_records import LanguageReport
from sparsact.report.language.language_tables import (
    DECODE,
    KINDS,
    QUALITY,
    decode_cells,
    kind_cells,
    quality_cells,
)
from sparsact.report.report_page import save_page, table


def save_language(report: LanguageReport, path: Path) -> None:
    """Write the report as one self-contained file."""
    parts = [
        "<h2>What it costs</h2>",
        table(QUALITY, map(quality_cells, report.quality)),
        language_plots.loss(report),
        "<h2>What it saves</h2>",
        table(DECODE, map(decode_cells, report.decode)),
        language_plots.decode(report),
        "<h2>Where the zeros are</h2>",
        table(KINDS, map(kind_cells, report.kinds)),
        language_plots.by_layer(report),
    ]
    save_page(path, report.title, report.facts, report.conclusion, parts)
