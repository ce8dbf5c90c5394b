"""``sparsact calibrate``."""

import tyro
from rich.console import Console

from sparsact._common.errors import about_the_input
from sparsact.cli.progress import progress
from sparsact.cli.tables import show
from sparsact.llm import CalibrateConfig, make_plan
from sparsact.llm.kinds import TOTAL
from sparsact.report.language.table import KINDS, kind_cells


def calibrate(config: tyro.conf.OmitArgPrefixes[CalibrateConfig]) -> int:
    """Find thresholds for a language model from text, for a chosen sparsity."""
    console = Console()
    with progress(console) as update, about_the_input():
        found = make_plan(config, update)
    show(console, KINDS, map(kind_cells, found.kinds), picked=TOTAL)
    console.print(
        f"sparsity measured on {found.held_out} other rows of the text",
        highlight=False,
        markup=False,
    )
    console.print(f"plan: {config.out}", soft_wrap=True, highlight=False, markup=False)
    return 0
