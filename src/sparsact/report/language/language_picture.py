"""A still picture of the report, for a README or a paper."""

from pathlib import Path
from typing import Any

from sparsact._common.extras import require
from sparsact.report.language.language_plots import curves, layers
from sparsact.report.language.language_records import LanguageReport
from sparsact.report.palette import FRONT, INK, colours


def save_sparsity(report: LanguageReport, path: Path) -> None:
    """Write sparsity by block, and perplexity against sparsity, as a PNG."""
    figure = require("matplotlib.figure", "report").Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _by_layer(report, left)
    _loss(report, right)
    ticker = require("matplotlib.ticker", "report")
    percent = ticker.PercentFormatter(1.0, 0)
    left.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    left.yaxis.set_major_formatter(percent)
    right.xaxis.set_major_formatter(percent)
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(report.title, color=INK)
    figure.savefig(path, dpi=150)


def _by_layer(report: LanguageReport, axes: Any) -> None:
    palette = colours(row.kind for row in report.kinds)
    for kind, sites in layers(report).items():
        axes.plot(
            [site.layer for site in sites],
            [site.sparsity for site in sites],
            "o-",
            markersize=3,
            color=palette[kind],
            label=kind,
        )
    axes.set(xlabel="block", ylabel="share of the weights not read", ylim=(0, 1))
    if axes.get_legend_handles_labels()[0]:  # a model without blocks has no lines
        axes.legend(fontsize=8, frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0.0, 1.0))


def _loss(report: LanguageReport, axes: Any) -> None:
    for rows in curves(report):
        axes.errorbar(
            [row.sparsity for row in rows],
            [1.0 if row.ratio is None else row.ratio.value for row in rows],
            yerr=[0.0 if row.ratio is None else row.ratio.error or 0.0 for row in rows],
            fmt="D" if rows[0].apart else "o:",
            color=FRONT,
            elinewidth=0.8,
            label="compensated or tuned" if rows[0].apart else "calibrated",
        )
    if any(row.apart for row in report.quality):
        axes.legend(fontsize=8, frameon=False)
    axes.set(xlabel="share of the weights not read", ylabel="perplexity / dense perplexity")
