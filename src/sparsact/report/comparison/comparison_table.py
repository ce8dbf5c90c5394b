"""The cells of the comparison's table, shared by the terminal and the page."""

from sparsact.report.comparison.comparison_records import (
    Baseline,
    ComparisonReport,
    SettingRow,
    Spread,
)

Cells = tuple[str, ...]


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
        "–" if row.p_value is None else f"{row.p_value:.2g}",
    )


def baseline_cells(baseline: Baseline) -> Cells:
    """The row of the constant prediction."""
    gaps = len(header("")) - 2
    return (baseline.label, f"{baseline.score:.3f}", *("–" for _ in range(gaps)))


def all_cells(report: ComparisonReport, spreads: bool = True) -> list[Cells]:
    """The rows of the settings, and that of the constant prediction below them."""
    rows = [cells(row, spreads) for row in report.rows]
    return rows if report.baseline is None else [*rows, baseline_cells(report.baseline)]


def _spread(value: Spread | None, form: str) -> str:
    if value is None:
        return "–"
    if value.sd is None:
        return format(value.mean, form)
    return f"{format(value.mean, form).rstrip('%')} ± {format(value.sd, form)}"
