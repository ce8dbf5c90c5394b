"""The result of a comparison in Python: tables, the best model, the report."""

import textwrap
from pathlib import Path
from typing import Any

from torch import nn

from sparsact.compare.results.result_table import result_table
from sparsact.report.comparison.comparison_page import comparison_fragment, save_comparison
from sparsact.report.comparison.comparison_records import ComparisonReport
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
        return result_table(self.report)

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
