"""The picture of a comparison, for a README or a paper."""

from pathlib import Path

from sparsact._common.atomic import write_files
from sparsact._common.extras import require
from sparsact.report.comparison.comparison_plots import front_points
from sparsact.report.comparison.comparison_records import ComparisonReport
from sparsact.report.palette import FRONT, INK, colours


def save_frontier(report: ComparisonReport, path: Path) -> None:
    """Write score against density as a PNG; the Pareto front and the choice are marked."""
    figure = require("matplotlib.figure", "report").Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    palette = colours(row.label for row in report.rows)
    front = front_points(report.rows)
    if front:
        axes.plot(*zip(*front, strict=True), ":", color=FRONT, zorder=1, label="Pareto front")
    for row in report.rows:
        if row.density is None or row.score is None:
            continue
        axes.errorbar(
            row.density.mean,
            row.score.mean,
            xerr=row.density.sd or 0.0,
            yerr=row.score.sd or 0.0,
            fmt="*" if row.picked else "o",
            markersize=15 if row.picked else 7,
            color=palette[row.label],
            elinewidth=0.8,
            label=row.label,
            zorder=3 if row.picked else 2,
        )
    axes.set_xlabel("density: share of non-zero activations")
    axes.set_ylabel(f"test {report.score_name}")
    axes.set_title(report.title, color=INK, loc="left")
    axes.xaxis.set_major_formatter(require("matplotlib.ticker", "report").PercentFormatter(1.0, 0))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:  # none if every training diverged
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    write_files({path: lambda new: figure.savefig(new, dpi=150, format="png")})
