"""The page of a sparse language model."""

from pathlib import Path

from sparsact.report.charts.chart import grid
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
        grid(
            [("perplexity against sparsity, with standard errors", language_plots.loss(report))],
            "single",
        ),
        "<h2>What it saves</h2>",
        table(DECODE, map(decode_cells, report.decode)),
        grid([("decoding one token", language_plots.decode(report))], "single"),
        "<h2>Where the zeros are</h2>",
        table(KINDS, map(kind_cells, report.kinds)),
        grid(
            [
                (
                    "share of weights not read, by block and kind of site",
                    language_plots.by_layer(report),
                )
            ],
            "single",
        ),
    ]
    save_page(path, report.title, report.facts, report.conclusion, parts)
