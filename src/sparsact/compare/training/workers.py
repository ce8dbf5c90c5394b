"""Trainings in other processes, on this machine or others: joblib with loky, dask or ray."""

import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from sparsact._common.errors import SparsactError, unknown
from sparsact._common.extras import require

Backend = Literal["loky", "dask", "ray"]
Job = Callable[[], Any]
MODULES = {"dask": "distributed", "ray": "ray"}
_ONE_AT_A_TIME = threading.Lock()
"""A process has one random generator, and workers of dask may have threads."""


def check_backend(backend: Backend) -> None:
    """Raise MissingExtraError if a backend is not installed, or InputError if there is none."""
    if backend not in get_args(Backend):
        raise unknown("backend", backend, get_args(Backend))
    if backend in MODULES:
        require(MODULES[backend], backend)


def in_processes(jobs: Iterable[Job], count: int, backend: Backend, kept: Path) -> Iterator[Any]:
    """Do jobs in other processes.

    Args:
        jobs: functions that can be pickled by cloudpickle.
        count: how many are done at the same time.
        backend: where. dask uses the client that exists, or the scheduler of its configuration, or
            starts `count` workers here; ray uses the cluster that is connected, or that of
            RAY_ADDRESS, or starts one here.
        kept: where the results of finished jobs are kept, for the error.

    Yields:
        the place of a job among the jobs, and its result, in the order in which they end.

    Raises:
        SparsactError: a process was killed.
    """
    state = TorchState.now(count)
    joblib = require("joblib", "compare")
    calls = (
        joblib.delayed(partial(_in_worker, state, place, job))() for place, job in enumerate(jobs)
    )
    options = {"initializer": _start_here} if backend == "loky" else {}
    with _cluster(backend, count), joblib.parallel_config(backend, n_jobs=count, **options):
        results = _grouped(calls, count) if backend == "ray" else _as_they_end(calls)
        try:
            yield from results
        except _deaths(backend) as error:
            raise SparsactError(
                "a training's process was killed, perhaps for memory: take fewer jobs=; "
                f"{kept} keeps the finished trainings, and resume= continues"
            ) from error


def _as_they_end(calls: Iterator[Any]) -> Generator[Any, None, None]:
    parallel = require("joblib", "compare").Parallel(return_as="generator_unordered")
    results = parallel(calls)
    try:
        for result in results:  # noqa: UP028 - "yield from" would close the results itself
            yield result
    finally:
        with warnings.catch_warnings():  # that some results were not used
            warnings.simplefilter("ignore", UserWarning)
            results.close()


def _grouped(calls: Iterator[Any], size: int) -> Generator[Any, None, None]:
    """The pool of ray returns results all together: give it as many jobs as it does at once."""
    with require("joblib", "compare").Parallel() as parallel:
        while group := list(islice(calls, size)):
            yield from parallel(group)


@dataclass(frozen=True)
class TorchState:
    """The settings of torch on which results depend."""

    threads: int
    dtype: torch.dtype
    deterministic: bool
    matmul_precision: str

    @classmethod
    def now(cls, processes: int) -> "TorchState":
        """Those of this process, with the threads shared among processes."""
        return cls(
            max(1, torch.get_num_threads() // processes),
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_float32_matmul_precision(),
        )

    def set(self) -> None:
        """Make them those of this process."""
        torch.set_num_threads(self.threads)
        torch.set_default_dtype(self.dtype)
        torch.use_deterministic_algorithms(self.deterministic)
        torch.set_float32_matmul_precision(self.matmul_precision)


def _start_here() -> None:
    """Leave Ctrl-C to the parent, which ends its workers, and end if the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)  # it would wait for more jobs forever

    threading.Thread(target=watch, daemon=True).start()


def _in_worker(state: TorchState, place: int, job: Job) -> tuple[int, Any]:
    with _ONE_AT_A_TIME:
        state.set()
        return place, job()


@contextmanager
def _cluster(backend: Backend, count: int) -> Iterator[None]:
    """The cluster of a backend; one that was started here is stopped at the end."""
    if backend == "dask":
        with _dask(count):
            yield
    elif backend == "ray":
        with _ray(count):
            yield
    else:
        yield


@contextmanager
def _dask(count: int) -> Iterator[None]:
    distributed = require("distributed", "dask")
    try:
        client: Any = nullcontext(distributed.get_client())
    except ValueError:  # there is none
        address = require("dask", "dask").config.get("scheduler-address", None)
        here = {
            "n_workers": count,
            "threads_per_worker": 1,
            "dashboard_address": None,
            "silence_logs": logging.ERROR,
        }
        client = distributed.Client(**({} if address else here))
    with client:
        yield


@contextmanager
def _ray(count: int) -> Iterator[None]:
    ray = require("ray", "ray")
    is_ours = not ray.is_initialized()
    if is_ours:
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        here: dict[str, Any] = {"num_cpus": count, "include_dashboard": False}
        here["runtime_env"] = {"env_vars": paths}  # so that workers can import what we can
        options = {} if "RAY_ADDRESS" in os.environ else here
        ray.init(log_to_driver=False, logging_level="ERROR", **options)
    try:
        require("ray.util.joblib", "ray").register_ray()
        yield
    finally:
        if is_ours:
            ray.shutdown()


def _deaths(backend: Backend) -> tuple[type[BaseException], ...]:
    """What a backend raises when a worker is gone."""
    if backend == "dask":
        return (require("distributed", "dask").KilledWorker,)
    if backend == "ray":
        errors = require("ray.exceptions", "ray")
        return errors.RayActorError, errors.WorkerCrashedError
    return (BrokenExecutor,)
