"""The table of a comparison, for the terminal and the page."""

import textwrap
from collections.abc import Sequence

from sparsact.report.comparison.comparison_records import (
    Baseline,
    ComparisonReport,
    SettingRow,
    Spread,
)

Cells = tuple[str, ...]
LEAST_NEEDED = (
    "learned λ",
    "epochs to 95%",
    "zero gradient",
    "step / ReLU",
    "ms / batch",
    "dead units",
    "ms / sample",
    "p",
    "density",
)
"""Columns that a narrow table leaves out, in this order."""
GAP = "  "


def header(score_name: str) -> Cells:
    """The column titles."""
    return (
        "setting",
        score_name,
        "density",
        "dead units",
        "zero gradient",
        "epochs to 95%",
        "step / ReLU",
        "learned λ",
        "ms / batch",
        "ms / sample",
        "p",
    )


def cells(row: SettingRow, spreads: bool = True) -> Cells:
    """One row, with ± standard deviations or without; ``–`` where there is nothing to show."""

    def show(value: Spread | None, form: str) -> str:
        return _spread(value, form) if spreads or value is None else format(value.mean, form)

    note = f" ({row.diverged} of {row.trainings} diverged)" if row.diverged else ""
    return (
        row.label + note,
        show(row.score, ".3f"),
        show(row.density, ".1%"),
        show(row.dead, ".1%"),
        show(row.zero_gradient, ".1%"),
        show(row.epochs_to_reference, ".1f"),
        "–" if row.step_ratio is None else f"{row.step_ratio:.2f}",
        show(row.learned_lambda, ".3f"),
        _milliseconds(row.batch_ms),
        _milliseconds(row.sample_ms)
        + ("" if row.sparse_sample_ms is None else f", sparse {row.sparse_sample_ms:.3g}"),
        "–" if row.p_value is None else f"{row.p_value:.2g}" + " *" * row.differs,
    )


def baseline_cells(baseline: Baseline) -> Cells:
    """The row of the constant prediction."""
    gaps = len(header("")) - 2
    return (baseline.label, f"{baseline.score:.3f}", *("–" for _ in range(gaps)))


def all_cells(report: ComparisonReport, spreads: bool = True) -> list[Cells]:
    """The rows of the settings, and that of the constant prediction below them."""
    rows = [cells(row, spreads) for row in report.rows]
    return rows if report.baseline is None else [*rows, baseline_cells(report.baseline)]


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _spread(value: Spread | None, form: str) -> str:
    if value is None:
        return "–"
    if value.sd is None:
        return format(value.mean, form)
    return f"{format(value.mean, form).rstrip('%')} ± {format(value.sd, form)}"


def text_table(report: ComparisonReport, width: int) -> str:
    """The table in plain text, as wide as allowed; a last line names columns that are left out."""
    columns = list(zip(header(report.score_name), *all_cells(report), strict=True))
    names = [column[0] for column in columns]
    left_out = []
    for name in LEAST_NEEDED:
        if _total_width(columns) <= width:
            break
        left_out.append(name)
        columns = [column for column in columns if column[0] != name]
    lines = [*_text_rows(columns)]
    if left_out:
        missing = ", ".join(name for name in names if name in left_out)
        lines += ["", *textwrap.wrap(f"not shown: {missing}", width)]
    return "\n".join(lines)


def _text_rows(columns: Sequence[Cells]) -> list[str]:
    widths = [max(map(len, column)) for column in columns]
    return [
        GAP.join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in zip(*columns, strict=True)
    ]


def _total_width(columns: Sequence[Cells]) -> int:
    return sum(max(map(len, column)) + len(GAP) for column in columns) - len(GAP)
