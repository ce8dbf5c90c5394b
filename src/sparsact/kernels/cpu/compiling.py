"""How the kernels in this folder are compiled, and how long compiled code on disk stays valid.

Numba's own cache notices a change in the file of the compiled function only. The kernels here call
functions from other files of the folder, which are compiled into them. Their cache is therefore
valid for one state of all files in the folder: any change recompiles, and a new installation of
the same files does not. The cache is in the folder's ``__pycache__`` or, if that cannot be written,
in the user's cache directory. The variable NUMBA_CACHE_DIR selects another directory.
"""

import hashlib
import os
from collections.abc import Callable
from importlib import resources
from typing import Any

import numba
import numpy as np
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.dispatcher import Dispatcher

if "NUMBA_THREADING_LAYER" not in os.environ and "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
    # torch's OpenMP workers spin after a parallel region, and other pools wait for the core
    _config: Any = numba.config
    _config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

Array = np.ndarray[Any, Any]


def _digest_of_sources() -> str:
    """A digest of the names and contents of all Python files in this folder."""
    digest = hashlib.sha256()
    files = resources.files("sparsact.kernels.cpu").iterdir()
    for file in sorted(files, key=lambda file: file.name):
        if file.name.endswith(".py"):
            digest.update(f"{file.name}\n".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


_SOURCES = _digest_of_sources()


class _KernelCache(FunctionCache):
    """Numba's disk cache of one function, valid for one state of all files in this folder."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._cache_file = IndexDataCacheFile(
            cache_path=self.cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=_SOURCES,
        )


def _compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator that compiles a function at its first call and keeps the result on disk."""

    def decorate(function: Callable[..., Any]) -> Any:
        compiled: Any = numba.njit(nogil=True, error_model="numpy", **options)(function)
        if isinstance(compiled, Dispatcher):  # a plain function where NUMBA_DISABLE_JIT is set
            compiled._cache = _KernelCache(function)  # type: ignore[attr-defined]
        return compiled

    return decorate


part = _compiled()
summing_part = _compiled(fastmath={"reassoc", "contract"})
driver = _compiled(parallel=True)
