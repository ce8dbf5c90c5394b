"""The command line: one file per verb."""

import sys
from collections.abc import Callable
from typing import Any

import tyro

from sparsact._common.errors import SparsactError
from sparsact.cli.bench_command import bench
from sparsact.cli.calibrate_command import calibrate
from sparsact.cli.compare_command import compare
from sparsact.cli.denoise_command import denoise
from sparsact.cli.error_lines import FAILED, INTERRUPTED, error_line, print_error
from sparsact.cli.generate_command import generate
from sparsact.cli.sae import sae

VERBS: dict[str, Callable[..., Any]] = {
    "bench": bench,
    "calibrate": calibrate,
    "compare": compare,
    "denoise": denoise,
    "generate": generate,
    "sae": sae,
}


def main(verbs: dict[str, Callable[..., Any]] = VERBS) -> None:
    """Run ``sparsact VERB`` with the words of ``sys.argv``.

    An error of the library ends with one line and status 2, an interruption with status 130. Any
    other exception is a bug and keeps its traceback.
    """
    words = sys.argv[1:]
    try:
        status = tyro.extras.subcommand_cli_from_dict(
            verbs, prog="sparsact", description="Activation sparsity for PyTorch.", args=words
        )
    except SparsactError as error:
        print_error(error_line(error, verbs[words[0]], words[1:]))
        status = FAILED
    except KeyboardInterrupt:
        status = INTERRUPTED
    sys.exit(status)
