"""Comparisons in several processes: equal records, whatever is killed and whenever."""

import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sparsact as sa
from sparsact._common.errors import MissingExtraError, SparsactError
from sparsact.compare import CompareConfig
from sparsact.compare.settings.training_plan import make_plan
from sparsact.compare.training.workers import TorchState, _in_worker

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(60, 4, generator=GENERATOR)
Y = (X[:, 0] > 0).long()
FLAGS = ["digits", "--activations", "relu,softshrink", "--epochs", "6", "--hidden", "16"]
FLAGS += ["--seeds", "3"]
COMMAND = [sys.executable, "-m", "sparsact.cli", "compare"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))


def compare(path: Path, **options: Any) -> Any:
    options = {"activations": "softshrink", "epochs": 2, "seeds": 2, **options}
    build = lambda: net()  # noqa: E731 - a function that other processes get by value
    return sa.compare_activations(build, (X, Y), (X, Y), out=path, **options)


def records(path: Path) -> list[str]:
    return sorted((path / "results.jsonl").read_text(encoding="utf-8").splitlines())


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("one") / "run"
    compare(path)
    return records(path)


def wait_for(path: Path, lines: int, process: "subprocess.Popen[bytes]") -> None:
    """Until a run has so many records, and a random moment more."""
    until = time.monotonic() + 300
    results = path / "results.jsonl"
    while time.monotonic() < until:
        if results.exists() and len(results.read_bytes().splitlines()) >= lines:
            break
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(random.Random(lines).random() / 4)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("digits") / "run"
    _execute(CompareConfig(**{**DIGITS, "out": str(path)}))
    return records(path)


DIGITS: dict[str, Any] = {
    "activations": "relu,softshrink",
    "epochs": 6,
    "hidden": "16",
    "seeds": 3,
}


def _execute(config: CompareConfig) -> Any:
    from sparsact._common.progress import silent
    from sparsact.compare import Comparison

    return Comparison(config).execute(silent)


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_driver_is_killed(tmp_path: Path, digits: list[str], jobs: int) -> None:
    command = [*COMMAND, *FLAGS, "--jobs", str(jobs), "--out", "run"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(tmp_path / "run", jobs, process)
    workers = children(process.pid)
    process.kill()
    process.wait()
    assert set(records(tmp_path / "run")) <= {*digits, records(tmp_path / "run")[-1]}
    outcome = _execute(CompareConfig(resume=str(tmp_path / "run")))  # with one process
    assert outcome.complete
    assert records(tmp_path / "run") == digits
    until = time.monotonic() + 60
    while any(map(is_alive, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    file = Path(f"/proc/{process}/task/{process}/children")
    return list(map(int, file.read_text().split())) if file.exists() else []


def is_alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def kill_a_worker_soon() -> threading.Thread:
    """Kill a worker of this process when it has one that works."""

    def kill() -> None:
        until = time.monotonic() + 300
        while time.monotonic() < until:
            for worker in _loky_workers():
                time.sleep(1)
                os.kill(worker, signal.SIGKILL)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def _loky_workers() -> list[int]:
    from joblib.externals.loky import reusable_executor

    executor: Any = reusable_executor._executor
    return list(executor._processes) if executor is not None and executor._processes else []


def test_a_worker_is_killed(tmp_path: Path) -> None:
    options = {"epochs": 100, "seeds": 4, "activations": "relu"}
    thread = kill_a_worker_soon()
    with pytest.raises(SparsactError, match=r"was killed.*fewer jobs=.*resume= continues"):
        compare(tmp_path / "run", **options, jobs=2)
    thread.join()
    again = compare(tmp_path / "run", **options, resume=True)
    assert again.complete
    compare(tmp_path / "whole", **options)
    assert records(tmp_path / "run") == records(tmp_path / "whole")


def test_ctrl_c_stops_all_processes(tmp_path: Path, digits: list[str]) -> None:
    command = [*COMMAND, *FLAGS, "--jobs", "2", "--out", "run"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for(tmp_path / "run", 1, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output, errors = process.communicate(timeout=300)
    if process.returncode == 0:
        assert records(tmp_path / "run") == digits  # all was done before
        return
    assert process.returncode == 130
    assert b"finish with  sparsact compare --resume run --jobs 2" in output
    assert b"Traceback" not in errors
    assert b"Warning" not in errors
    assert set(records(tmp_path / "run")) < set(digits)
    assert _execute(CompareConfig(resume=str(tmp_path / "run"))).complete
    assert records(tmp_path / "run") == digits


def test_workers_take_over_the_settings_of_torch() -> None:
    before = TorchState.now(1)
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("high")
    changed = TorchState.now(1)
    before.set()
    try:
        assert TorchState.now(1) == before != changed
        assert _in_worker(changed, 3, torch.get_default_dtype) == (3, torch.float64)
        assert TorchState.now(1) == changed
    finally:
        before.set()
    assert TorchState.now(10**6).threads == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "dask", "jobs": 1}, "backend=dask needs jobs= of 2 or more"),
        ({"backend": "spark", "jobs": 2}, "spark"),
        ({"jobs": 0}, "jobs= must be at least 1"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan(CompareConfig(**options))


@pytest.mark.parametrize(("backend", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_extra_is_named(
    backend: Any, module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'sparsact\[{backend}\]'"):
        compare(tmp_path / "run", jobs=2, backend=backend)
    assert not (tmp_path / "run").exists()


needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="needs sparsact[dask]"
)
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs sparsact[ray]"
)


@needs_dask
@pytest.mark.filterwarnings("default")
def test_a_cluster_of_dask(tmp_path: Path, one_process: list[str]) -> None:
    import distributed

    with (
        distributed.LocalCluster(  # threads, which must not share a random generator
            n_workers=2, threads_per_worker=2, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        compare(tmp_path / "run", jobs=2, backend="dask")
    assert records(tmp_path / "run") == one_process


@needs_dask
@pytest.mark.filterwarnings("default")
def test_a_worker_of_dask_is_killed(tmp_path: Path, one_process: list[str]) -> None:
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        kill = _once(lambda: os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL))
        compare(tmp_path / "run", jobs=2, backend="dask", progress=kill)
    assert records(tmp_path / "run") == one_process


def _once(action: Callable[[], object]) -> Callable[[int, int, str], None]:
    """A progress that acts at the first training that ends."""
    done: list[object] = []

    def progress(_: int, total: int, label: str) -> None:
        if total > 1 and not done:
            done.append(action())

    return progress


@needs_ray
@pytest.mark.filterwarnings("default")
def test_a_cluster_of_ray(tmp_path: Path, one_process: list[str]) -> None:
    compare(tmp_path / "run", jobs=2, backend="ray")
    assert records(tmp_path / "run") == one_process
