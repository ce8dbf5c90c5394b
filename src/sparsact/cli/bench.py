"""``sparsact bench``."""

import tyro
from rich.console import Console

from sparsact._common.errors import about_the_input
from sparsact.cli.progress import progress
from sparsact.cli.tables import show
from sparsact.llm import Bench, BenchConfig
from sparsact.llm.kinds import TOTAL
from sparsact.report.language.table import (
    DECODE,
    KINDS,
    QUALITY,
    decode_cells,
    kind_cells,
    quality_cells,
)


def bench(config: tyro.conf.OmitArgPrefixes[BenchConfig]) -> int:
    """Measure a plan on held-out text: perplexity, sparsity, time a token."""
    console = Console()
    with progress(console) as update:
        with about_the_input():
            measurement = Bench(config, update)
        done = measurement.run()
    report = done.report
    sparse = f"sparse {config.dtype}"
    show(console, KINDS, map(kind_cells, report.kinds), picked=TOTAL)
    show(console, QUALITY, map(quality_cells, report.quality), picked=sparse)
    show(console, DECODE, map(decode_cells, report.decode), picked=sparse)
    for line in (report.conclusion, f"report: {done.path}/report.html"):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    return 0
