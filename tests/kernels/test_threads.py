"""Compiled kernels on several threads, in forked processes and with other threading layers."""

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor

import numba
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from sparsact.kernels import gather_linear
from sparsact.kernels.cpu.threads import Threads, threads
from subprocess_python import python

X, WEIGHT_T = torch.linspace(-1, 3, 3 * 200).view(3, 200), torch.ones(200, 400)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def sums(offset=0.0):
    """The sums of the results of two operations."""
    x = X + offset
    compressed = torch.ops.sparsact.threshold_compress(x, torch.full((200,), 0.5))[0]
    return float(gather_linear(x, WEIGHT_T, 0.5).double().sum()), float(compressed.double().sum())


def expected_sums(offset=0.0):
    kept = torch.where((X + offset).abs() > 0.5, X + offset, 0).double().sum()
    return pytest.approx(float(400 * kept), rel=1e-5), pytest.approx(float(kept), rel=1e-5)


@pytest.mark.usefixtures("two_threads")
def test_several_python_threads_at_once():
    offsets = [0.01 * step for step in range(200)]
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(sums, offsets))
    for pair, offset in zip(actual, offsets, strict=True):
        assert pair == expected_sums(offset)


def send_sums(connection):
    connection.send((sums(), threads(100)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("two_threads")
def test_after_fork():
    assert sums() == expected_sums()  # OpenMP is in use before the fork
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=send_sums, args=(sender,))
    child.start()
    assert receiver.poll(60), "the child hangs"
    actual, child_threads = receiver.recv()
    child.join()
    assert actual == expected_sums()
    assert child_threads == 1
    assert sums() == expected_sums()  # and the parent continues


class Sums(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor(sums(0.1 * index)[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("two_threads")
def test_in_the_workers_of_a_loader():
    assert sums() == expected_sums()
    loader = DataLoader(Sums(), num_workers=2, multiprocessing_context="fork", timeout=60)
    for index, (actual,) in enumerate(loader):
        assert float(actual) == expected_sums(0.1 * index)[0]


def test_as_many_threads_as_torch_has():
    numbers_set = []
    kernel_threads = Threads(at_most=8, set_number=numbers_set.append)
    before = torch.get_num_threads()
    try:
        for count in (3, 1, 2, 2):
            torch.set_num_threads(count)
            kernel_threads.run(lambda *_: None, lambda *_: None, 100)
        torch.set_num_threads(4)
        kernel_threads.run(lambda *_: None, lambda *_: None, 3)
    finally:
        torch.set_num_threads(before)
    # one thread needs no driver, three rows need no fourth thread, and a number is not set twice
    assert numbers_set == [3, 2, 3]


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
        "    actual = list(pool.map(lambda row: gather_linear(row, weight_t, 0.5).sum(), x))\n"
        "print(numba.threading_layer(), {float(value) for value in actual})\n"
    )
    assert python(code, NUMBA_THREADING_LAYER=layer) == [f"{layer} {{240000.0}}"]
