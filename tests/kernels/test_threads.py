"""Compiled kernels on several threads and in forked processes."""

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from sparsact.kernels import gather_linear
from sparsact.kernels.cpu.threads import threads
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
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert [threads(work) for work in (0, 1, 2, 100)] == [1, 1, 2, 3]
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux only")
def test_one_openmp_library_serves_torch_and_the_kernels():
    """A second one would have threads of its own, which wait for torch's."""
    code = (
        "import torch; from sparsact.kernels import gather_linear\n"
        "gather_linear(torch.ones(3, 200), torch.ones(200, 400), 0.5)\n"
        "lines = open('/proc/self/maps').read().splitlines()\n"
        "print(len({line.split()[-1] for line in lines if 'libgomp' in line}))\n"
    )
    assert python(code) == ["1"]
