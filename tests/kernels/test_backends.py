"""Which version of an operation runs, with and without Numba."""

from sparsact.kernels import backends
from sparsact.kernels.warm_up_calls import WARM_UP_CALLS
from subprocess_python import python


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


def test_every_operation_is_warmed_up():
    assert set(WARM_UP_CALLS) == set(backends())
