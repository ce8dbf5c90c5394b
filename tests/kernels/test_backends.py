"""Which version of an operation runs, on which instruction set, and without a compiled library."""

import os
import shutil
from pathlib import Path

import pytest

import sparsact
from sparsact.kernels import backends
from sparsact.kernels.cpu import library
from subprocess_python import python

PACKAGE = Path(sparsact.__file__).parent
SUM = """
import warnings
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as caught:
    import torch
    from sparsact.kernels import backends, gather_linear
    sums = [float(gather_linear(torch.ones(3, 200), torch.ones(200, 400), 0.5).sum()) for _ in "ab"]
print({name.split()[0] for name in backends().values()}, sums)
print([warning.category.__name__ for warning in caught if "sparsact" in str(warning.message)])
"""


def test_kernels_are_compiled_here():
    assert library.PATH is not None
    assert library.PATH.is_file()
    assert "reference" not in backends().values()


def test_torch_says_which_instructions_are_used():
    assert python(SUM, ATEN_CPU_CAPABILITY="default") == ["{'default'} [240000.0, 240000.0]", "[]"]


@pytest.fixture
def without_library(tmp_path):
    """The directory of a copy of the package that has no compiled library."""
    shutil.copytree(PACKAGE, tmp_path / "sparsact", ignore=shutil.ignore_patterns("*.so"))
    return tmp_path


def test_without_a_library_the_reference_runs_and_says_so_once(without_library):
    expected = ["{'reference'} [240000.0, 240000.0]", "['MissingKernelsWarning']"]
    assert python(SUM, PYTHONPATH=str(without_library)) == expected


def test_a_broken_library_is_an_error(without_library):
    file = without_library / "sparsact" / "kernels" / "cpu" / "kernels_default.so"
    file.write_bytes(b"not a library")
    code = (
        "import torch; from sparsact.kernels import gather_linear\n"
        "try: gather_linear(torch.ones(2), torch.ones(2, 2), 0.5)\n"
        "except OSError: print('raised')\n"
    )
    assert python(code, PYTHONPATH=str(without_library)) == ["raised"]


def test_the_command_names_operations_threads_and_the_file():
    lines = python("import runpy; runpy.run_module('sparsact.kernels', run_name='__main__')")
    assert {line.split()[0] for line in lines[1 : 1 + len(backends())]} == set(backends())
    assert lines[-2].endswith(f"{os.cpu_count()} cores)")
    assert lines[-1] == f"compiled kernels: {library.PATH}"
