"""The look that the interactive figures of all reports share."""

from typing import Any

from sparsact._common.extras import require
from sparsact.report.palette import INK

Figure = Any


def new_figure(title: str, height: int) -> Figure:
    """An empty plotly figure.

    Raises:
        ImportError: plotly is not installed (extra ``report``).
    """
    return dress(require("plotly.graph_objects", "report").Figure(), title, height)


def dress(figure: Figure, title: str, height: int) -> Figure:
    """Give a figure its title and the reports' look."""
    figure.update_layout(
        title=title,
        template="plotly_white",
        height=height,
        font={"family": "system-ui, sans-serif", "color": INK},
        margin={"l": 60, "r": 20, "t": 70, "b": 50},
    )
    return figure
