"""The page of a comparison of activations."""

from pathlib import Path

from sparsact.report.comparison import comparison_plots as plots
from sparsact.report.comparison.comparison_records import ComparisonReport
from sparsact.report.comparison.comparison_table import all_cells, header
from sparsact.report.report_page import save_page, table


def save_comparison(report: ComparisonReport, path: Path) -> None:
    """Write the report as one self-contained file."""
    picked = next((i for i, row in enumerate(report.rows) if row.picked), None)
    parts = [
        plots.frontier(report),
        "<h2>Every setting</h2>",
        table(header(report.score_name), all_cells(report), picked),
        plots.densities(report),
        plots.histograms(report),
        plots.curves(report),
    ]
    save_page(path, report.title, report.facts, report.conclusion, parts)
