"""The command line: one file per verb."""

import sys
from collections.abc import Callable
from typing import Any

import tyro
from rich.console import Console
from rich.markup import escape

from sparsact._common.errors import InputError, OutputError
from sparsact.cli.bench import bench
from sparsact.cli.calibrate import calibrate
from sparsact.cli.compare import INTERRUPTED, compare
from sparsact.cli.denoise import denoise
from sparsact.cli.sae import sae

VERBS: dict[str, Callable[..., Any]] = {
    "bench": bench,
    "calibrate": calibrate,
    "compare": compare,
    "denoise": denoise,
    "sae": sae,
}


def main() -> None:
    """Run ``sparsact VERB``; wrong input or a full disk ends with one line and status 2."""
    try:
        status = tyro.extras.subcommand_cli_from_dict(
            VERBS, prog="sparsact", description="Activation sparsity for PyTorch."
        )
    except (InputError, OutputError, ImportError) as error:
        message = escape(" ".join(str(error).split()))
        Console(stderr=True, highlight=False).print(
            f"[bold red]error:[/] {message}", soft_wrap=True
        )
        status = 2
    except KeyboardInterrupt:
        status = INTERRUPTED
    sys.exit(status)
