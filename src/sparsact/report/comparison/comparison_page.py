"""The page of a comparison of activations."""

from collections.abc import Iterator
from pathlib import Path

from sparsact.report.comparison import activation_panels, heat_map, training_panels
from sparsact.report.comparison.comparison_records import ComparisonReport
from sparsact.report.comparison.comparison_table import all_cells, header
from sparsact.report.comparison.frontier_figure import frontier
from sparsact.report.report_page import fragment, save_page, section, table


def save_comparison(report: ComparisonReport, path: Path) -> None:
    """Write the report as one self-contained file."""
    save_page(path, report.title, report.facts, report.conclusion, _parts(report), heat_map.STYLE)


def comparison_fragment(report: ComparisonReport) -> str:
    """The frontier and the table, as a part of another page such as a notebook."""
    return fragment(report.title, report.facts, report.conclusion, _result(report))


def _result(report: ComparisonReport) -> Iterator[str]:
    picked = next((i for i, row in enumerate(report.rows) if row.picked), None)
    if any(row.density is not None for row in report.rows):
        yield section(f"{report.score_name} against density")
        yield frontier(report)
    yield section("Every setting", "* the score differs from ReLU's (p < 0.05)")
    yield table(header(report.score_name), all_cells(report), picked)


def _parts(report: ComparisonReport) -> Iterator[str]:
    yield from _result(report)
    if report.densities:
        how = "Per cent of non-zero activations at the end, on the validation part."
        yield section("Density by layer", f"{how} The input is at the top.")
        yield heat_map.heat_map(report.densities)
    if report.learning:
        how = (
            "Validation score over the epochs. The band is the standard deviation over seeds; "
            "ReLU is grey. The lowest twentieth of the scores may lie below the drawings."
        )
        yield section("Learning curves", how)
        yield training_panels.learning_curves(report)
    if report.lambdas:
        how = "Mean |λ| of each layer over the epochs; the thick line is the mean of the layers."
        yield section("Learned λ", how)
        yield training_panels.lambda_curves(report)
    if report.densities:
        how = "Thick: the mean of the layers. Thin lines, or the band: the layers."
        yield section("Density over the epochs", how)
        yield training_panels.density_curves(report)
    if report.histograms:
        how = "Share of the non-zero activations, on the test part."
        yield section("Distribution of the activations", how)
        yield activation_panels.histograms(report)
    if report.curves:
        yield section("Functions", "Solid: the function. Dotted: its gradient.")
        yield activation_panels.functions(report)
