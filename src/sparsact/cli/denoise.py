"""``sparsact denoise``."""

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn

from sparsact._common.errors import InputError
from sparsact.cli.progress import progress
from sparsact.denoise.files import FileError
from sparsact.denoise.job import DenoiseConfig, Done, run

SOME_FAILED = 1


def denoise(config: tyro.conf.OmitArgPrefixes[DenoiseConfig]) -> int:
    """Remove noise from images, sounds and signals by wavelet shrinkage."""
    console, errors = Console(), Console(stderr=True, highlight=False)
    failures: list[FileError] = []

    def failed(error: FileError) -> None:
        failures.append(error)
        errors.print(f"[bold red]error:[/] {escape(_line(error))}", soft_wrap=True)

    with progress(console, MofNCompleteColumn()) as update:
        try:
            done = run(config, update, failed)
        except FileError as error:
            raise InputError(_line(error)) from error
    for result in done:
        console.print(_text(result), soft_wrap=True, highlight=False, markup=False)
    if failures:
        errors.print(f"{len(failures)} of {len(failures) + len(done)} files failed")
    return SOME_FAILED if failures else 0


def _line(error: FileError) -> str:
    return " ".join(str(error).split())


def _text(result: Done) -> str:
    if result.before is None or result.after is None:
        return str(result.target)
    return f"{result.target}: {result.before} → {result.after}"
