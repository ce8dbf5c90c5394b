"""The picture of a selection path."""

from pathlib import Path
from typing import Any

import numpy as np

from sparsact._common.extras import require
from sparsact.selection.selection_path import SelectionPath

_MOST_ROWS = 30


def plot_path(path: SelectionPath, file: str | Path | None = None) -> Any:
    """Draw accuracy and stability against the number of features, and how often each is kept.

    Args:
        path: what :func:`selection_path` returned.
        file: where to save the picture; its ending decides the format.

    Returns:
        the ``matplotlib.figure.Figure``. Of more than 30 features, those kept most often are
        shown, which the title says.

    Raises:
        ImportError: matplotlib is not installed (extra ``report``).
    """
    figure = require("matplotlib.figure", "report").Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    mean, spread = path.scores.mean(1), path.scores.std(1)
    left.plot(path.counts, mean, "o-", color="#2b6cb0", label=path.score_name)
    left.fill_between(path.counts, mean - spread, mean + spread, color="#2b6cb0", alpha=0.15)
    left.plot(path.counts, path.stability, "s--", color="#c05621", label="stability")
    left.set_xscale("log", base=2)
    left.set_xticks(path.counts, [str(count) for count in path.counts])
    left.set_xlabel("number of features")
    left.set_title("held-out score (± standard deviation) and stability", loc="left")
    left.grid(alpha=0.25)
    left.legend(frameon=False)
    left.spines[["top", "right"]].set_visible(False)

    rows = np.argsort(-path.frequency.mean(0), kind="stable")[:_MOST_ROWS]
    right.imshow(path.frequency[:, rows].T, aspect="auto", cmap="Blues", vmin=0, vmax=1)
    right.set_xticks(range(len(path.counts)), [str(count) for count in path.counts])
    right.set_yticks(range(len(rows)), [path.feature_names[row] for row in rows], fontsize=7)
    right.set_xlabel("number of features")
    shown = len(rows), len(path.feature_names)
    omitted = "" if shown[0] == shown[1] else f" ({shown[0]} of {shown[1]} features)"
    right.set_title(f"share of resamples that keep a feature{omitted}", loc="left")
    if file is not None:
        figure.savefig(file, dpi=120)
    return figure
