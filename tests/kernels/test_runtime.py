"""What every compiled kernel promises of threads, forks, caches and a machine without Numba."""

import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from sparsact.kernels import backends, gather_linear
from sparsact.kernels._cpu import runtime
from sparsact.kernels._examples import EXAMPLES

X, WEIGHT_T = torch.linspace(-1, 3, 3 * 200).view(3, 200), torch.ones(200, 400)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def sums(offset=0.0):
    """Both operations; the same number for the same offset."""
    x = X + offset
    compressed = torch.ops.sparsact.threshold_compress(x, torch.full((200,), 0.5))[0]
    return float(gather_linear(x, WEIGHT_T, 0.5).double().sum()), float(compressed.double().sum())


def wanted(offset=0.0):
    kept = torch.where((X + offset).abs() > 0.5, X + offset, 0).double().sum()
    return pytest.approx(float(400 * kept), rel=1e-5), pytest.approx(float(kept), rel=1e-5)


def python(code, **environment):
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.split("\n")[:-1]


@pytest.mark.usefixtures("two_threads")
def test_several_python_threads_at_once():
    offsets = [0.01 * step for step in range(200)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(sums, offsets))
    for pair, offset in zip(found, offsets, strict=True):
        assert pair == wanted(offset)


def send_sums(connection):
    connection.send((sums(), runtime.threads(100)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("two_threads")
def test_after_fork():
    assert sums() == wanted()  # OpenMP is in use before the fork
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=send_sums, args=(sender,))
    child.start()
    assert receiver.poll(60), "the child hangs"
    found, threads = receiver.recv()
    child.join()
    assert found == wanted()
    assert threads == 1
    assert sums() == wanted()  # and the parent goes on


class Sums(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor(sums(0.1 * index)[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("two_threads")
def test_in_the_workers_of_a_loader():
    assert sums() == wanted()
    loader = DataLoader(Sums(), num_workers=2, multiprocessing_context="fork", timeout=60)
    for index, (found,) in enumerate(loader):
        assert float(found) == wanted(0.1 * index)[0]


def test_as_many_threads_as_torch_has(monkeypatch):
    asked = []
    monkeypatch.setattr(numba, "set_num_threads", asked.append)
    monkeypatch.setattr(runtime, "_told", threading.local())
    monkeypatch.setattr(runtime, "_threads_at_most", 8)
    before = torch.get_num_threads()
    try:
        for count in (3, 1, 2, 2):
            torch.set_num_threads(count)
            runtime.run(lambda *_: None, lambda *_: None, 100)
        torch.set_num_threads(4)
        runtime.run(lambda *_: None, lambda *_: None, 3)
    finally:
        torch.set_num_threads(before)
    # one thread needs no driver, three rows no fourth thread; what Numba knows it is not told
    assert asked == [3, 2, 3]


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one core")
@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_other_threading_layers_from_several_threads(layer):
    code = (
        "import torch; torch.set_num_threads(2)\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from sparsact.kernels import gather_linear\n"
        "import numba\n"
        "x, weight_t = torch.ones(64, 3, 200), torch.ones(200, 400)\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    found = list(pool.map(lambda row: gather_linear(row, weight_t, 0.5).sum(), x))\n"
        "print(numba.threading_layer(), {float(value) for value in found})\n"
    )
    assert python(code, NUMBA_THREADING_LAYER=layer) == [f"{layer} {{240000.0}}"]


def test_without_numba_the_reference_runs():
    code = (
        "import sys, importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'numba' else find(name)\n"
        "sys.modules['numba'] = None\n"
        "import torch\n"
        "from sparsact.kernels import backends, gather_linear\n"
        "print(set(backends().values()))\n"
        "print(float(gather_linear(torch.ones(3, 200), torch.ones(200, 400), 0.5).sum()))\n"
    )
    assert python(code) == ["{'reference'}", "240000.0"]


def test_with_numba_that_is_broken_nothing_falls_back():
    code = (
        "import sys; sys.modules['llvmlite'] = None\n"
        "import torch; from sparsact.kernels import gather_linear\n"
        "try: gather_linear(torch.ones(2), torch.ones(2, 2), 0.5)\n"
        "except ImportError: print('raised')\n"
    )
    assert python(code) == ["raised"]


def test_a_second_process_compiles_nothing(tmp_path):
    code = (
        "import torch; torch.set_num_threads(2)\n"
        "from sparsact.kernels import __main__ as warm\n"
        "next(warm.EXAMPLES['gather_linear'](torch.float32))()\n"
        "print(warm.compiled() > 0)\n"
    )
    assert python(code, NUMBA_CACHE_DIR=str(tmp_path)) == ["True"]
    kept = sorted(file.name for file in tmp_path.rglob("*.nb*"))
    assert python(code, NUMBA_CACHE_DIR=str(tmp_path)) == ["False"]
    assert kept
    assert kept == sorted(file.name for file in tmp_path.rglob("*.nb*"))


def test_the_command_tells_what_is_live():
    lines = python("import sparsact.kernels.__main__ as warm; warm.main()")
    for name in EXAMPLES:
        assert any(line.startswith(name) and "numba (float32" in line for line in lines)
    assert any(line.startswith("threading layer: ") for line in lines)
    assert any(line.startswith("threads: ") for line in lines)
    (place,) = [line for line in lines if line.startswith("compiled code: ")]
    assert Path(place.partition(": ")[2]).is_dir()


def test_every_operation_is_warmed():
    assert set(EXAMPLES) == set(backends())
