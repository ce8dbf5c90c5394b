"""Trainings in other processes, on this machine or others: joblib with loky, dask or ray."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch

from sparsact._common.errors import SparsactError
from sparsact._common.extras import require

Backend = Literal["loky", "dask", "ray"]
Job = Callable[[], Any]
MODULES = {"dask": "distributed", "ray": "ray"}
_ONE_AT_A_TIME = threading.Lock()
"""A process has one random generator, and workers of dask may have threads."""


def check_backend(backend: Backend) -> None:
    """Raise MissingExtraError if a backend is not installed."""
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
        the results, in the order of the jobs.

    Raises:
        SparsactError: a process was killed.
    """
    joblib = require("joblib", "compare")
    state = TorchState.now(count)
    calls = (joblib.delayed(partial(_in_worker, state, job))() for job in jobs)
    with _cluster(backend, count), joblib.parallel_config(backend, n_jobs=count):
        try:
            if backend == "ray":  # its pool returns results all together
                with joblib.Parallel() as apart:
                    for some in _in_groups(calls, count):
                        yield from apart(some)
            else:
                yield from joblib.Parallel(return_as="generator")(calls)
        except _deaths(backend) as error:
            raise SparsactError(
                "a training's process was killed, perhaps for memory: take fewer jobs=; "
                f"{kept} keeps the finished trainings, and resume= continues"
            ) from error


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


def _in_worker(state: TorchState, job: Job) -> Any:
    with _ONE_AT_A_TIME:
        state.set()
        return job()


def _in_groups(calls: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while group := list(islice(calls, size)):
        yield group


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
        here = {"n_workers": count, "threads_per_worker": 1, "dashboard_address": None}
        client = distributed.Client(**({} if address else here))
    with client:
        yield


@contextmanager
def _ray(count: int) -> Iterator[None]:
    ray = require("ray", "ray")
    is_ours = not ray.is_initialized()
    if is_ours:
        here: dict[str, Any] = {"num_cpus": count, "include_dashboard": False}
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
