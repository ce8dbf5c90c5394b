"""The disk cache of compiled kernels, and the command that fills it."""

import os
import shutil
from pathlib import Path

import pytest

import sparsact
from sparsact.kernels.warm_up_calls import WARM_UP_CALLS
from subprocess_python import python

COUNT_LARGE = """
import torch
torch.set_num_threads(1)
from sparsact.kernels import __main__ as warm_up, threshold_compress
count = len(threshold_compress(torch.tensor([[0.4, 0.6, 3.0]]), 1.0).values())
print(count, warm_up.compiled() > 0, *warm_up.cache_directories())
"""


@pytest.fixture
def package(tmp_path):
    """A copy of the package, without any cache."""
    source, copy = Path(sparsact.__file__).parent, tmp_path / "first" / "sparsact"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def count_large(package, **environment):
    """The number of entries above 1 of (0.4, 0.6, 3), whether this compiled, and the caches."""
    (line,) = python(COUNT_LARGE, PYTHONPATH=str(package.parent), **environment)
    count, has_compiled, *directories = line.split(" ")
    return int(count), has_compiled == "True", directories


def double_what_kernels_read(package):
    """Change a helper that is compiled into the kernels of other files."""
    file = package / "kernels" / "cpu" / "kernel_dtypes.py"
    text = file.read_text(encoding="utf-8")
    changed = text.replace(
        "        return value\n\n    return {", "        return 2 * value\n\n    return {"
    )
    assert changed != text
    file.write_text(changed, encoding="utf-8")


def test_a_change_in_a_helper_file_recompiles_the_kernels(package):
    assert count_large(package)[:2] == (1, True)
    assert count_large(package)[:2] == (1, False)
    double_what_kernels_read(package)
    assert count_large(package)[:2] == (2, True)
    assert count_large(package)[:2] == (2, False)


def test_an_installation_of_the_same_files_uses_the_cache(package, tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert count_large(package, **cache)[:2] == (1, True)
    for file in package.rglob("*.py"):
        os.utime(file, (1, 1))
    assert count_large(package, **cache)[:2] == (1, False)


def test_a_package_that_cannot_be_written_uses_the_users_cache(package, tmp_path):
    # a file in the place of the directory also stops a user who may write everywhere
    (package / "kernels" / "cpu" / "__pycache__").touch()
    users_cache = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    count, has_compiled, directories = count_large(package, **users_cache)
    assert (count, has_compiled) == (1, True)
    assert all(Path(directory).is_relative_to(tmp_path / "cache") for directory in directories)
    assert list(Path(directories[0]).glob("threshold_compress_numba.*.nbc"))
    assert count_large(package, **users_cache)[:2] == (1, False)


@pytest.mark.versions
def test_a_second_process_compiles_nothing(tmp_path):
    code = (
        "import torch; torch.set_num_threads(2)\n"
        "from sparsact.kernels import __main__ as warm_up\n"
        "next(warm_up.WARM_UP_CALLS['gather_linear'](torch.float32))()\n"
        "print(warm_up.compiled() > 0)\n"
    )
    assert python(code, NUMBA_CACHE_DIR=str(tmp_path)) == ["True"]
    kept = sorted(file.name for file in tmp_path.rglob("*.nb*"))
    assert python(code, NUMBA_CACHE_DIR=str(tmp_path)) == ["False"]
    assert kept
    assert kept == sorted(file.name for file in tmp_path.rglob("*.nb*"))


def test_the_command_shows_what_runs():
    lines = python("import sparsact.kernels.__main__ as warm_up; warm_up.main()")
    for name in WARM_UP_CALLS:
        assert any(line.startswith(name) and "numba (float32" in line for line in lines)
    assert any(line.startswith("threading layer: ") for line in lines)
    assert any(line.startswith("threads: ") for line in lines)
    (place,) = [line for line in lines if line.startswith("compiled code: ")]
    assert Path(place.partition(": ")[2]).is_dir()
