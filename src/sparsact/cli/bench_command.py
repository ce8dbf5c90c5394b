"""``sparsact bench``."""

from dataclasses import replace

import tyro
from rich.console import Console

from sparsact.cli.progress_bar import progress
from sparsact.cli.tables import say, show
from sparsact.evaluation import Bench, BenchConfig
from sparsact.evaluation.site_kinds import TOTAL
from sparsact.report.language.language_tables import (
    DECODE,
    KINDS,
    QUALITY,
    decode_cells,
    kind_cells,
    quality_cells,
)


def bench(
    config: tyro.conf.OmitArgPrefixes[BenchConfig],
    exported: tyro.conf.Positional[str | None] = None,
) -> int:
    """Measure a plan on held-out text: perplexity, sparsity, time per token.

    Args:
        config: the settings.
        exported: an exported sparse model: a directory, or a name on the hub; the same as --model
            without --plan.
    """
    console = Console()
    if exported is not None:
        config = replace(config, model=exported)
    with progress(console) as update:
        measurement = Bench(config, update)
        result = measurement.run()
    report, sparse = result.report, measurement.sparse_label
    show(console, KINDS, map(kind_cells, report.kinds), picked=TOTAL)
    show(console, QUALITY, map(quality_cells, report.quality), picked=sparse)
    show(console, DECODE, map(decode_cells, report.decode), picked=sparse)
    for line in report.facts:
        if line.startswith("task "):
            say(console, line)
    say(console, report.conclusion)
    say(console, f"report: {result.path}/report.html")
    return 0
