"""The result of a comparison in Python: tables, the best model, the report."""

import textwrap
from pathlib import Path
from typing import Any

from torch import nn

from sparsact._common.extras import require
from sparsact.report.comparison.comparison_page import comparison_fragment, save_comparison
from sparsact.report.comparison.comparison_records import ComparisonReport, SettingRow, Spread
from sparsact.report.comparison.comparison_table import text_table

WIDTH = 80
"""Columns of a printed result."""


class ComparisonResult:
    """What :func:`sparsact.compare_activations` found; prints as a table.

    Attributes:
        report: the records that the page shows.
        best: the trained model of the choice, in eval mode; None if every setting diverged.
        complete: False if the comparison was interrupted.
        path: the run directory; None if none was named.
    """

    def __init__(
        self, report: ComparisonReport, best: nn.Module | None, complete: bool, path: Path | None
    ) -> None:
        self.report = report
        self.best = best
        self.complete = complete
        self.path = path

    @property
    def table(self) -> Any:
        """A row for each setting, and one for the constant prediction: a ``pandas.DataFrame``.

        Its index is the setting. ``score``, ``density``, ``dead``, ``zero_gradient`` are means
        over the seeds, measured on the test part; ``score_error`` is the standard error, and ``p``
        that of the paired test against ReLU. ``multiply_adds`` are those of linear layers and
        convolutions per sample; ``needed_multiply_adds`` have an input that is not zero.
        ``batch_ms`` and ``sample_ms`` are the time of a forward of a batch and of one sample;
        ``sparse_sample_ms`` is that of layers that skip zeros, where it is shorter. ``annealed``
        is the number of a point of a frontier, and ``value`` the λ, k or penalty there.
        """
        rows = {row.label: _numbers(row) for row in self.report.rows}
        if self.report.baseline is not None:
            baseline = self.report.baseline
            rows[baseline.label] = {
                "score": baseline.score,
                "validation_score": baseline.validation_score,
            }
        frame = require("pandas", "compare").DataFrame.from_dict(rows, orient="index")
        frame.index.name = "setting"
        return frame

    @property
    def frontier(self) -> Any:
        """The rows of :attr:`table` that no other beats in score and density, sparsest first."""
        labels = [row.label for row in self.report.rows if row.on_front]
        return self.table.loc[labels].sort_values("density")

    def save_report(self, path: str | Path) -> None:
        """Write the page, one HTML file with all figures."""
        save_comparison(self.report, Path(path))

    def __str__(self) -> str:
        """The table and the conclusion, at most 80 columns wide where the names allow it."""
        conclusion = textwrap.fill(self.report.conclusion, WIDTH)
        rows = text_table(self.report, WIDTH)
        notes = [textwrap.fill(f"note: {note}", WIDTH) for note in self.report.notes]
        title = textwrap.wrap(self.report.title, WIDTH)
        return "\n".join([*title, "", rows, "", conclusion, *notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The frontier and the table in a notebook."""
        return comparison_fragment(self.report)


def _numbers(row: SettingRow) -> dict[str, Any]:
    return {
        "activation": row.activation,
        "score": _mean(row.score),
        "score_error": row.score_error,
        "p": row.p_value,
        "validation_score": row.validation_score,
        "density": _mean(row.density),
        "dead": _mean(row.dead),
        "zero_gradient": _mean(row.zero_gradient),
        "epochs_to_reference": _mean(row.epochs_to_reference),
        "step_ratio": row.step_ratio,
        "learned_lambda": _mean(row.learned_lambda),
        "multiply_adds": row.multiply_adds,
        "needed_multiply_adds": row.needed_multiply_adds,
        "batch_ms": row.batch_ms,
        "sample_ms": row.sample_ms,
        "sparse_sample_ms": row.sparse_sample_ms,
        "annealed": row.annealed,
        "value": row.value,
        "trainings": row.trainings,
        "diverged": row.diverged,
        "on_front": row.on_front,
        "picked": row.picked,
    }


def _mean(value: Spread | None) -> float | None:
    return None if value is None else value.mean
