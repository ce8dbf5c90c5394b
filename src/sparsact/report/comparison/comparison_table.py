"""The table of a comparison, for the terminal and the page."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sparsact.report.comparison.comparison_records import (
    Baseline,
    ComparisonReport,
    SettingRow,
    Spread,
)

Cells = tuple[str, ...]
LEAST_NEEDED = (
    "ms / batch",
    "ms / sample",
    "learned λ",
    "epochs to 95%",
    "zero gradient",
    "step / ReLU",
    "dead units",
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


def cells(row: SettingRow) -> Cells:
    """One row, with ± standard deviations; ``–`` where there is nothing to show."""
    note = f" ({row.diverged} of {row.trainings} diverged)" if row.diverged else ""
    return (
        row.label + note,
        _spread(row.score, ".3f"),
        _spread(row.density, ".1%"),
        _spread(row.dead, ".1%"),
        _spread(row.zero_gradient, ".1%"),
        _spread(row.epochs_to_reference, ".1f"),
        "–" if row.step_ratio is None else f"{row.step_ratio:.2f}",
        _spread(row.learned_lambda, ".3f"),
        _milliseconds(row.batch_ms),
        _milliseconds(row.sample_ms)
        + ("" if row.sparse_sample_ms is None else f", sparse {row.sparse_sample_ms:.3g}"),
        "–" if row.p_value is None else f"{row.p_value:.2g}" + " *" * row.differs,
    )


def baseline_cells(baseline: Baseline) -> Cells:
    """The row of the constant prediction."""
    gaps = len(header("")) - 2
    return (baseline.label, f"{baseline.score:.3f}", *("–" for _ in range(gaps)))


def all_cells(report: ComparisonReport) -> list[Cells]:
    """The rows of the settings, and that of the constant prediction below them."""
    rows = [cells(row) for row in report.rows]
    return rows if report.baseline is None else [*rows, baseline_cells(report.baseline)]


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _spread(value: Spread | None, form: str) -> str:
    if value is None:
        return "–"
    if value.sd is None:
        return format(value.mean, form)
    return f"{format(value.mean, form).rstrip('%')} ± {format(value.sd, form)}"


@dataclass(frozen=True)
class FittingTable:
    """The columns of a table that fit, and the names of the others."""

    header: Cells
    rows: list[Cells]
    left_out: tuple[str, ...]


def fitting_table(report: ComparisonReport, width: int) -> FittingTable:
    """As much of the table as so many letters hold; empty and little needed columns go first."""
    names = header(report.score_name)
    columns = dict(zip(names, zip(names, *all_cells(report), strict=True), strict=True))
    for name in sorted(LEAST_NEEDED, key=lambda name: any(c != "–" for c in columns[name][1:])):
        if _total_width(columns.values()) <= width:
            break
        del columns[name]
    first, *rows = zip(*columns.values(), strict=True)
    return FittingTable(first, rows, tuple(name for name in names if name not in columns))


def text_table(report: ComparisonReport, width: int) -> str:
    """The table in plain text, as wide as allowed; a last line names columns that are left out."""
    table = fitting_table(report, width)
    lines = _text_rows([*zip(table.header, *table.rows, strict=True)])
    if table.left_out:
        lines += ["", *textwrap.wrap(not_shown(table), width)]
    return "\n".join(lines)


def not_shown(table: FittingTable) -> str:
    """A line that names the columns that are left out."""
    return f"not shown: {', '.join(table.left_out)}"


def _text_rows(columns: Sequence[Cells]) -> list[str]:
    widths = [max(map(len, column)) for column in columns]
    return [
        GAP.join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in zip(*columns, strict=True)
    ]


def _total_width(columns: Iterable[Cells]) -> int:
    return sum(max(map(len, column)) + len(GAP) for column in columns) - len(GAP)
