"""Denoise many files, with several processes, and go on after an interruption."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread

import torch

from sparsact._common.atomic import write_text, writing
from sparsact._common.errors import InputError, OutputError, SparsactError
from sparsact._common.progress import Progress, ProgressCounter
from sparsact.denoise.file_denoising import Denoised, FileOptions, denoise_file
from sparsact.denoise.file_paths import Paths

Outcome = Callable[[], Denoised]


class Record:
    """A file beside the output folder that names the files that are begun and done.

    It is removed when all of them are done.

    Args:
        path: of the record.
        options: how the files are denoised.
        resume: go on with the record of an earlier run.

    Raises:
        InputError: the earlier run had other options.
    """

    def __init__(self, path: Path, options: FileOptions, resume: bool) -> None:
        self.path = path
        self.begun: set[str] = set()
        self.done: set[str] = set()
        settings = json.dumps(asdict(options), default=str)
        text = path.read_text(encoding="utf-8") if resume and path.exists() else ""
        lines = text.split("\n")[:-1]  # the last one is empty, or was cut off
        if lines and lines[0] != settings:
            raise InputError(
                f"{path} is of a run with other options; repeat those, or leave out resume="
            )
        for line in lines[1:]:
            state, _, name = line.partition(" ")
            (self.done if state == "done" else self.begun).add(name)
        write_text(path, "\n".join([settings, *lines[1:], ""]))

    def is_done(self, paths: Paths) -> bool:
        """Whether a file is done and still there."""
        return _name(paths) in self.done and paths.target.exists()

    def add(self, state: str, name: str) -> None:
        """Write that a file is begun or done."""
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(f"{state} {name}\n")


def denoise_files(
    inputs: Iterable[Paths],
    options: FileOptions,
    progress: Progress | None = None,
    on_error: Callable[[SparsactError], None] | None = None,
    force: bool = False,
    *,
    workers: int = 1,
    record: Path | None = None,
    resume: bool = False,
) -> list[Denoised]:
    """Denoise several files.

    Args:
        inputs: the files to read and write, as :func:`paths_of` returns them.
        options: how to denoise.
        progress: called with the number of files done, their total, and a name; for a single
            large file, with its tiles.
        on_error: called with the error of a file, after which the next file follows; by default
            the error is raised.
        force: overwrite outputs that exist.
        workers: number of processes.
        record: a file that names the outputs that are done, while this runs.
        resume: leave out the files that `record` says are done.

    Raises:
        InputError: an option cannot be used, or, without `on_error`, a file.
        OutputError: without `on_error`: a file cannot be written.
    """
    options.check()
    if workers < 1:
        raise InputError(f"workers= must be positive, got {workers}")
    inputs = list(inputs)
    if len(inputs) == 1 and record is None:
        return [denoise_file(inputs[0], options, force, progress)]
    log = None if record is None else Record(record, options, resume)
    counter = ProgressCounter(len(inputs), progress)
    results, failed = [], False
    with _outcomes(inputs, options, force, workers, log) as outcomes:
        for paths, outcome in outcomes:
            name = _name(paths)
            counter.label = paths.source.name
            counter.advance(0)
            try:
                if log is None or not log.is_done(paths):
                    results.append(outcome())
                    if log is not None:
                        log.add("done", name)
            except SparsactError as error:
                failed = True
                if on_error is None:
                    raise
                on_error(error)
            counter.advance()
    if log is not None and not failed:
        log.path.unlink(missing_ok=True)
    return results


@contextmanager
def _outcomes(
    inputs: list[Paths], options: FileOptions, force: bool, workers: int, log: Record | None
) -> Iterator[Iterator[tuple[Paths, Outcome]]]:
    """For each file, a function that returns its result."""
    if workers == 1:
        yield ((paths, partial(_begin, paths, options, force, log)) for paths in inputs)
        return
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // workers)
    with ProcessPoolExecutor(workers, context, _start_worker, (threads,)) as pool:
        try:
            yield iter([(p, _submitted(pool, p, options, force, log)) for p in inputs])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _begin(paths: Paths, options: FileOptions, force: bool, log: Record | None) -> Denoised:
    return denoise_file(paths, options, _noted(paths, force, log))


def _submitted(
    pool: ProcessPoolExecutor, paths: Paths, options: FileOptions, force: bool, log: Record | None
) -> Outcome:
    if log is not None and log.is_done(paths):
        return partial(denoise_file, paths, options, force)  # is not called
    try:
        future = pool.submit(denoise_file, paths, options, _noted(paths, force, log))
    except SparsactError as error:
        return partial(_raise, error)
    return partial(_result, future)


def _noted(paths: Paths, force: bool, log: Record | None) -> bool:
    """Check a file and note its begin; whether its output may be overwritten.

    What this run began before it was interrupted may be.
    """
    name = _name(paths)
    force = force or (log is not None and name in log.begun)
    paths.check(force)
    if log is not None and name not in log.begun:
        log.add("begin", name)
    return force


def _name(paths: Paths) -> str:
    """A file in the record; the same from each working directory."""
    return paths.target.resolve().as_posix()


def _result(future: "Future[Denoised]") -> Denoised:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise OutputError(
            "a process ended before its file was done (out of memory?); use fewer workers= and "
            "resume="
        ) from error


def _raise(error: SparsactError) -> Denoised:
    raise error


def _start_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends the work
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    """End this process when the main process was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
